//! What must stay as it is, whatever a guest does: the host, its settings for guests, and the
//! neighbour.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use insula_testkit::Command;
use rustix::time::{ClockId, clock_gettime};

use super::arena::{ATTACKER, Arena, NEIGHBOUR};

/// Files of the kernel that no guest may change.
const KERNEL: [&str; 21] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/dmesg_restrict",
    "/proc/sys/kernel/kptr_restrict",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/unprivileged_bpf_disabled",
    "/proc/sys/kernel/perf_event_paranoid",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/kernel/ctrl-alt-del",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/vm/swappiness",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/fs/protected_symlinks",
    "/proc/thread-self/net/route",
    "/proc/swaps",
    "/sys/kernel/uevent_helper",
    "/sys/kernel/kexec_loaded",
];

/// Files of a VPS's cgroups that hold its limits.
const LIMITS: [&str; 13] = [
    "cgroup.freeze",
    "cgroup.max.descendants",
    "cpu.cfs_quota_us",
    "cpu.max",
    "cpu.shares",
    "cpu.weight",
    "devices.list",
    "freezer.state",
    "memory.limit_in_bytes",
    "memory.max",
    "memory.swap.max",
    "notify_on_release",
    "pids.max",
];

/// The most that the start of the machine may seem to have moved, in seconds: clocks are read one
/// after the other, and are slewed. Setting the clock moves it by more.
const TOLERANCE_SECONDS: u64 = 60;

/// The state of all these things at one moment.
pub struct Witness {
    /// What must be the same, by name.
    seen: BTreeMap<String, String>,
    /// When the machine was started, in seconds since 1970: setting its wall clock changes it.
    started: u64,
}

impl Witness {
    pub fn observe(arena: &Arena) -> Self {
        let mut seen: BTreeMap<String, String> =
            KERNEL.iter().filter_map(|file| read(Path::new(file))).collect();
        seen.extend(limits(arena).iter().filter_map(|file| read(file)).map(forget_step_back));
        for (name, command) in [
            ("interfaces", &["ip", "-4", "-o", "address"][..]),
            // Addresses that open connections are noted in a set, which is not a rule.
            ("rules of the firewall", &["nft", "--stateless", "--terse", "list", "ruleset"]),
            ("guests that are guarded", &["nft", "--stateless", "list", "table", "bridge", "insula"]),
        ] {
            seen.insert(name.into(), Command::new(command[0]).args(&command[1..]).run_ok().text());
        }
        seen.extend(read(&arena.host.directory().join("canary")));
        let victim = fs::read_to_string(format!("/proc/{}/stat", arena.victim.id())).unwrap();
        let state = victim.split(' ').nth(2).unwrap_or_default().to_owned();
        seen.insert("state of a process".into(), state);
        for name in [ATTACKER, NEIGHBOUR] {
            let vps = arena.host.vps(name);
            seen.insert(name.into(), format!("{:?}, init {}, boot {}", vps.state(), vps.init_pid, vps.boots));
        }
        Self { seen, started: start_of_machine() }
    }

    /// What has changed. Empty if nothing has.
    pub fn changes_since(&self, before: &Self) -> String {
        let (old, new) = (&before.seen, &self.seen);
        let names = new.keys().chain(old.keys()).collect::<std::collections::BTreeSet<_>>();
        let changed = names.into_iter().filter(|name| new.get(*name) != old.get(*name));
        let change = |name: &String| format!("{name}: {:?} → {:?}", old.get(name), new.get(name));
        let moved = self.started.abs_diff(before.started);
        let clock = (moved > TOLERANCE_SECONDS).then(|| format!("the wall clock, by {moved} s"));
        changed.map(change).chain(clock).collect::<Vec<_>>().join("; ")
    }
}

fn read(path: &Path) -> Option<(String, String)> {
    Some((path.display().to_string(), fs::read_to_string(path).ok()?))
}

/// Replaces a weight that is the VPS's own or less, because a VPS that takes much of a full host
/// steps back meanwhile.
fn forget_step_back((file, value): (String, String)) -> (String, String) {
    let own = if file.ends_with("/cpu.shares") { 1024 } else { 100 };
    let is_weight = file.ends_with("/cpu.shares") || file.ends_with("/cpu.weight");
    match value.trim().parse::<u32>() {
        Ok(weight) if is_weight && weight <= own => (file, format!("at most {own}")),
        _ => (file, value),
    }
}

/// The files with limits in both guests' cgroups.
fn limits(arena: &Arena) -> Vec<PathBuf> {
    let ids = [ATTACKER, NEIGHBOUR].map(|name| arena.host.vps(name).id);
    let groups = arena.host.groups().into_iter();
    let of_guests = groups.filter(|group| ids.iter().any(|id| group.ends_with(id)));
    of_guests.flat_map(|group| LIMITS.map(|file| group.join(file))).collect()
}

fn start_of_machine() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    now - clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs()
}
