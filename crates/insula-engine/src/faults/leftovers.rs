//! What an operation leaves that did not come to its end, and what the next one and the next agent make of it.

use insula_storage::Volume;
use insula_types::{OperationId, OperationKind, OperationState, Reason};

use super::host::{Host, asked, done, prepare, root_of};
use crate::jobs::Job;
use crate::journal::faults::Fault;
use crate::model::step::Step;
use crate::steps::execution::new_record;
use crate::vps::handle::Work;

#[test]
fn what_was_written_since_a_replacement_that_left_the_old_root_is_not_taken_back() {
    let host = Host::new();
    host.with_engine(async |engine| {
        prepare(&engine).await;
        let vps = engine.vps("old").unwrap();
        let restore = async |name: &str| engine.restore_snapshot(&asked(), &vps, name.parse().unwrap()).await;
        done(&engine, engine.create_snapshot(&asked(), &vps, Some("two".parse().unwrap())).await).await;
        engine.faults.arm(3, Fault::FailBefore);
        let record = restore("one").await.unwrap();
        let job: Job = serde_json::from_str(&record.request).unwrap();
        assert_eq!(job.plan().steps[3], Step::RemoveOutgoing);
        let record = engine.wait_operation(record.id, None).await.unwrap();
        assert_eq!(record.state, OperationState::Failed);
        std::fs::write(root_of(&engine, "old").join("since"), "").unwrap();
        for name in ["one", "two"] {
            assert_eq!(restore(name).await.unwrap_err().reason(), Reason::Internal, "{name}");
            assert!(root_of(&engine, "old").join("since").exists(), "{name}");
        }
    });
    host.with_engine(async |engine| {
        assert!(root_of(&engine, "old").join("since").exists());
        let (vps, two) = (engine.vps("old").unwrap(), "two".parse().unwrap());
        done(&engine, engine.restore_snapshot(&asked(), &vps, two).await).await;
        assert!(root_of(&engine, "old").join("later").exists());
    });
}

#[test]
fn a_root_that_was_retired_and_not_replaced_is_put_back() {
    let host = Host::new();
    host.with_engine(async |engine| {
        prepare(&engine).await;
        let vps = engine.vps("old").unwrap();
        let outgoing = engine.pools.default().driver().lasting_path(&Volume::Outgoing(vps.id));
        std::fs::rename(root_of(&engine, "old"), outgoing).unwrap();
    });
    host.with_engine(async |engine| {
        assert!(root_of(&engine, "old").join("later").exists());
        super::assert_whole(&engine, "put back").await;
    });
}

#[test]
fn all_that_waited_go_on_however_many_and_after_the_one_that_worked() {
    let host = Host::new();
    let ids = host.with_engine(async |engine| {
        prepare(&engine).await;
        let vps = engine.vps("old").unwrap();
        let mut ids = vec![];
        for number in 0..10 {
            let name = format!("old-{number}");
            let job =
                serde_json::json!({"job": "rename-vps", "vps": vps.id, "name": {"from": "old", "to": name}});
            let job: Job = serde_json::from_value(job).unwrap();
            let mut record = new_record(&asked(), String::new(), &job, "old", None);
            record.state = if number < 9 { OperationState::Queued } else { OperationState::Running };
            ids.push(record.id);
            engine.store(move |store| store.insert_operation(&record)).await.unwrap();
        }
        ids
    });
    host.with_engine(async |engine| {
        engine.operations.idle().await;
        for id in ids {
            assert_eq!(engine.operation(id).await.unwrap().state, OperationState::Succeeded);
        }
        assert_eq!(engine.vps("old-8").unwrap().name().as_str(), "old-8");
    });
}

#[test]
fn what_is_just_taken_out_of_the_trash_is_not_removed_since_its_time_is_over() {
    Host::new().with_engine(async |engine| {
        prepare(&engine).await;
        let vps = engine.deleted_vps("gone").unwrap();
        let expire = |spec: &mut insula_types::VpsSpec| {
            spec.trash.as_mut().unwrap().expires_at_ms = 1;
        };
        engine.change_spec(&vps.id, expire).await.unwrap();
        let work = Work::new(OperationId::new(), OperationKind::UndeleteVps, Some(vps.id));
        let others = vps.claim(work).unwrap();
        assert_eq!(engine.empty_trash().await, None);
        assert_eq!(engine.store(|store| store.unfinished_operations()).await.unwrap(), []);
        drop(others);
        engine.empty_trash().await;
        engine.operations.idle().await;
        assert!(engine.deleted_vps("gone").is_err());
    });
}
