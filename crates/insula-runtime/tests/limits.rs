//! Limits of real guests that are changed while they run, and that are met.

mod scratch;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;

use insula_runtime::cgroup::{CgroupError, Controller, LimitCounts, LimitWatch, plan_limits};
use insula_runtime::{Event, MonitorConnection, Phase, Request, StartPlan};
use insula_types::{ByteSize, CpuCount, Limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use scratch::{ScratchHost, deadline, run};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What the kernel holds the VPS to: file and value, with one word for no limit.
fn observe(host: &ScratchHost) -> BTreeMap<String, String> {
    let read = |(file, _): (String, String), controller| {
        let group = host.layout.group_with(controller, &host.id).unwrap();
        let now = fs::read_to_string(group.join(&file)).unwrap();
        (file, name_no_limit(now.trim()))
    };
    planned(host, &Limits::default()).into_iter().map(|(value, controller)| read(value, controller)).collect()
}

/// What the kernel is to hold the VPS to.
fn expected(host: &ScratchHost, limits: &Limits) -> BTreeMap<String, String> {
    planned(host, limits).into_iter().map(|(value, _)| value).collect()
}

fn planned(host: &ScratchHost, limits: &Limits) -> Vec<((String, String), Controller)> {
    let limits = plan_limits(&host.layout, limits).unwrap();
    limits.into_iter().map(|value| ((value.file, name_no_limit(&value.value)), value.controller)).collect()
}

fn name_no_limit(value: &str) -> String {
    match value {
        "-1" | "9223372036854771712" => "max".into(),
        value => value.into(),
    }
}

/// Makes a process of the guest hold this much memory until it is killed.
fn hold_memory(connection: &MonitorConnection, mebibytes: u32) {
    let script = "$held = chr(1) x ($ARGV[0] << 20); $| = 1; print 1; sleep";
    let (mut said, stdout) = std::io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let request = scratch::request(&["perl", "-e", script, &mebibytes.to_string()], None);
    connection.send(&Request::Exec(request), &[null.as_fd(), stdout.as_fd(), null.as_fd()]).unwrap();
    drop(stdout);
    said.read_exact(&mut [0]).unwrap();
}

/// Reads the counts whenever the watch says so, until they are as wanted; `None` when the groups are gone.
fn wait_for_counts(watch: &mut LimitWatch, is_wanted: impl Fn(LimitCounts) -> bool) -> Option<LimitCounts> {
    loop {
        let counts = watch.read_counts()?;
        if is_wanted(counts) {
            return Some(counts);
        }
        let patience = scratch::PATIENCE.try_into().unwrap();
        assert_eq!(poll(&mut [PollFd::new(watch, PollFlags::IN)], Some(&patience)), Ok(1), "{counts:?}");
    }
}

fn set_limits(host: &ScratchHost, connection: &MonitorConnection, limits: &Limits) {
    let values = plan_limits(&host.layout, limits).unwrap();
    connection.send(&Request::SetLimits { values }, &[]).unwrap();
    loop {
        match connection.receive(deadline()).expect("an event").0 {
            Event::LimitsSet => return,
            event => assert!(!matches!(event, Event::Refused { .. }), "{event:?}"),
        }
    }
}

#[test]
fn limits_are_changed_and_lifted_while_the_guest_runs() {
    let host = ScratchHost::new();
    let (_connection, _) = host.start(Phase::Ready);
    let more = Limits {
        cpus: Some(CpuCount(700)),
        cpu_weight: Some(200),
        memory: Some(ByteSize::mib(700)),
        swap: Some(ByteSize::mib(100)),
        processes: Some(400),
        disk: None,
    };
    let less = Limits { memory: Some(ByteSize::mib(300)), swap: Some(ByteSize(0)), ..more };
    let none = Limits::default();
    for limits in [&host.limits, &more, &less, &more, &none, &less, &none, &host.limits] {
        host.layout.change_limits(&host.id, limits).unwrap();
        assert_eq!(observe(&host), expected(&host, limits));
    }
}

#[test]
fn a_vps_steps_back_with_its_share_of_cpu() {
    let host = ScratchHost::new();
    assert!(!host.layout.set_cpu_share(&host.id, &host.limits, true).unwrap(), "it does not run");
    let (_connection, _) = host.start(Phase::Ready);
    let whole = expected(&host, &host.limits);
    for steps_back in [true, true, false, true] {
        assert!(host.layout.set_cpu_share(&host.id, &host.limits, steps_back).unwrap());
        let changed: Vec<_> =
            observe(&host).into_iter().filter(|value| whole.get(&value.0) != Some(&value.1)).collect();
        let files: Vec<_> = changed.iter().map(|(file, _)| &**file).collect();
        assert!(
            matches!((steps_back, &*files), (true, ["cpu.shares" | "cpu.weight"]) | (false, [])),
            "{changed:?}"
        );
    }
    host.layout.change_limits(&host.id, &host.limits).unwrap();
    assert_eq!(observe(&host), whole);
}

#[test]
fn what_is_in_use_is_not_taken_away() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    hold_memory(&connection, 200);
    let less = Limits { cpus: None, memory: Some(ByteSize::mib(128)), processes: Some(100), ..host.limits };
    let error = host.layout.change_limits(&host.id, &less).unwrap_err();
    let CgroupError::InUse { limit: "memory", limit_bytes, used_bytes } = error else { panic!("{error:?}") };
    assert_eq!(limit_bytes, 128 << 20);
    assert!((200 << 20..512 << 20).contains(&used_bytes), "{used_bytes}");
    assert_eq!(observe(&host), expected(&host, &host.limits), "all or nothing");
    assert_eq!(host.layout.observe_memory_kills(&host.id), 0);
    let enough = Limits { memory: Some(ByteSize::mib(300)), ..less };
    host.layout.change_limits(&host.id, &enough).unwrap();
    assert_eq!(observe(&host), expected(&host, &enough));
}

