//! Guests that reboot or crash again and again, and guests after the host's boot.

use std::time::Instant;

use insula_api::v1::{self, Vps, VpsState};
use insula_testkit::{CRASHING_INIT, Image, QUICK_INIT, REBOOTING_INIT, ScratchHost, eventually};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::survival::{Watched, monitor_of};

/// A host whose guests have this init, with these limits on their reboots.
fn host_with(init: &str, reboots: Value) -> ScratchHost {
    let host = ScratchHost::builder().image(Image::Debian12).setting("reboots", reboots).start();
    host.replace_init(init);
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    host
}

/// A host whose guest waits before its next boot, longer than any test runs.
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
    // A start resets the count.
    host.insula_ok(&["start", "web1"]);
    wait_for(&host, VpsState::Failed);
    let waited = host.insula(&["start", "web1", "--wait", "ready"]).expect_code(1);
    waited.expect_complaint(&["repeatedly", "rebooting as ever"]);
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
    // Once more, and the guest is given up.
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
    // An administrator repairs it, and does not want to wait for an hour.
    host.replace_init(QUICK_INIT);
    host.insula_ok(&["rebuild", "web1", "--image", "debian-12", "--force", "--yes"]);
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.vps("web1").state(), VpsState::Ready);
    assert_eq!(last_exit(&host).0, "killed", "how it ended is known while it runs");
    host.agent_kill();
    host.agent_start();
    assert_eq!(last_exit(&host).0, "killed");
}

#[test]
fn a_crash_is_followed_by_what_was_asked_for() {
    let host = host_with(CRASHING_INIT, json!({ "at_once": 1, "first_pause_ms": 100, "pauses": 1 }));
    let shown = host.insula_ok(&["show", "web1"]);
    assert!(shown.lines().any(|line| line.starts_with("on-crash") && line.ends_with("stop")), "{shown}");
    host.insula(&["start", "web1", "--wait", "ready"]).expect_code(1);
    assert_eq!((host.vps("web1").state(), host.vps("web1").boots), (VpsState::Failed, 0));
    let (reason, code, detail) = last_exit(&host);
    assert_eq!((&*reason, code), ("exited", 7));
    assert!(detail.contains("something is broken"), "{detail}");

    host.insula_ok(&["set", "web1", "on_crash=restart"]);
    host.insula_ok(&["start", "web1"]);
    wait_for(&host, VpsState::Failed);
    let (reason, _, detail) = last_exit(&host);
    assert_eq!(reason, "boot_loop");
    for expected in ["in 3 boots", "init exited with code 7", "something is broken"] {
        assert!(detail.contains(expected), "{detail}");
    }
}

#[test]
fn what_follows_a_crash_is_changed_while_the_guest_runs() {
    let mut host = host_with(QUICK_INIT, json!({ "at_once": 5 }));
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    host.insula_ok(&["set", "web1", "on-crash=restart"]);
    // The monitor knows it, and no agent is running.
    let first = host.vps("web1").init_pid;
    host.agent_kill();
    kill(first);
    host.agent_start();
    let vps = eventually("it runs again", || Some(host.vps("web1")).filter(|vps| vps.boots == 2));
    assert_eq!(vps.state(), wait_for(&host, VpsState::Ready).state());
    assert_eq!(last_exit(&host), ("signal".into(), 9, host.vps("web1").last_exit.unwrap().detail));
    // When it is unset, the profile's applies again, and that is not set either.
    host.insula_ok(&["set", "web1", "on-crash="]);
    kill(host.vps("web1").init_pid);
    assert_eq!(wait_for(&host, VpsState::Failed).last_exit.unwrap().code, 9);
}

