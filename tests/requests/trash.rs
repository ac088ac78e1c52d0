//! Names of VPSes, and the trash.

use insula_api::{Reason, v1};
use insula_testkit::{Image, ScratchHost, call, done, eventually, reason};
use rusqlite::Connection;
use serde_json::{Value, json};
use v1::VpsState;

use super::{make, names};

const DAY_S: i64 = 86_400;

fn delete(vps: &str) -> v1::DeleteVpsRequest {
    v1::DeleteVpsRequest { vps: vps.into(), ..Default::default() }
}

fn undelete(vps: &str, new_name: &str) -> v1::UndeleteVpsRequest {
    v1::UndeleteVpsRequest { vps: vps.into(), new_name: new_name.into(), ..Default::default() }
}

fn rename(vps: &str, new_name: &str) -> v1::RenameVpsRequest {
    v1::RenameVpsRequest { vps: vps.into(), new_name: new_name.into(), ..Default::default() }
}

#[test]
fn a_name_changes_and_nothing_else() {
    let host = ScratchHost::with(Image::Debian12);
    make(&host, &["web1", "web2"]);
    let before = host.vps("web1");
    done!(host, vps.rename_vps(rename("web1", "shop")));
    let after = host.vps("shop");
    assert_eq!((&after.id, &after.hostname), (&before.id, &before.hostname));
    assert_eq!(names(&host, ""), ["shop", "web2"]);
    assert_eq!(reason(call!(host, vps.rename_vps(rename("web2", "shop")))), Reason::VpsExists);
    done!(host, vps.rename_vps(rename("shop", "shop")));
    make(&host, &["web1"]);
    assert_eq!(reason(call!(host, vps.rename_vps(rename("shop", "web1")))), Reason::VpsExists);
}

#[test]
fn what_is_in_the_trash_can_be_taken_out() {
    let host = ScratchHost::builder().image(Image::Debian12).setting("keep_deleted_days", json!(2)).start();
    make(&host, &["web1"]);
    let before = host.vps("web1");
    let snapshot =
        v1::CreateSnapshotRequest { vps: "web1".into(), snapshot: "one".into(), ..Default::default() };
    done!(host, snapshots.create_snapshot(snapshot));
    done!(host, vps.delete_vps(delete("web1")));
    assert_eq!(names(&host, ""), [""; 0]);
    assert_eq!(reason_of_get(&host, "web1"), Some(Reason::VpsNotFound), "its name is free");
    let trashed = host.vps(&before.id);
    assert_eq!((&trashed.id, trashed.state()), (&before.id, VpsState::Deleted));
    let seconds = trashed.expire_time.unwrap().seconds - trashed.delete_time.unwrap().seconds;
    assert_eq!(seconds, 2 * DAY_S);
    let start = v1::StartVpsRequest { vps: before.id.clone(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.start_vps(start))), Reason::VpsDeleted);

    make(&host, &["web1"]); // the name is free, the address is not
    let second = host.vps("web1");
    assert_ne!(second.interfaces[0].ip_addresses, before.interfaces[0].ip_addresses);
    assert_eq!(reason(call!(host, vps.undelete_vps(undelete("web1", "")))), Reason::VpsExists);
    done!(host, vps.undelete_vps(undelete("web1", "old")));
    let back = host.vps("old");
    assert_eq!((&back.id, back.state(), back.delete_time), (&before.id, VpsState::Stopped, None));
    assert_eq!(back.interfaces[0].ip_addresses, before.interfaces[0].ip_addresses);
    let list = v1::ListSnapshotsRequest { vps: "old".into() };
    assert_eq!(call!(host, snapshots.list_snapshots(list)).unwrap().snapshots.len(), 1);

    // If two VPSes had the name, the one deleted last is meant.
    for vps in ["old", "web1"] {
        done!(host, vps.delete_vps(delete(vps)));
    }
    done!(host, vps.undelete_vps(undelete(&second.id, "")));
    assert_eq!(host.vps("web1").id, second.id);
    done!(host, vps.delete_vps(v1::DeleteVpsRequest { now: true, ..delete("old") }));
    assert_eq!(reason(call!(host, vps.undelete_vps(undelete("old", "")))), Reason::VpsNotFound);
    assert_eq!(host.insula_json(&["network", "show", "default"])["assignedAddresses"], 1);
}

#[test]
fn what_is_long_enough_in_the_trash_is_gone() {
    let mut host = ScratchHost::with(Image::Debian12);
    make(&host, &["old", "new"]);
    let (id, new) = (host.vps("old").id, host.vps("new").id);
    for vps in ["old", "new"] {
        done!(host, vps.delete_vps(delete(vps)));
    }
    host.agent_stop();
    let database = Connection::open(host.state_dir().join("insula.db")).unwrap();
    // A test can't wait for days, so the time of the deletion is set back.
    let spec: String =
        database.query_one("SELECT spec FROM vps WHERE id = ?", [&id], |row| row.get(0)).unwrap();
    let mut spec: Value = serde_json::from_str(&spec).unwrap();
    let time = spec["trash"]["expires_at_ms"].as_i64().unwrap();
    spec["trash"]["expires_at_ms"] = json!(time - 8 * DAY_S * 1000);
    database.execute("UPDATE vps SET spec = ? WHERE id = ?", (spec.to_string(), &id)).unwrap();
    drop(database);
    host.agent_start();
    eventually("the old one is gone", || {
        reason_of_get(&host, &id).filter(|reason| *reason == Reason::VpsNotFound)
    });
    assert!(!host.pool().join("vps").join(&id).join("root").exists(), "its root is left");
    assert_eq!(host.vps(&new).state(), VpsState::Deleted);
    assert_eq!(host.insula_json(&["network", "show", "default"])["assignedAddresses"], 1);
}

fn reason_of_get(host: &ScratchHost, vps: &str) -> Option<Reason> {
    let answer = call!(host, vps.get_vps(v1::GetVpsRequest { vps: vps.into() }));
    answer.is_err().then(|| reason(answer))
}

#[test]
fn without_a_trash_deleted_is_gone() {
    let host = ScratchHost::builder().image(Image::Debian12).setting("keep_deleted_days", json!(0)).start();
    make(&host, &["web1"]);
    done!(host, vps.delete_vps(delete("web1")));
    assert_eq!(reason_of_get(&host, "web1"), Some(Reason::VpsNotFound));
}

#[test]
fn what_is_protected_is_not_deleted() {
    let host = ScratchHost::with(Image::Debian12);
    done!(host, vps.create_vps(v1::CreateVpsRequest { delete_protection: true, ..super::create("web1") }));
    for now in [false, true] {
        let request = v1::DeleteVpsRequest { now, force: true, ..delete("web1") };
        assert_eq!(reason(call!(host, vps.delete_vps(request))), Reason::DeleteProtected);
    }
    let unprotect = v1::UpdateVpsRequest {
        vps: "web1".into(),
        changes: Some(v1::VpsChanges::default()),
        update_mask: Some(prost_types::FieldMask { paths: vec!["delete_protection".into()] }),
        ..Default::default()
    };
    done!(host, vps.update_vps(unprotect));
    done!(host, vps.delete_vps(delete("web1")));
}
