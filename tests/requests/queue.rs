//! One operation at a time works on a VPS. What an administrator must get done waits for it; what
//! people do by hand is refused. Operations that wait, or that can be undone, may be cancelled.

use insula_api::{Reason, v1};
use insula_testkit::{Image, STUBBORN_INIT, ScratchHost, call, done, failure, reason};
use rustix::process::{Pid, Signal, kill_process};
use v1::VpsState;
use v1::operation::State;

use super::{create, names};

/// A running VPS that does not end when it is told to.
fn host_with_stubborn() -> ScratchHost {
    let host = ScratchHost::with(Image::Debian12);
    host.replace_init(STUBBORN_INIT);
    done!(host, vps.create_vps(v1::CreateVpsRequest { start: true, ..create("web1") }));
    host
}

/// Starts to stop the VPS. Only `end` completes that.
fn begin_stop(host: &ScratchHost) -> v1::Operation {
    let timeout = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let request = v1::StopVpsRequest { vps: "web1".into(), timeout, ..Default::default() };
    call!(host, vps.stop_vps(request)).unwrap().operation.unwrap()
}

fn end(host: &ScratchHost) {
    let pid = Pid::from_raw(host.vps("web1").init_pid.cast_signed()).expect("a process");
    kill_process(pid, Signal::KILL).unwrap();
}

fn suspend(host: &ScratchHost) -> v1::Operation {
    let request = v1::SuspendVpsRequest { vps: "web1".into(), reason: "unpaid".into(), ..Default::default() };
    call!(host, vps.suspend_vps(request)).unwrap().operation.unwrap()
}

fn cancel(host: &ScratchHost, id: &str) -> Result<v1::CancelOperationResponse, tonic::Status> {
    call!(host, operations.cancel_operation(v1::CancelOperationRequest { id: id.into() }))
}

#[test]
fn what_must_be_done_waits_and_what_may_be_done_is_refused() {
    let mut host = host_with_stubborn();
    let stop = begin_stop(&host);
    let start = v1::StartVpsRequest { vps: "web1".into(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.start_vps(start))), Reason::VpsBusy);
    let held = suspend(&host);
    assert_eq!(held.state(), State::Queued);
    let unwanted = suspend(&host);
    assert_eq!(host.vps("web1").operation, stop.id);
    cancel(&host, &unwanted.id).unwrap();
    assert_eq!(failure(&host.over(Some(unwanted))), Reason::Cancelled);
    // The next agent knows the operations that wait.
    host.agent_kill();
    host.agent_start();
    end(&host);
    assert_eq!(host.over(Some(stop)).state(), State::Succeeded);
    host.succeeded(Some(held));
    let vps = host.vps("web1");
    assert_eq!((vps.state(), vps.operation), (VpsState::Suspended, String::new()));
}

#[test]
fn those_who_wait_come_in_their_order() {
    let host = host_with_stubborn();
    let stop = begin_stop(&host);
    let label = |value: &str| {
        let labels = [("turn".to_owned(), value.to_owned())].into();
        let changes = Some(v1::VpsChanges { labels, ..Default::default() });
        let request = v1::UpdateVpsRequest { vps: "web1".into(), changes, ..Default::default() };
        call!(host, vps.update_vps(request)).unwrap().operation
    };
    let waiting: Vec<_> = ["1", "2", "3"].map(label).into();
    let delete = v1::DeleteVpsRequest { vps: "web1".into(), now: true, ..Default::default() };
    let deleted = call!(host, vps.delete_vps(delete)).unwrap().operation;
    end(&host);
    host.succeeded(Some(stop));
    let mut times: Vec<_> = waiting
        .into_iter()
        .map(|operation| host.succeeded(operation))
        .map(|operation| operation.update_time.map(|time| (time.seconds, time.nanos)))
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    times.push(host.succeeded(deleted).update_time.map(|time| (time.seconds, time.nanos)));
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(names(&host, ""), [""; 0]);
}

/// A delete is accepted while the VPS can be deleted, and gets its turn when it no longer can.
#[test]
fn a_delete_that_waits_spares_what_was_protected_meanwhile() {
    let host = host_with_stubborn();
    let stop = begin_stop(&host);
    let changes = Some(v1::VpsChanges { delete_protection: true, ..Default::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["delete_protection".into()] });
    let protect = v1::UpdateVpsRequest { vps: "web1".into(), changes, update_mask, ..Default::default() };
    let protected = call!(host, vps.update_vps(protect)).unwrap().operation;
    let delete = v1::DeleteVpsRequest { vps: "web1".into(), now: true, force: true, ..Default::default() };
    let deleted = call!(host, vps.delete_vps(delete)).unwrap().operation;
    end(&host);
    host.succeeded(Some(stop));
    host.succeeded(protected);
    assert_eq!(failure(&host.over(deleted)), Reason::DeleteProtected);
    assert_eq!(names(&host, ""), ["web1"]);
}

/// The length of the queue is limited.
#[test]
fn too_many_who_wait_are_refused() {
    let host = host_with_stubborn();
    let stop = begin_stop(&host);
    let held: Vec<_> = (0..8).map(|_| suspend(&host)).collect();
    let one_more =
        v1::SuspendVpsRequest { vps: "web1".into(), reason: "unpaid".into(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.suspend_vps(one_more))), Reason::VpsBusy);
    end(&host);
    host.succeeded(Some(stop));
    for operation in held {
        host.succeeded(Some(operation));
    }
}

#[test]
fn a_create_that_waits_for_a_boot_can_be_cancelled() {
    let host = ScratchHost::with(Image::Debian12);
    host.replace_init(STUBBORN_INIT);
    let request = v1::CreateVpsRequest { start: true, wait_ready: true, ..create("web1") };
    let created = call!(host, vps.create_vps(request)).unwrap().operation.unwrap();
    watch_until(&host, &created.id, "booting");
    cancel(&host, &created.id).unwrap();
    let over = host.over(Some(created.clone()));
    assert_eq!(failure(&over), Reason::Cancelled);
    // It was created and started. Only the waiting is given up.
    assert_eq!(host.vps("web1").state(), VpsState::Running);
    assert_eq!(reason(cancel(&host, &created.id)), Reason::NotCancellable);

    let stop = begin_stop(&host);
    watch_until(&host, &stop.id, "shutting down");
    assert_eq!(reason(cancel(&host, &stop.id)), Reason::NotCancellable);
    end(&host);
    host.succeeded(Some(stop));
    done!(host, vps.delete_vps(v1::DeleteVpsRequest { vps: "web1".into(), now: true, ..Default::default() }));
    assert_eq!(names(&host, ""), [""; 0]);
}

/// Waits until an operation reports this message.
fn watch_until(host: &ScratchHost, id: &str, message: &str) {
    let mut watch =
        call!(host, operations.watch_operation(v1::WatchOperationRequest { id: id.into() })).unwrap();
    let seen = host.block_on(async {
        while let Some(answer) = watch.message().await.unwrap() {
            if answer.operation.unwrap().message == message {
                return true;
            }
        }
        false
    });
    assert!(seen, "the operation has never been {message}");
}