/// Kills a process, as a crash would.
fn kill(process: u32) {
    kill_process(Pid::from_raw(process.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[test]
fn a_profile_says_what_follows() {
    let host = ScratchHost::with(Image::Debian12);
    let file = host.directory().join("sturdy.yaml");
    let profile = "name: sturdy\nnetworks: [default]\nsupervision: {on_crash: restart, autostart: yes, autostart_priority: 7}\n";
    std::fs::write(&file, profile).unwrap();
    host.insula_ok(&["profile", "apply", file.to_str().unwrap()]);
    let create = ["create", "web1", "--image", "debian-12", "--profile", "sturdy", "--autostart", "no"];
    host.insula_ok(&create);
    let vps = host.vps("web1");
    let (all, own) = (vps.supervision.unwrap(), vps.own_supervision.unwrap());
    assert_eq!((all.on_crash(), all.autostart()), (v1::CrashPolicy::Restart, v1::Autostart::No));
    assert_eq!((all.autostart_priority, own.autostart_priority), (Some(7), None));
    assert!(!vps.starts_with_host);
    host.insula_ok(&["set", "web1", "autostart=", "autostart-delay=5"]);
    let shown = host.insula_ok(&["show", "web1"]);
    assert!(shown.contains("yes, priority 7, delay 5s: is started when the host boots"), "{shown}");
    host.insula_ok(&["set", "web1", "profile=small"]);
    let all = host.vps("web1").supervision.unwrap();
    assert_eq!((all.on_crash(), all.autostart()), (v1::CrashPolicy::Stop, v1::Autostart::AsItWas));
    let bad = host.insula(&["set", "web1", "autostart-delay=3601"]);
    bad.expect_complaint(&["3601 s is too long: at most 3600 s"]);
}

/// The host goes down without warning and boots: nothing runs, `/run` is empty, and the boot id is
/// new.
pub fn power_cycle(host: &mut ScratchHost) {
    let running = host.vpses().into_iter().filter(|vps| vps.init_pid != 0);
    let running: Vec<_> = running.map(|vps| (monitor_of(&vps), Watched::new(vps.init_pid))).collect();
    host.agent_kill();
    for (monitor, init) in running {
        kill(monitor);
        init.wait();
    }
    match std::fs::remove_dir_all(host.run_dir().join("vps")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"), // where nothing ran
        _ => {}
    }
    let database = Connection::open(host.state_dir().join("insula.db")).unwrap();
    let forget = "DELETE FROM setting WHERE key IN ('autostart', 'boot-id')";
    assert!(database.execute(forget, []).unwrap() > 0, "the boot id is known");
    drop(database);
    host.agent_start();
}

/// When each was started after the last boot of the host, in that order.
fn started(host: &ScratchHost) -> Vec<String> {
    let mut vpses = host.vpses();
    vpses.retain(|vps| vps.start_time.is_some());
    vpses.sort_by_key(|vps| vps.start_time.map(|time| (time.seconds, time.nanos)));
    vpses.into_iter().map(|vps| vps.name).collect()
}

#[test]
fn after_the_hosts_boot_vpses_are_started_in_order() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.replace_init(QUICK_INIT);
    let create = |name: &str, more: &[&str]| {
        host.insula_ok(&[&["create", name, "--image", "debian-12"], more].concat());
    };
    create("was-on", &["--start"]);
    create("was-off", &[]);
    create("first", &["--autostart", "yes", "--autostart-priority", "10", "--autostart-delay", "2"]);
    create("last", &["--start", "--autostart-priority", "-1"]);
    create("never", &["--start", "--autostart", "no"]);
    create("held", &["--start"]);
    host.insula_ok(&["suspend", "held", "--reason", "unpaid"]);
    power_cycle(&mut host);
    let order = eventually("all are started", || Some(started(&host)).filter(|order| order.len() == 3));
    assert_eq!(order, ["first", "was-on", "last"]);
    let seconds = |name: &str| {
        host.vps(name).start_time.map(|time| time.seconds * 1000 + i64::from(time.nanos) / 1_000_000)
    };
    assert!(seconds("was-on") >= seconds("first").map(|first| first + 1900), "the delay");
    for name in ["never", "was-on", "last"] {
        assert_eq!(host.vps(name).last_exit.unwrap().reason, "host_down", "{name}");
    }
    assert_eq!(host.vps("never").state(), VpsState::Stopped);
    assert_eq!(host.vps("was-off").state(), VpsState::Stopped);
    let asked = host.insula_ok(&["operation", "list", "--vps", "first"]);
    assert!(asked.contains("start-vps") && asked.contains("insulad"), "{asked}");
    // An agent that is restarted starts nothing.
    host.insula_ok(&["stop", "first", "last"]);
    host.agent_kill();
    host.agent_start();
    assert_eq!(started(&host), ["was-on"]);
    assert!(host.vps("first").starts_with_host && !host.vps("last").starts_with_host);
}

#[test]
fn who_waits_for_its_turn_is_seen_and_can_be_stopped() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.replace_init(QUICK_INIT);
    host.insula_ok(&[
        "create",
        "a",
        "--image",
        "debian-12",
        "--autostart",
        "yes",
        "--autostart-delay",
        "3600",
    ]);
    for name in ["b", "c"] {
        host.insula_ok(&["create", name, "--image", "debian-12", "--start"]);
    }
    power_cycle(&mut host);
    eventually("the first is started", || Some(()).filter(|()| host.vps("a").init_pid != 0));
    let waits = |host: &ScratchHost| ["b", "c"].map(|name| host.vps(name).awaits_autostart);
    assert_eq!(waits(&host), [true, true]);
    assert!(host.insula_ok(&["show", "b"]).contains("waits for its turn to start"));
    host.insula_ok(&["stop", "b"]);
    assert_eq!(waits(&host), [false, true]);
    assert!(!host.vps("b").starts_with_host, "it is not to run");
    // The next agent continues with the rest, without the delay that the agent before has already
    // waited for.
    host.agent_kill();
    host.agent_start();
    wait_for_ready(&host, "c");
    assert_eq!(started(&host), ["a", "c"]);
    assert_eq!(host.vps("b").state(), VpsState::Stopped);
}

#[track_caller]
fn wait_for_ready(host: &ScratchHost, name: &str) {
    eventually("it is ready", || Some(()).filter(|()| host.vps(name).state() == VpsState::Ready));
}