#[test]
fn file_cache_makes_room_for_a_lower_limit() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    run(&connection, &["sh", "-c", "head -c 300M /dev/zero >/root/ballast && cat /root/ballast >/dev/null"]);
    assert!(host.layout.observe_usage(&host.id).memory_bytes.unwrap() > 256 << 20);
    let less = Limits { memory: Some(ByteSize::mib(128)), ..host.limits };
    host.layout.change_limits(&host.id, &less).unwrap();
    assert!(host.layout.observe_usage(&host.id).memory_bytes.unwrap() <= 128 << 20);
}

#[test]
fn a_limit_of_a_vps_that_does_not_run_is_not_changed() {
    let host = ScratchHost::new();
    let error = host.layout.change_limits(&host.id, &host.limits).unwrap_err();
    assert!(matches!(error, CgroupError::NoGroup { .. }), "{error}");
}

#[test]
fn a_guests_own_reboot_keeps_changed_limits() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let limits = Limits { memory: Some(ByteSize::mib(256)), processes: Some(150), cpus: None, ..host.limits };
    set_limits(&host, &connection, &limits);
    host.layout.change_limits(&host.id, &limits).unwrap();
    let plan: StartPlan = serde_json::from_slice(&fs::read(host.directory.plan()).unwrap()).unwrap();
    assert_eq!(plan.host.cgroup_values, plan_limits(&host.layout, &limits).unwrap());
    run(&connection, &["systemctl", "--no-block", "reboot"]);
    drop(connection);
    host.connect_when(|status| status.boots == 2 && status.phase == Phase::Ready);
    assert_eq!(observe(&host), expected(&host, &limits));
}

#[test]
fn processes_that_are_killed_for_want_of_memory_are_told() {
    let mut host = ScratchHost::new();
    host.limits.memory = Some(ByteSize::mib(96));
    let (connection, _) = host.start(Phase::Ready);
    let mut watch = LimitWatch::open(&host.layout, &host.id).unwrap();
    assert_eq!(watch.read_counts(), Some(LimitCounts::default()));
    assert_eq!(poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&NOW)), Ok(0), "nothing has happened");
    run(&connection, &["sh", "-c", "head -c 200M /dev/zero | tail -c 200M >/dev/null"]);
    let counts = wait_for_counts(&mut watch, |counts| counts.memory_kills > 0).unwrap();
    assert_eq!(counts.memory_kills, host.layout.observe_memory_kills(&host.id));
    connection.send(&Request::Kill, &[]).unwrap();
    scratch::wait_for_end(&connection);
    host.layout.remove_groups(&host.id).unwrap();
    assert_eq!(wait_for_counts(&mut watch, |_| false), None, "the groups are gone");
}

#[test]
fn processes_that_cannot_be_made_are_told() {
    let mut host = ScratchHost::new();
    host.limits.processes = Some(80);
    let (connection, _) = host.start(Phase::Ready);
    let mut watch = LimitWatch::open(&host.layout, &host.id).unwrap();
    assert_eq!(watch.read_counts(), Some(LimitCounts::default()));
    assert_eq!(poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&NOW)), Ok(0), "nothing has happened");
    run(&connection, &["sh", "-c", "for i in $(seq 100); do sleep 60 & done"]);
    let counts = wait_for_counts(&mut watch, |counts| counts.fork_refusals > 0).unwrap();
    assert_eq!(counts.memory_kills, 0);
}
