//! Real guests: reboot, power-off, stop, kill, and the monitor's own end.

mod scratch;

use std::time::{Duration, Instant};

use insula_runtime::{Phase, Request};
use insula_types::ExitReason;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use scratch::{ScratchHost, hello, monitor_pid, run, wait_for_end, wait_for_phase};

#[test]
fn a_guest_reboots_itself_without_any_client() {
    let host = ScratchHost::new();
    let (connection, first) = host.start(Phase::Ready);
    run(&connection, &["touch", "/root/kept", "/run/not-kept"]);
    run(&connection, &["systemctl", "--no-block", "reboot"]);
    drop(connection);
    let connection = host.connect_when(|status| status.boots == 2 && status.phase == Phase::Ready);
    let second = hello(&connection);
    assert_ne!(first.init_pid, second.init_pid);
    assert!(second.started_at_ms > first.started_at_ms);
    let output = run(
        &connection,
        &["sh", "-c", "ls /root/kept /run/not-kept; ping -c 1 -W 5 10.99.0.1 >/dev/null && echo pong"],
    );
    assert_eq!(output.stdout, "/root/kept\npong\n", "{output:?}");
    assert_eq!(host.host_interfaces(), 1);
}

#[test]
fn a_power_off_without_any_client_is_remembered() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let monitor = host.watch_monitor();
    run(&connection, &["systemctl", "--no-block", "poweroff"]);
    drop(connection);
    monitor.wait();
    let record = host.directory.read_exit_record().unwrap().unwrap();
    assert_eq!((record.reason, record.detail), (ExitReason::PowerOff, None));
    host.assert_no_interface();
    host.layout.remove_groups(&host.id).unwrap();
    assert_eq!(host.layout.observe_groups().unwrap(), []);
    assert!(!host.directory.socket().exists() && !host.directory.plan().exists());
}

#[test]
fn a_guest_stops_when_asked() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let begin = Instant::now();
    connection.send(&Request::Stop { timeout_ms: 60_000 }, &[]).unwrap();
    assert_eq!(wait_for_end(&connection).reason, ExitReason::Stopped);
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_guest_is_shut_down_with_its_host() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    kill_process(Pid::from_raw(monitor_pid(&connection)).unwrap(), Signal::TERM).unwrap();
    assert_eq!(wait_for_end(&connection).reason, ExitReason::Stopped);
}

#[test]
fn a_stop_right_behind_the_start_is_not_lost() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Running);
    connection.send(&Request::Stop { timeout_ms: 60_000 }, &[]).unwrap();
    assert_eq!(wait_for_end(&connection).reason, ExitReason::Stopped);
}

#[test]
fn a_guest_that_does_not_stop_in_time_is_killed() {
    let host = ScratchHost::new();
    let mut plan = host.plan();
    plan.guest.init.argv = ["/bin/sh", "-c", "trap '' TERM RTMIN+3; while :; do sleep 1000 & wait; done"]
        .map(String::from)
        .into();
    let connection = host.park().start(&plan).unwrap();
    wait_for_phase(&connection, Phase::Running);
    connection.send(&Request::Stop { timeout_ms: 200 }, &[]).unwrap();
    assert_eq!(wait_for_end(&connection).reason, ExitReason::Killed);
}

#[test]
fn a_frozen_guest_is_killed_all_the_same() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    assert!(host.layout.freeze(&host.id).unwrap());
    connection.send(&Request::Kill, &[]).unwrap();
    assert_eq!(wait_for_end(&connection).reason, ExitReason::Killed);
}

#[test]
fn an_init_that_exits_is_told_with_its_last_words() {
    let host = ScratchHost::new();
    let mut plan = host.plan();
    plan.guest.init.argv =
        ["/bin/sh", "-c", "echo last words >/dev/console; exit 7"].map(String::from).into();
    let connection = host.park().start(&plan).unwrap();
    let record = wait_for_end(&connection);
    assert_eq!(record.reason, ExitReason::Exited(7));
    assert!(record.detail.unwrap().contains("last words"));
}

#[test]
fn the_guest_dies_with_its_monitor() {
    let host = ScratchHost::new();
    let (connection, status) = host.start(Phase::Ready);
    let init = pidfd_open(Pid::from_raw(status.init_pid.unwrap()).unwrap(), PidfdFlags::empty()).unwrap();
    kill_process(Pid::from_raw(monitor_pid(&connection)).unwrap(), Signal::KILL).unwrap();
    let patience = scratch::PATIENCE.try_into().unwrap();
    assert_eq!(poll(&mut [PollFd::new(&init, PollFlags::IN)], Some(&patience)), Ok(1));
    drop(connection);
    assert!(host.directory.read_exit_record().unwrap().is_none());
    host.layout.remove_groups(&host.id).unwrap();
}

#[test]
fn a_vps_starts_again_and_again() {
    let host = ScratchHost::new();
    for _ in 0..3 {
        let (connection, status) = host.start(Phase::Running);
        assert_eq!(status.boots, 1);
        connection.send(&Request::Kill, &[]).unwrap();
        assert_eq!(wait_for_end(&connection).reason, ExitReason::Killed);
        assert!(host.directory.read_exit_record().unwrap().is_some());
    }
}

#[test]
fn a_parked_monitor_ends_with_its_agent() {
    let host = ScratchHost::new();
    let parked = host.park();
    parked.wait(scratch::deadline()).unwrap();
    drop(parked);
    // What it leaves is removed by the next agent: when the scratch host is dropped.
    assert_eq!(host.layout.observe_groups().unwrap(), []);
}
