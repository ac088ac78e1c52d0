//! Guests that reboot or crash again and again, and guests after the host's boot.

use std::time::Instant;

use insula_api::v1::{Vps, VpsState};
use insula_testkit::{Image, QUICK_INIT, REBOOTING_INIT, ScratchHost, eventually};
use serde_json::{Value, json};

/// A host whose guests have this init, and these limits for their reboots.
fn host_with(init: &str, reboots: Value) -> ScratchHost {
    let host = ScratchHost::builder().image(Image::Debian12).setting("reboots", reboots).start();
    host.replace_init(init);
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    host
}

/// One whose guest is in a pause that nobody lives to see the end of.
fn host_in_a_pause() -> ScratchHost {
    let host = host_with(REBOOTING_INIT, json!({ "at_once": 1, "first_pause_ms": 3_600_000 }));
    host.insula_ok(&["start", "web1"]);
    wait_for(&host, VpsState::Waiting);
    host
}

#[track_caller]
fn wait_for(host: &ScratchHost, state: VpsState) -> Vps {
    eventually("the VPS is in the state", || Some(host.vps("web1")).filter(|vps| vps.state() == state))
}

#[track_caller]
fn last_exit(host: &ScratchHost) -> (String, i32, String) {
    let exit = host.vps("web1").last_exit.expect("an end");
    assert!(exit.time.is_some());
    (exit.reason, exit.code, exit.detail)
}

#[test]
fn a_boot_loop_gets_slower_and_fails_with_its_last_words() {
    let host = host_with(REBOOTING_INIT, json!({ "at_once": 2, "first_pause_ms": 300, "pauses": 2 }));
    let started = Instant::now();
    host.insula_ok(&["start", "web1"]);
    let vps = wait_for(&host, VpsState::Failed);
    assert!(started.elapsed().as_millis() >= 900, "pauses of 300 and 600 ms");
    assert!(vps.next_boot_time.is_none());
    let (reason, _, detail) = last_exit(&host);
    assert_eq!(reason, "boot_loop");
    for expected in ["in 5 boots", "rebooted by the guest", "rebooting as ever"] {
        assert!(detail.contains(expected), "{detail}");
    }
    let events = host.insula_ok(&["events", "--vps", "web1"]);
    assert!(events.contains("waiting, was") && events.contains("failed, was"), "{events}");
    // A start begins anew.
    host.insula_ok(&["start", "web1"]);
    wait_for(&host, VpsState::Failed);
    let waited = host.insula(&["start", "web1", "--wait", "ready"]).expect_code(1);
    waited.expect_complaint(&["again and again", "rebooting as ever"]);
}

#[test]
fn who_is_in_a_pause_is_seen_and_stops_at_once() {
    let host = host_in_a_pause();
    let vps = host.vps("web1");
    assert_eq!((vps.boots, vps.init_pid, vps.start_time), (2, 0, None));
    assert_eq!(last_exit(&host), ("reboot".into(), 0, String::new()));
    assert!(vps.next_boot_time.unwrap().seconds > vps.last_exit.unwrap().time.unwrap().seconds + 3000);
    let shown = host.insula_ok(&["show", "web1"]);
    assert!(shown.contains("waiting") && shown.contains("next-boot"), "{shown}");
    assert!(host.insula_ok(&["list"]).contains("waiting"));
    host.insula(&["exec", "web1", "--", "true"]).expect_complaint(&["is waiting", "insula log web1"]);
    assert!(host.insula_ok(&["log", "web1"]).contains("rebooting as ever"));
    let started = Instant::now();
    host.insula_ok(&["stop", "web1"]);
    assert!(started.elapsed().as_secs() < 10);
    assert_eq!((host.vps("web1").state(), &*last_exit(&host).0), (VpsState::Stopped, "stopped"));
    // Again, and gone for good.
    host.insula_ok(&["start", "web1"]);
    wait_for(&host, VpsState::Waiting);
    let started = Instant::now();
    host.insula_ok(&["delete", "web1", "--now", "--force", "--yes"]);
    assert!(started.elapsed().as_secs() < 10);
    assert!(host.vpses().is_empty());
}

#[test]
fn the_next_agent_knows_who_is_in_a_pause() {
    let mut host = host_in_a_pause();
    let before = host.vps("web1");
    host.agent_kill();
    host.agent_start();
    let after = host.vps("web1");
    assert_eq!(
        (after.state(), after.boots, after.next_boot_time, after.last_exit),
        (VpsState::Waiting, before.boots, before.next_boot_time, before.last_exit)
    );
    // Somebody repairs it, and does not want to wait for an hour.
    host.replace_init(QUICK_INIT);
    host.insula_ok(&["rebuild", "web1", "--image", "debian-12", "--force", "--yes"]);
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.vps("web1").state(), VpsState::Ready);
    assert_eq!(last_exit(&host).0, "killed", "how it ended is known while it runs");
    host.agent_kill();
    host.agent_start();
    assert_eq!(last_exit(&host).0, "killed");
}
