//! An upgrade of the agent restarts no guest: the new agent works with monitors of older protocol
//! versions.
//!
//! The monitor in these tests speaks version 2, frozen
//! (`insula-testkit/src/bin/frozen-monitor.rs`), and holds a real guest.

use insula_api::v1::{self, VpsState};
use insula_testkit::{Image, ScratchHost, binary, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A host with a guest whose monitor has this version, and the agent that came after it.
fn upgraded(version: u32) -> ScratchHost {
    let frozen = json!(binary("frozen-monitor"));
    let mut host = ScratchHost::builder().image(Image::Debian12).setting("monitor", frozen).prepare();
    std::fs::create_dir_all(host.run_dir()).unwrap();
    std::os::unix::fs::symlink(binary("insula-monitor"), host.run_dir().join("present-monitor")).unwrap();
    std::fs::write(host.run_dir().join("frozen-version"), version.to_string()).unwrap();
    host.agent_start();
    host.create_ready("web1", Image::Debian12, &[]);
    let before = host.vps("web1");
    host.agent_kill();
    let config = host.directory().join("agent.yaml");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    settings.as_object_mut().unwrap().remove("monitor");
    std::fs::write(&config, settings.to_string()).unwrap();
    host.agent_start();
    let facts = |vps: v1::Vps| (vps.state(), vps.init_pid, vps.boots, vps.start_time, vps.ready_time);
    assert_eq!(facts(host.vps("web1")), facts(before));
    host
}

/// Ends the guest's init as a crash does.
fn crash(host: &ScratchHost) {
    let init = host.vps("web1").init_pid;
    kill_process(Pid::from_raw(init.cast_signed()).unwrap(), Signal::KILL).unwrap();
}

#[track_caller]
fn wait_for(host: &ScratchHost, state: VpsState, boots: u32) -> v1::Vps {
    let is_there = |vps: &v1::Vps| (vps.state(), vps.boots) == (state, boots);
    eventually("the VPS is in the state", || Some(host.vps("web1")).filter(is_there))
}

#[test]
fn a_newer_agent_gets_along_with_a_monitor_of_the_version_before() {
    let host = upgraded(2);
    assert_eq!(host.sh("web1", "echo hello >/dev/console; cat /proc/1/comm"), "systemd");
    eventually("the console has it", || host.insula_ok(&["log", "web1"]).contains("hello").then_some(()));
    host.insula_ok(&["pause", "web1"]);
    host.insula_ok(&["resume", "web1"]);
    host.insula_ok(&["set", "web1", "memory=512M"]);
    host.sh("web1", "systemctl --no-block reboot");
    wait_for(&host, VpsState::Ready, 2);
    assert_eq!(host.usage("web1").memory_limit_bytes, 512 << 20, "the monitor knows of the new limit");
    // What the monitor does not know is reported, and applies from the next start on.
    let said = host.insula_ok(&["set", "web1", "on-crash=restart"]);
    assert!(said.contains("older monitor") && said.contains("next start"), "{said}");
    crash(&host);
    let exit = wait_for(&host, VpsState::Failed, 0).last_exit.unwrap();
    assert_eq!((&*exit.reason, exit.code), ("signal", 9));
    // The next start gets a monitor of the present version.
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    crash(&host);
    wait_for(&host, VpsState::Ready, 2);
    host.insula_ok(&["stop", "web1"]);
}

#[test]
fn what_an_older_monitor_does_not_know_is_refused_with_a_way_out() {
    let host = upgraded(1);
    let refused = host.insula(&["set", "web1", "memory=512M"]).expect_code(4);
    refused.expect_complaint(&["older version (1)", "restart the VPS"]);
    assert_eq!(host.usage("web1").memory_limit_bytes, 1 << 30);
    host.insula_ok(&["stop", "web1"]);
    assert_eq!(host.vps("web1").last_exit.unwrap().reason, "stopped");
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    host.insula_ok(&["set", "web1", "memory=512M"]);
    assert_eq!(host.usage("web1").memory_limit_bytes, 512 << 20);
}
