//! The attempts of the testkit can succeed: each in a guest that lacks the one wall which refuses them. A wall is a part
//! of the plan of a start, so it is taken out of the plan. The same attempts are refused by the plan as it is.

mod scratch;

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use insula_runtime::cgroup::{Controller, DeviceRule};
use insula_runtime::plan::{DEFAULT_PATH, DeviceNode, SeccompFilter};
use insula_runtime::{MonitorConnection, Phase, Request, StartPlan};
use insula_testkit::QUICK_INIT;
use insula_testkit::hostile::{Attempt, CALLS, FILES, LIMITED_BOMBS, PROCESSES, Verdict};
use insula_types::{ByteSize, IdRange};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use scratch::{ScratchHost, wait_for_end, wait_for_exec_end, wait_for_phase};

/// A wall, how it is taken away, and what succeeds then.
struct Wall {
    name: &'static str,
    take_away: fn(&mut StartPlan),
    attempts: &'static [&'static str],
}

const WALLS: [Wall; 7] = [
    Wall {
        name: "the filter of system calls",
        take_away: |plan| plan.guest.seccomp = SeccompFilter::compile(&[], &[], &[]).unwrap(),
        attempts: &[
            "keys",
            "io_uring",
            "stop_the_kernel_in_a_page_fault",
            "segments",
            "compare_kernel_objects",
        ],
    },
    Wall {
        name: "the bound of capabilities",
        take_away: |plan| plan.guest.dropped_capabilities.clear(),
        attempts: &["dropped_capabilities"],
    },
    Wall {
        name: "ids of its own, and behind them the list of sysctls",
        take_away: |plan| {
            plan.host.ids = IdRange { start: 0, length: IdRange::DEFAULT_LENGTH };
            plan.guest.writable_sysctls.push("kernel/".to_owned());
        },
        attempts: &["core_pattern", "host_sysctls"],
    },
    Wall {
        name: "the covers of paths",
        take_away: |plan| plan.guest.masked.clear(),
        attempts: &["covered_paths"],
    },
    Wall {
        name: "the list of devices",
        take_away: |plan| plan.host.device_rules.push(DeviceRule::character(10, 237)),
        attempts: &["devices_of_the_host"],
    },
    Wall {
        name: "the limit of processes",
        take_away: |plan| without(plan, Controller::Pids),
        attempts: &["fork_bomb"],
    },
    Wall {
        name: "the limit of memory",
        take_away: |plan| without(plan, Controller::Memory),
        attempts: &["memory_bomb", "tmpfs_bomb"],
    },
];

const PROCESSES_LIMIT: u32 = 100;
const MEMORY_MIB: u64 = 128;

fn without(plan: &mut StartPlan, controller: Controller) {
    plan.host.cgroup_values.retain(|value| value.controller != controller);
}

#[test]
fn attempts_succeed_where_their_wall_is_missing() {
    let mut host = ScratchHost::new();
    host.limits.processes = Some(PROCESSES_LIMIT);
    host.limits.memory = Some(ByteSize::mib(MEMORY_MIB));
    let all = WALLS.iter().flat_map(|wall| wall.attempts);
    let refused = verdicts(&host, &plan(&host), all);
    let is_refused = |verdict: &Option<Verdict>| matches!(verdict, Some(Verdict::Refused(_)));
    assert!(refused.iter().all(|(_, verdict)| is_refused(verdict)), "behind all walls: {refused:#?}");
    for wall in &WALLS {
        let mut weakened = plan(&host);
        (wall.take_away)(&mut weakened);
        assert_ne!(weakened, plan(&host), "the plan has {}", wall.name);
        let verdicts = verdicts(&host, &weakened, wall.attempts);
        let is_success = |verdict: &Option<Verdict>| matches!(verdict, Some(Verdict::Succeeded(_)));
        println!("without {}: {verdicts:?}", wall.name);
        assert!(
            verdicts.iter().all(|(_, verdict)| is_success(verdict)),
            "without {}: {verdicts:#?}",
            wall.name
        );
    }
}

/// A plan with a device too many that everybody may open, but for the list of devices, which does not have it.
fn plan(host: &ScratchHost) -> StartPlan {
    let mut plan = host.plan();
    plan.guest.init.argv = ["/bin/sh", "-c", QUICK_INIT].map(str::to_owned).to_vec();
    let source = host.run_dir.join("loop-control");
    if !source.exists() {
        let (everybody, number) = (Mode::from_bits_truncate(0o666), makedev(10, 237));
        mknod(&source, SFlag::S_IFCHR, everybody, number).unwrap();
        std::fs::set_permissions(&source, PermissionsExt::from_mode(0o666)).unwrap();
    }
    plan.guest.devices.push("loop-control".into());
    plan.host.devices.push(DeviceNode { source, own: None });
    plan
}

/// Boots the plan, makes the attempts, and ends the guest.
fn verdicts<'a>(
    host: &ScratchHost,
    plan: &StartPlan,
    attempts: impl IntoIterator<Item = &'a &'static str>,
) -> Vec<(&'static str, Option<Verdict>)> {
    let connection = host.park().start(plan).unwrap();
    wait_for_phase(&connection, Phase::Ready);
    let verdicts = attempts.into_iter().map(|name| (*name, verdict(&connection, attempt(name)))).collect();
    connection.send(&Request::Kill, &[]).unwrap();
    wait_for_end(&connection);
    host.layout.remove_groups(&host.id).unwrap();
    verdicts
}

fn attempt(name: &str) -> &'static Attempt {
    let mut all = [CALLS, FILES, PROCESSES, LIMITED_BOMBS].into_iter().flatten();
    all.find(|attempt| attempt.name == name).unwrap_or_else(|| panic!("there is no attempt {name}"))
}

fn verdict(connection: &MonitorConnection, attempt: &Attempt) -> Option<Verdict> {
    let argv = attempt.argv();
    let mut request = scratch::request(&argv.each_ref().map(String::as_str), None);
    request.environment.extend([
        DEFAULT_PATH.to_owned(),
        "CANARY=/none".to_owned(),
        format!("PROCESSES={PROCESSES_LIMIT}"),
        format!("MEMORY_MIB={MEMORY_MIB}"),
    ]);
    let (null, mut output) = (File::open("/dev/null").unwrap(), tempfile::tempfile().unwrap());
    let streams = [null.as_fd(), output.as_fd(), output.as_fd()];
    connection.send(&Request::Exec(request), &streams).unwrap();
    wait_for_exec_end(connection);
    let mut text = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut text)).unwrap();
    println!("{}: {text}", attempt.name);
    Verdict::parse(&text)
}
