//! What waits for its VPS is checked again when its turn comes: by then, others may have taken away what it was
//! accepted for.

use std::sync::Arc;

use futures::future::BoxFuture;
use insula_types::{
    Features, OperationId, OperationKind, OperationRecord, OperationState, Reason, Requester, Role,
    SnapshotInfo, Suspension,
};
use serde_json::{Value, json};

use super::host::{Host, asked, create_request, done, prepare};
use crate::jobs::Job;
use crate::journal::operations::Right;
use crate::steps::execution::new_record;
use crate::vps::handle::{Claim, Work};
use crate::{Asked, Engine, UpdateProfile, UpdateVps, VpsHandle};

/// Something else that works on the VPS.
fn claim(handle: &Arc<VpsHandle>) -> Claim {
    let kind = OperationKind::StopVps;
    handle.claim(Work::new(OperationId::new(), kind, Some(handle.id))).unwrap()
}

fn tenant() -> Requester {
    let acme = Some("acme".parse().unwrap());
    Requester { name: "panel".into(), role: Role::Tenant, tenant: acme, peer: String::new() }
}

async fn end_of(engine: &Engine, record: OperationRecord) -> (OperationState, Option<String>) {
    let record = engine.wait_operation(record.id, None).await.unwrap();
    (record.state, record.error.map(|error| error.reason))
}

#[test]
fn a_delete_that_waits_spares_a_vps_that_was_protected_meanwhile() {
    Host::new().with_engine(async |engine| {
        prepare(&engine).await;
        let vps = engine.vps("live").unwrap();
        for now in [true, false] {
            let others = claim(&vps);
            let set = |protection| UpdateVps { delete_protection: Some(protection), ..UpdateVps::default() };
            let protect = engine.update_vps(&asked(), &vps, set(true)).await.unwrap();
            let delete = engine.delete_vps(&asked(), &vps, true, now).await.unwrap();
            assert_eq!([protect.state, delete.state], [OperationState::Queued; 2]);
            drop(others);
            assert_eq!(end_of(&engine, protect).await, (OperationState::Succeeded, None));
            let refused = (OperationState::Failed, Some(Reason::DeleteProtected.to_string()));
            assert_eq!(end_of(&engine, delete).await, refused);
            assert!(engine.vps("live").unwrap().state().is_alive());
            done(&engine, engine.update_vps(&asked(), &vps, set(false)).await).await;
        }
        done(&engine, engine.delete_vps(&asked(), &vps, true, true).await).await;
    });
}

/// What happens while a job waits, and what it is refused with for that.
struct Case {
    job: fn() -> Value,
    requester: fn() -> Requester,
    meanwhile: for<'a> fn(&'a Engine, &'a Arc<VpsHandle>) -> BoxFuture<'a, ()>,
    reason: Reason,
}

/// A case whose `meanwhile` is written as a closure.
macro_rules! case {
    ($reason:ident, $requester:expr, $job:tt, |$engine:ident, $vps:ident| $meanwhile:expr) => {
        Case {
            job: || json!($job),
            requester: $requester,
            meanwhile: |$engine, $vps| {
                Box::pin(async move {
                    let _ = ($engine, $vps); // some need but one of them
                    $meanwhile
                })
            },
            reason: Reason::$reason,
        }
    };
}

fn cases() -> Vec<Case> {
    vec![
        case!(VpsSuspended, Requester::root, {"job": "start-vps", "boot": {"wait_ready": false}, "override_suspension": false},
        |engine, vps| {
            let hold = Suspension { reason: "unpaid".into(), at_ms: 1, was_running: false };
            engine.change_spec(&vps.id, |spec| spec.suspension = Some(hold)).await.unwrap();
        }),
        case!(VpsNotFound, tenant, {"job": "stop-vps", "stop": {"force": true, "timeout_ms": 0}},
        |engine, vps| {
            let sold = Some("another".parse().unwrap());
            engine.change_spec(&vps.id, |spec| spec.tenant = sold).await.unwrap();
        }),
        case!(VpsExists, Requester::root, {"job": "rename-vps", "name": {"from": "old", "to": "wanted"}}, |engine, vps| {
            done(engine, engine.create_vps(&asked(), create_request("wanted")).await).await;
        }),
        case!(SnapshotNotFound, Requester::root, {"job": "restore-snapshot", "snapshot": "one"}, |engine, vps| {
            vps.snapshots().clear();
        }),
        case!(SnapshotNotFound, Requester::root, {"job": "delete-snapshot", "snapshot": "one"}, |engine, vps| {
            vps.snapshots().clear();
        }),
        case!(SnapshotExists, Requester::root, {"job": "create-snapshot", "snapshot": "two"}, |engine, vps| {
            let another = SnapshotInfo { name: "two".parse().unwrap(), ..vps.snapshots()[0].clone() };
            vps.snapshots().push(another);
        }),
        case!(ImageNotFound, Requester::root, {
            "job": "rebuild-vps", "snapshot": "before", "force": false, "boot": null,
            "image": {"from": [OTHER_IMAGE, "systemd"], "to": [OTHER_IMAGE, "systemd"]},
        }, |engine, vps| {
            engine.images.forget(OTHER_IMAGE.parse().unwrap()).await.unwrap();
        }),
        case!(FacilityMissing, Requester::root, {"job": "update-vps", "terms": null, "update": {"profile": "large", "limits": []}},
        |engine, vps| {
            let features = Some(Features::new(["device:no-such".parse().unwrap()]).unwrap());
            let update = UpdateProfile { features, ..UpdateProfile::default() };
            engine.update_profile(&asked(), "large".parse().unwrap(), update).await.unwrap();
        }),
        case!(ProfileNotFound, Requester::root, {"job": "update-vps", "terms": null, "update": {"profile": "large", "limits": []}},
        |engine, vps| {
            engine.delete_profile(&asked(), "large".parse().unwrap()).await.unwrap();
        }),
    ]
}

const OTHER_IMAGE: &str = "0808080808080808080808080808080808080808080808080808080808080808";

/// Journals a job of any kind as one that waits, be it one that is refused while others work on the VPS.
async fn queue(
    engine: &Engine,
    vps: &Arc<VpsHandle>,
    requester: Requester,
    mut job: Value,
) -> OperationRecord {
    job["vps"] = json!(vps.id);
    let job: Job = serde_json::from_value(job).unwrap();
    let mut record = new_record(&Asked::by(requester), String::new(), &job, "old", None);
    record.state = OperationState::Queued;
    let kept = record.clone();
    engine.store(move |store| store.insert_operation(&kept)).await.unwrap();
    engine.spawn(record, job, Right::Later(vps.queue().unwrap()))
}

#[test]
fn what_waits_is_refused_when_what_it_needs_is_gone() {
    for case in cases() {
        Host::new().with_engine(async |engine| {
            prepare(&engine).await;
            let vps = engine.vps("old").unwrap();
            engine.change_spec(&vps.id, |spec| spec.tenant = tenant().tenant).await.unwrap();
            let others = claim(&vps);
            let record = queue(&engine, &vps, (case.requester)(), (case.job)()).await;
            let kind = record.kind;
            (case.meanwhile)(&engine, &vps).await;
            let before = vps.spec();
            drop(others);
            let refused = (OperationState::Failed, Some(case.reason.to_string()));
            assert_eq!(end_of(&engine, record).await, refused, "{kind}");
            assert_eq!(vps.spec(), before, "{kind}");
            assert!(vps.claim(Work::new(OperationId::new(), kind, None)).is_ok(), "{kind} still has the VPS");
        });
    }
}
