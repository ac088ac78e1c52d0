//! Suspension: an administrative hold on a VPS, such as for an unpaid bill.

use insula_api::{Reason, v1};
use insula_testkit::{Image, QUICK_INIT, ScratchHost, call, done, reason};
use v1::VpsState;

use super::{boot, make};

fn suspend(host: &ScratchHost, vps: &str) {
    let request =
        v1::SuspendVpsRequest { vps: vps.into(), reason: "invoice 4711".into(), ..Default::default() };
    done!(host, vps.suspend_vps(request));
}

fn start(vps: &str, override_suspension: bool) -> v1::StartVpsRequest {
    v1::StartVpsRequest { vps: vps.into(), wait_ready: true, override_suspension, ..Default::default() }
}

#[test]
fn a_suspended_vps_keeps_all_but_its_processes() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.replace_init(QUICK_INIT);
    make(&host, &["runs", "rests"]);
    boot(&host, "runs");
    let before = host.vps("runs");
    suspend(&host, "runs");
    suspend(&host, "rests");
    host.agent_kill();
    host.agent_start();
    for (vps, was_running) in [("runs", true), ("rests", false)] {
        let held = host.vps(vps);
        assert_eq!((held.state(), held.init_pid), (VpsState::Suspended, 0));
        let suspension = held.suspension.unwrap();
        assert_eq!((&*suspension.reason, suspension.was_running), ("invoice 4711", was_running));
        assert_eq!(reason(call!(host, vps.start_vps(start(vps, false)))), Reason::VpsSuspended);
    }
    for (vps, state) in [("runs", VpsState::Ready), ("rests", VpsState::Stopped)] {
        done!(host, vps.unsuspend_vps(v1::UnsuspendVpsRequest { vps: vps.into(), ..Default::default() }));
        done!(host, vps.unsuspend_vps(v1::UnsuspendVpsRequest { vps: vps.into(), ..Default::default() }));
        assert_eq!(host.vps(vps).suspension, None);
        if state == VpsState::Ready {
            boot(&host, vps); // which it does by itself: this one only waits
        }
        assert_eq!(host.vps(vps).state(), state);
    }
    let after = host.vps("runs");
    assert_eq!((after.boots, &after.interfaces[0].ip_addresses), (1, &before.interfaces[0].ip_addresses));
}

#[test]
fn who_holds_it_may_look_into_it() {
    let host = ScratchHost::with(Image::Debian12);
    host.replace_init(QUICK_INIT);
    make(&host, &["web1"]);
    suspend(&host, "web1");
    assert_eq!(reason(call!(host, vps.start_vps(start("web1", false)))), Reason::VpsSuspended);
    let restart = v1::RestartVpsRequest { vps: "web1".into(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.restart_vps(restart))), Reason::VpsSuspended);
    done!(host, vps.start_vps(start("web1", true)));
    assert_eq!(host.sh("web1", "cat /proc/1/comm"), "init");
    let held = host.vps("web1");
    assert!(held.suspension.is_some() && held.state() == VpsState::Ready, "the hold stays: {held:?}");
    done!(host, vps.stop_vps(v1::StopVpsRequest { vps: "web1".into(), ..Default::default() }));
    assert_eq!(host.vps("web1").state(), VpsState::Suspended);
    let nameless = v1::SuspendVpsRequest { vps: "web1".into(), ..Default::default() };
    assert_eq!(reason(call!(host, vps.suspend_vps(nameless))), Reason::InvalidArgument);
}
