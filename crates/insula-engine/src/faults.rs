//! Every step of every operation fails, crashes, and runs twice; then nothing is half done, and nothing is leaked.
//!
//! A crash is an engine that stops in the middle and is thrown away with its async runtime, as a killed agent is; the
//! next engine opens the same state, and finds guests that run on. The steps are found in the plans, so a new step is
//! covered without a new test; a new operation is asked for by the compiler ([`cases`]). What an agent left that died
//! after a step is read as an agent of the version before would have left it ([`age`]).

mod cases;
mod doubt;
mod elsewhere;
mod host;
mod leftovers;
mod meanwhile;
mod observe;
mod outputs;

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use insula_storage::Volume;
use insula_store::OperationFilter;
use insula_types::{OperationId, OperationRecord, OperationState};

use self::host::{Host, prepare};
use crate::jobs::Job;
use crate::journal::faults::Fault;
use crate::model::plan::Plan;
use crate::model::step::Step;
use crate::{Engine, EngineError, Power};

const FAULTS: [Fault; 5] =
    [Fault::CrashBefore, Fault::CrashAfter, Fault::Twice, Fault::FailBefore, Fault::FailAfter];

/// A request, and whether what it wants is so.
struct Case {
    request: for<'a> fn(&'a Engine) -> BoxFuture<'a, Result<OperationRecord, EngineError>>,
    is_done: fn(&Engine) -> bool,
}

/// Lets every step of the request go wrong in every way: a step that can't be taken back does not fail, for then the VPS
/// is to be asked for the same again.
fn try_all(case: &Case) {
    let mut step = 0;
    let mut plan = Plan { steps: vec![Step::ReserveVps], commit: 0 }; // the first try tells the true one
    while step < plan.steps.len() {
        for fault in FAULTS {
            let fails = matches!(fault, Fault::FailBefore | Fault::FailAfter);
            if !fails || step < plan.commit {
                plan = try_one(case, step, fault);
            }
        }
        step += 1;
    }
}

#[test]
fn what_is_over_is_listed_so_although_watchers_have_not_been_told() {
    Host::new().with_engine(async |engine| {
        prepare(&engine).await;
        let latest = async || {
            let filter = OperationFilter { count: 1, ..OperationFilter::default() };
            engine.operations(filter).await.unwrap().remove(0)
        };
        let record = latest().await;
        assert_eq!(record.state, OperationState::Succeeded);
        engine.operations.tell(OperationRecord { state: OperationState::Running, ..record.clone() });
        assert_eq!(latest().await, record);
    });
}

/// Lets one step go wrong; returns the plan.
fn try_one(case: &Case, step: usize, fault: Fault) -> Plan {
    let host = Host::new();
    let (id, plan) = host.with_engine(async |engine| {
        prepare(&engine).await;
        engine.faults.arm(step, fault);
        let record = (case.request)(&engine).await.map_err(|error| error.chain()).unwrap();
        let job: Job = serde_json::from_str(&record.request).unwrap();
        tokio::select! {
            record = engine.wait_operation(record.id, None) => drop(record.unwrap()),
            () = engine.faults.crashed.notified() => {}
        }
        if fault == Fault::CrashAfter {
            age(&engine, record.id).await;
        }
        (record.id, job.plan())
    });
    host.with_engine(async |engine| {
        engine.operations.idle().await;
        let record = engine.operation(id).await.unwrap();
        let context =
            format!("{} step {step} of {}, {fault:?}: {:?}", record.kind, plan.steps.len(), record.error);
        assert!(record.state.is_final(), "{context}");
        let succeeded = record.state == OperationState::Succeeded;
        assert_eq!((case.is_done)(&engine), succeeded, "done or not done, never half: {context}");
        assert_eq!(succeeded, !matches!(fault, Fault::FailBefore | Fault::FailAfter), "{context}");
        assert!(!record.request.contains("$6$"), "a hash of a password is kept: {context}");
        assert_whole(&engine, &context).await;
    });
    plan
}

/// Makes a record one of an agent before schema version 4, which named no steps and kept no outputs.
async fn age(engine: &Engine, id: OperationId) {
    let mut record = engine.store(move |store| store.operation(&id)).await.unwrap().unwrap();
    record.step_names.clear();
    record.outputs.clear();
    engine.store(move |store| store.update_operation(&record)).await.unwrap();
}

/// What is in the pool is what the database knows, and what the database knows is in the pool.
async fn assert_whole(engine: &Engine, context: &str) {
    let mut expected: BTreeSet<Volume> =
        engine.images().iter().map(|image| Volume::Image(image.fingerprint)).collect();
    for handle in engine.table.all() {
        expected.insert(Volume::Root(handle.id));
        expected.extend(
            handle.snapshots().iter().map(|snapshot| Volume::Snapshot(handle.id, snapshot.name.clone())),
        );
    }
    let found = engine.pools.default().work(|pool| pool.observe()).await.unwrap();
    assert_eq!(found.volumes.into_iter().collect::<BTreeSet<_>>(), expected, "{context}");
    assert_eq!(found.strays, Vec::<std::path::PathBuf>::new(), "{context}");
    let running: BTreeSet<_> = engine
        .table
        .all()
        .iter()
        .filter(|handle| handle.observed.borrow().power != Power::Off)
        .map(|handle| handle.id)
        .collect();
    let groups: BTreeSet<_> = engine.layout.observe_groups().unwrap().into_iter().collect();
    assert_eq!(groups, running, "{context}");
    let known: BTreeSet<_> = engine.table.all().iter().map(|handle| handle.id).collect();
    let addresses = engine.store(|store| store.addresses()).await.unwrap();
    assert!(addresses.iter().all(|address| known.contains(&address.vps)), "{context}");
    assert_eq!(engine.store(|store| store.unfinished_operations()).await.unwrap(), [], "{context}");
    let kept = engine.store(|store| store.vpses()).await.unwrap();
    for spec in &kept {
        assert_eq!(*engine.table.by_id(&spec.id).unwrap().spec(), *spec, "{context}");
    }
    assert_eq!(kept.len(), known.len(), "{context}");
    assert_eq!(engine.verify_audit().await.unwrap().broken_at, None, "{context}");
}
