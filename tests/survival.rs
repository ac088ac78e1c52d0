//! Guests run without their agent, and the next agent knows what they did.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use insula_api::v1::{Vps, VpsState};
use insula_testkit::{Image, PATIENCE, ScratchHost, eventually};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

/// A process that is not a child of the test. Its end can be observed all the same.
pub struct Watched(OwnedFd);

impl Watched {
    pub fn new(pid: u32) -> Self {
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process id");
        Self(pidfd_open(pid, PidfdFlags::empty()).expect("a process that lives"))
    }

    #[track_caller]
    pub fn wait(&self) {
        let timeout = Timespec::try_from(PATIENCE).unwrap();
        assert_eq!(
            poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)),
            Ok(1),
            "it does not end"
        );
    }
}

/// The monitor: the parent of init.
pub fn monitor_of(vps: &Vps) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", vps.init_pid)).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn host_with_ssh() -> (ScratchHost, String) {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--ssh-key", &host.ssh_key()]);
    let address = host.vps("web1").interfaces[0].ip_addresses[0].clone();
    (host, address)
}

#[test]
fn guests_run_on_without_their_agent() {
    let (mut host, address) = host_with_ssh();
    let before = host.vps("web1");
    host.agent_kill();
    host.ssh(&address, "echo said while nobody listened >/dev/console").expect_code(0);
    host.insula(&["list"]).expect_code(6).expect_complaint(&["failed to connect", "hint:"]);
    host.agent_start();
    let after = host.vps("web1");
    assert_eq!(after.state(), VpsState::Ready);
    assert_eq!(
        (after.init_pid, after.boots, after.start_time, after.ready_time),
        (before.init_pid, before.boots, before.start_time, before.ready_time)
    );
    assert_eq!(host.sh("web1", "cat /proc/1/comm"), "systemd");
    let log = host.insula_ok(&["log", "web1"]);
    assert!(log.contains("Multi-User System") && log.contains("said while nobody listened"), "{log}");
    // An ordered end of the agent is the same to guests.
    host.agent_stop();
    host.ssh(&address, "true").expect_code(0);
    host.agent_start();
    assert_eq!(host.vps("web1").init_pid, before.init_pid);
}

#[test]
fn a_reboot_without_an_agent_is_one() {
    let (mut host, address) = host_with_ssh();
    let init = Watched::new(host.vps("web1").init_pid);
    host.agent_kill();
    host.ssh(&address, "systemctl reboot");
    init.wait();
    eventually("the guest is up again", || (host.ssh(&address, "true").code == 0).then_some(()));
    host.agent_start();
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    let vps = host.vps("web1");
    assert_eq!((vps.state(), vps.boots), (VpsState::Ready, 2));
}

#[test]
fn a_power_off_without_an_agent_is_remembered() {
    let (mut host, address) = host_with_ssh();
    let monitor = Watched::new(monitor_of(&host.vps("web1")));
    let seconds = || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed();
    host.agent_kill();
    let before = seconds();
    host.ssh(&address, "systemctl poweroff");
    monitor.wait();
    let after = seconds();
    host.agent_start();
    let vps = host.vps("web1");
    assert_eq!((vps.state(), vps.init_pid), (VpsState::Stopped, 0));
    let exit = vps.last_exit.unwrap();
    assert_eq!(exit.reason, "power_off");
    assert!((before..=after).contains(&exit.time.unwrap().seconds), "at its own time, not at the agent's");
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
}

#[test]
fn a_dead_monitor_takes_its_guest_along() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &[]);
    let vps = host.vps("web1");
    let (monitor, init) = (monitor_of(&vps), Watched::new(vps.init_pid));
    kill_process(Pid::from_raw(monitor.cast_signed()).unwrap(), Signal::KILL).unwrap();
    init.wait();
    let vps = eventually("the agent has seen it", || {
        Some(host.vps("web1")).filter(|vps| vps.state() == VpsState::Failed)
    });
    assert_eq!(vps.last_exit.unwrap().reason, "monitor_lost");
    let left = host.traces().groups;
    assert!(!left.iter().any(|group| group.ends_with(&vps.id)), "{left:?}");
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.sh("web1", "systemctl is-system-running --wait"), "running");
}

#[test]
fn an_agent_adopts_many_at_once() {
    let count = crate::dice::scale().0;
    let mut host = ScratchHost::with(Image::Debian12);
    let names: Vec<String> = (0..count).map(|number| format!("web{number}")).collect();
    let create = |name: &String| {
        host.insula_ok(&[
            "create",
            name,
            "--image",
            "debian-12",
            "--memory",
            "256M",
            "--wait",
            "ready",
            "--async",
        ])
    };
    let operations: Vec<String> = names.iter().map(create).collect();
    let wait = operations.iter().map(String::as_str);
    host.insula_ok(&["operation", "wait"].into_iter().chain(wait).collect::<Vec<_>>());
    let before = host.vpses();
    assert_eq!(before.len(), count);
    host.agent_kill();
    let started = Instant::now();
    host.agent_start();
    let elapsed = started.elapsed();
    let after = host.vpses();
    println!("{count} VPSes adopted in {} ms", elapsed.as_millis());
    let facts =
        |vps: &Vps| (vps.name.clone(), vps.state(), vps.init_pid, vps.start_time, vps.interfaces.clone());
    assert_eq!(after.iter().map(facts).collect::<Vec<_>>(), before.iter().map(facts).collect::<Vec<_>>());
    assert!(elapsed < Duration::from_secs(5), "a release build takes less than a second for 50: {elapsed:?}");
}
