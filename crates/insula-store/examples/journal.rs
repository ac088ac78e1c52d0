//! Measures what the journal costs a create. `journal DIRECTORY COUNT` prints how long it takes to
//! journal an operation of four steps as the engine does, beyond the one write that a create needs
//! anyway: `{"ms": [0.9, …]}`.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use insula_store::Store;
use insula_types::{OperationId, OperationKind, OperationRecord, OperationState, Progress, Requester, VpsId};

/// The number of steps of a create that does not boot.
const STEPS: u32 = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let [directory, count] = [1, 2].map(|index| std::env::args().nth(index).unwrap_or_default());
    let path = Path::new(&directory).join("journal.db");
    let store = Store::open(&path)?;
    let mut ms = vec![];
    for _ in 0..count.parse()? {
        let began = Instant::now();
        store.put_setting("what a create writes", "in any case")?;
        let bare = began.elapsed();
        let began = Instant::now();
        journal(&store)?;
        ms.push((began.elapsed().as_secs_f64() - bare.as_secs_f64()) * 1e3);
    }
    drop(store);
    std::fs::remove_file(path)?;
    println!("{}", serde_json::json!({ "ms": ms }));
    Ok(())
}

fn journal(store: &Store) -> Result<(), Box<dyn Error>> {
    let mut record = OperationRecord {
        id: OperationId::new(),
        kind: OperationKind::CreateVps,
        target: VpsId::new().to_string(),
        target_name: "web1".to_owned(),
        request: "{}".to_owned(),
        state: OperationState::Running,
        step: 0,
        progress: Progress::default(),
        error: None,
        steps: vec!["a step".to_owned(); STEPS as usize],
        step_names: vec![],
        outputs: Default::default(),
        notes: vec![],
        requester: Requester::root(),
        request_id: None,
        digest: String::new(),
        tenant: None,
        created_at_ms: 1,
        updated_at_ms: 1,
    };
    store.insert_operation(&record)?;
    for step in 1..STEPS {
        record.step = step;
        store.update_operation(&record)?;
    }
    record.state = OperationState::Succeeded;
    Ok(store.update_operation(&record)?)
}
