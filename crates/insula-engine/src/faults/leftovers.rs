//! What an operation leaves that did not come to its end, and what the next one and the next agent make of it.

use insula_storage::Volume;
use insula_types::{OperationState, Reason};

use super::host::{Host, asked, done, prepare, root_of};
use crate::jobs::Job;
use crate::journal::faults::Fault;
use crate::model::step::Step;

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
