//! VPSes of another host: an agent leaves them alone with all that they have, says so, and goes on when they are its own.

use std::collections::BTreeSet;

use insula_storage::Volume;
use insula_types::{HostId, OperationRecord, OperationState, Reason, VpsId, VpsState};

use super::assert_whole;
use super::host::{Host, asked, create_request, done, prepare, root_of};
use crate::journal::faults::Fault;
use crate::{CloneVps, Engine, EngineError, UpdateVps};

/// What VPSes have on the host: volumes and groups.
async fn belongings(engine: &Engine) -> (BTreeSet<Volume>, BTreeSet<VpsId>) {
    let found = engine.pools.default().work(|pool| pool.observe()).await.unwrap();
    (found.volumes.into_iter().collect(), engine.layout.observe_groups().unwrap().into_iter().collect())
}

fn assert_refused(asked_for: &str, result: Result<OperationRecord, EngineError>) {
    let error = result.expect_err(asked_for);
    assert_eq!(error.reason(), Reason::VpsElsewhere, "{asked_for}: {}", error.chain());
    assert!(error.chain().contains("lives on another host"), "{}", error.chain());
    assert!(error.hint_text().is_some_and(|hint| hint.contains("insula show")), "{asked_for}");
}

async fn assert_all_refused(engine: &Engine) {
    let asked = asked();
    let [old, live, held] = ["old", "live", "held"].map(|name| engine.vps(name).unwrap());
    let gone = engine.deleted_vps("gone").unwrap();
    assert_refused("start", engine.start_vps(&asked, &old, true, false).await);
    assert_refused("stop", engine.stop_vps(&asked, &live, true, None).await);
    assert_refused("change", engine.update_vps(&asked, &old, UpdateVps::default()).await);
    assert_refused("unsuspend", engine.unsuspend_vps(&asked, &held).await);
    assert_refused("snapshot", engine.create_snapshot(&asked, &old, Some("two".parse().unwrap())).await);
    assert_refused("delete", engine.delete_vps(&asked, &old, true, true).await);
    assert_refused("remove for good", engine.delete_vps(&asked, &gone, true, true).await);
    let copy = CloneVps {
        name: "copy".parse().unwrap(),
        snapshot: Some("one".parse().unwrap()),
        hostname: None,
        addresses: vec![],
        boot: None,
    };
    assert_refused("clone", engine.clone_vps(&asked, &old, copy).await);
    assert_eq!(engine.console_log(&live).await.unwrap_err().reason(), Reason::VpsElsewhere);
}

/// The time of one in the trash is over, and it stays.
async fn assert_trash_is_kept(engine: &Engine) {
    let gone = engine.deleted_vps("gone").unwrap();
    let kept = gone.spec().trash;
    engine
        .change_spec(&gone.id, |spec| spec.trash.iter_mut().for_each(|trash| trash.expires_at_ms = 0))
        .await
        .unwrap();
    assert_eq!(engine.empty_trash().await, None);
    engine.change_spec(&gone.id, |spec| spec.trash = kept).await.unwrap();
}

#[test]
fn what_lives_on_another_host_is_left_alone_until_it_lives_here() {
    let host = Host::new();
    let (restore, own, booted, before) = host.with_engine(async |engine| {
        prepare(&engine).await;
        engine.faults.arm(0, Fault::CrashBefore);
        let old = engine.vps("old").unwrap();
        let restore = engine.restore_snapshot(&asked(), &old, "one".parse().unwrap()).await.unwrap();
        engine.faults.crashed.notified().await;
        let live = engine.vps("live").unwrap().observed.borrow().clone();
        (restore.id, engine.host_id(), live, belongings(&engine).await)
    });

    std::fs::write(host.id_file(), HostId::new().to_string()).unwrap();
    host.with_engine(async |engine| {
        assert_ne!(engine.host_id(), own);
        for view in engine.vpses().into_iter().chain(engine.deleted_vpses()) {
            assert_eq!((view.state, view.spec.placement.host_id), (VpsState::Elsewhere, own));
            assert!(!view.awaits_autostart, "{}", view.spec.name);
        }
        assert_all_refused(&engine).await;
        assert_trash_is_kept(&engine).await;
        engine.operations.idle().await;
        assert_eq!(belongings(&engine).await, before);
        assert_eq!(engine.operation(restore).await.unwrap().state, OperationState::Running);
        assert!(root_of(&engine, "old").join("later").exists(), "nobody goes on with it");

        done(&engine, engine.create_vps(&asked(), create_request("new")).await).await;
        let new = engine.vps("new").unwrap();
        assert_eq!((new.state(), new.spec().placement.epoch), (VpsState::Stopped, 1));
        done(&engine, engine.delete_vps(&asked(), &new, false, true).await).await;
    });

    std::fs::write(host.id_file(), own.to_string()).unwrap();
    host.with_engine(async |engine| {
        engine.operations.idle().await;
        let record = engine.operation(restore).await.unwrap();
        assert_eq!(record.state, OperationState::Succeeded, "{:?}", record.error);
        assert!(!root_of(&engine, "old").join("later").exists());
        let live = engine.vps("live").unwrap();
        let now = live.observed.borrow().clone();
        assert_eq!((live.state(), now.init_pid, now.boots), (VpsState::Ready, booted.init_pid, 1));
        assert_eq!(engine.vps("old").unwrap().state(), VpsState::Stopped);
        assert_whole(&engine, "at home again").await;
    });
}
