//! All checks, as data.

use super::value::State;

/// One respect in which a host may lack something.
#[derive(Debug)]
pub struct Check {
    /// A word for it.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What the lack of it costs.
    pub costs: &'static str,
    /// What to do about it.
    pub fix: &'static str,
    /// Where the value comes from.
    pub source: Source,
    /// How the value is judged.
    pub judge: Judge,
}

/// Where a value comes from.
#[derive(Debug)]
pub enum Source {
    /// A number in `/proc/sys`: its name as in sysctl(8).
    Sysctl(&'static str),
    /// uname(2).
    KernelVersion,
    /// `/proc/filesystems`.
    FileSystem(&'static str),
    /// Whether the path exists.
    Path(&'static str),
    /// A program in the usual directories.
    Program(&'static str),
    /// How cgroups are mounted: `unified`, `hybrid`, `legacy`.
    CgroupMode,
    /// The controllers of both versions; `blkio` is called `io`.
    Controllers,
    /// Whether the kernel enforces profiles of AppArmor.
    AppArmor,
    /// What drops forwarded packets and has no rule about Insula's bridges: chains of nftables and of iptables.
    Dropping,
    /// The agent's answer about its pool.
    PoolQuota,
}

/// How a value is judged.
#[derive(Debug)]
pub enum Judge {
    /// This number or more is enough; less costs something.
    AtLeast {
        /// The number.
        wanted: u64,
    },
    /// Zero, or no value, is missing.
    NotZero,
    /// It must exist; this is the verdict if it does not.
    Present(State),
    /// Below `needed` it is missing, below `wanted` it costs.
    Version {
        /// The oldest that works.
        needed: (u32, u32),
        /// The oldest that costs nothing.
        wanted: (u32, u32),
    },
    /// `best` is ok, one of `good` costs something, and other words are missing.
    Word {
        /// The best.
        best: &'static str,
        /// The words that work, at a cost.
        good: &'static [&'static str],
    },
    /// Without one of `needed` it is missing, without one of `wanted` it costs.
    Has {
        /// What VPSes need.
        needed: &'static [&'static str],
        /// What some of their limits need.
        wanted: &'static [&'static str],
    },
    /// There should be no value.
    None,
}

const FIX: &str = "insula doctor --fix";

const fn budget(name: &'static str, wanted: u64, what: &'static str, costs: &'static str) -> Check {
    Check { name, what, costs, fix: FIX, source: Source::Sysctl(name), judge: Judge::AtLeast { wanted } }
}

const fn program(name: &'static str, lack: State, costs: &'static str, fix: &'static str) -> Check {
    Check { name, what: "a program", costs, fix, source: Source::Program(name), judge: Judge::Present(lack) }
}

const NAMESPACES: &str = "namespaces of all VPSes together";
const NO_NAMESPACES: &str =
    "services with a sandbox of their own fail in VPSes, and no VPS can be started, when it is exhausted";

/// All checks, in the order in which they are shown.
pub const CHECKS: &[Check] = &[
    Check {
        name: "kernel",
        what: "the kernel's version: 5.15 is needed, 6.7 recommended",
        costs: "below 5.15 the kernel can't map file ids on btrfs; below 6.7 it has no simple quotas, and cloning and \
                deleting get slower with the number of VPSes",
        fix: "install a newer kernel; Debian 12 has one in bookworm-backports",
        source: Source::KernelVersion,
        judge: Judge::Version { needed: (5, 15), wanted: (6, 7) },
    },
    Check {
        name: "user-namespaces",
        what: "whether user namespaces are allowed (user.max_user_namespaces)",
        costs: "no VPS can be started",
        fix: FIX,
        source: Source::Sysctl("user.max_user_namespaces"),
        judge: Judge::NotZero,
    },
    Check {
        name: "seccomp",
        what: "system call filters",
        costs: "no VPS can be started without its filter",
        fix: "run a kernel with CONFIG_SECCOMP_FILTER, which all of Debian's kernels have",
        source: Source::Path("/proc/sys/kernel/seccomp/actions_avail"),
        judge: Judge::Present(State::Missing),
    },
    Check {
        name: "btrfs",
        what: "the file system of pools",
        costs: "pools are plain directories: disks have no limit, and copies are slow",
        fix: "modprobe btrfs, and add it to /etc/modules",
        source: Source::FileSystem("btrfs"),
        judge: Judge::Present(State::Costs),
    },
    Check {
        name: "loop",
        what: "files that are used as disks",
        costs: "the agent can't make a pool by itself: agent.yaml has to name a file system",
        fix: "modprobe loop, and add it to /etc/modules",
        source: Source::Path("/dev/loop-control"),
        judge: Judge::Present(State::Costs),
    },
    Check {
        name: "cgroups",
        what: "how cgroups are mounted",
        costs: "hybrid: the controllers of version 1 enforce limits, and a start without a spare monitor takes 16 ms more. \
                Without version 2, no VPS can be started",
        fix: "boot with systemd.unified_cgroup_hierarchy=1",
        source: Source::CgroupMode,
        judge: Judge::Word { best: "unified", good: &["hybrid"] },
    },
    Check {
        name: "controllers",
        what: "cgroup controllers: cpu, memory and pids are needed, cpuset and io recommended",
        costs: "limits that can't be enforced are refused: processors, memory and processes of a VPS",
        fix: "remove cgroup_disable= from the kernel's command line",
        source: Source::Controllers,
        judge: Judge::Has { needed: &["cpu", "memory", "pids"], wanted: &["cpuset", "io"] },
    },
    Check {
        name: "pressure",
        what: "the kernel's pressure stall information, which tells when the processors are full",
        costs: "VPSes that use much of a full host don't step back for others, and after the host's boot no more guests boot at \
                once than it has processors",
        fix: "remove psi=0 from the kernel's command line, or boot with psi=1",
        source: Source::Path("/proc/pressure/cpu"),
        judge: Judge::Present(State::Costs),
    },
    Check {
        name: "apparmor",
        what: "AppArmor, a security module of the kernel",
        costs: "VPSes have one wall fewer; all others in docs/security.md hold without it",
        fix: "boot a kernel that has it, with apparmor=1 security=apparmor",
        source: Source::AppArmor,
        judge: Judge::Present(State::Costs),
    },
    Check {
        name: "pool-quotas",
        what: "how the agent's pool enforces disk limits",
        costs: "qgroups: cloning and deleting get slower with the number of VPSes. None: disk limits are refused",
        fix: "run Linux 6.7 or later, with a pool on btrfs",
        source: Source::PoolQuota,
        judge: Judge::Word { best: "simple-quotas", good: &["qgroups", "none"] },
    },
    program("nft", State::Missing, "VPSes have no network", "apt-get install nftables"),
    program("mkfs.btrfs", State::Costs, "no pool can be made in a file", "apt-get install btrfs-progs"),
    program("mmdebstrap", State::Costs, "no images can be built here", "apt-get install mmdebstrap"),
    Check {
        name: "net.ipv4.ip_forward",
        what: "whether this host forwards packets",
        costs: "VPSes can't reach anything outside this host; the agent turns it on when it makes its bridge, but other software may turn it off",
        fix: FIX,
        source: Source::Sysctl("net.ipv4.ip_forward"),
        judge: Judge::AtLeast { wanted: 1 },
    },
    Check {
        name: "forwarding",
        what: "other software's firewalls that drop forwarded packets, as Docker's does",
        costs: "VPSes can reach only this host",
        fix: "let Insula's bridge through; with Docker: iptables -I DOCKER-USER -i insbr0 -j ACCEPT; \
              iptables -I DOCKER-USER -o insbr0 -j ACCEPT",
        source: Source::Dropping,
        judge: Judge::None,
    },
    budget(
        "fs.inotify.max_user_instances",
        1024,
        "inotify instances of each user; each VPS counts as a user of its own",
        "programs in a VPS that watch files fail: systemd, udev, containers, editors",
    ),
    budget(
        "fs.inotify.max_user_watches",
        524_288,
        "watched files of each user; each VPS counts as a user of its own",
        "programs in a VPS that watch large trees fail",
    ),
    budget(
        "kernel.keys.maxkeys",
        2000,
        "keys of each user in the kernel",
        "containers and sandboxed services in a VPS can't be started when it is exhausted",
    ),
    budget(
        "kernel.keys.maxbytes",
        2_000_000,
        "bytes of keys of each user in the kernel",
        "containers and sandboxed services in a VPS can't be started when it is exhausted",
    ),
    budget(
        "kernel.pty.max",
        65_536,
        "terminals of this host and all VPSes",
        "nobody can log in, here or in any VPS, when it is exhausted; a VPS has up to 512",
    ),
    budget(
        "fs.aio-max-nr",
        1_048_576,
        "asynchronous I/O of this host and all VPSes",
        "databases can't be started, here or in any VPS, when it is exhausted",
    ),
    budget(
        "fs.file-max",
        1_048_576,
        "open files of this host and all VPSes",
        "only root of this host can open anything when it is exhausted",
    ),
    budget(
        "net.ipv4.neigh.default.gc_thresh1",
        1024,
        "neighbours that are always kept",
        "connections stall while neighbours are looked up repeatedly",
    ),
    budget(
        "net.ipv4.neigh.default.gc_thresh2",
        4096,
        "neighbours that are kept for some seconds",
        "connections stall while neighbours are looked up repeatedly",
    ),
    budget(
        "net.ipv4.neigh.default.gc_thresh3",
        8192,
        "neighbours of this host and all VPSes",
        "new connections fail with \"neighbour table overflow\" when it is exhausted",
    ),
    budget(
        "kernel.pid_max",
        4_194_304,
        "ids of processes and threads of this host and all VPSes",
        "nothing can be started, here or in any VPS, when they are exhausted",
    ),
    budget("user.max_pid_namespaces", 16_384, NAMESPACES, NO_NAMESPACES),
    budget("user.max_user_namespaces", 16_384, NAMESPACES, NO_NAMESPACES),
    budget("user.max_mnt_namespaces", 16_384, NAMESPACES, NO_NAMESPACES),
    budget("user.max_net_namespaces", 16_384, NAMESPACES, NO_NAMESPACES),
    budget("user.max_ipc_namespaces", 16_384, NAMESPACES, NO_NAMESPACES),
    budget("user.max_uts_namespaces", 16_384, NAMESPACES, NO_NAMESPACES),
    budget("user.max_cgroup_namespaces", 16_384, NAMESPACES, NO_NAMESPACES),
    budget(
        "net.netfilter.nf_conntrack_max",
        262_144,
        "connections that this host keeps track of",
        "new connections of all VPSes are dropped when it is used up",
    ),
    budget(
        "vm.max_map_count",
        262_144,
        "memory mappings of a process",
        "databases and search engines that map many files fail in VPSes",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    const BEFORE: &str = "\
# What a host should have

<!-- Generated from the table in crates/insula-cli/src/doctor/table.rs by its test. To regenerate it:
     INSULA_WRITE_DOCS=1 cargo test -p insula-cli doctor -->

```
insula doctor
insula doctor --fix
insula doctor -o json
```

It checks the host that it runs on, and needs no agent. If an agent answers, it also reports on the agent's pool. Each finding is `ok`,
`costs` (it works, but at a price), or `missing` (VPSes need it). The exit code is 1 if something is missing, else 0.

`--fix` needs root. It raises the numbers below that are too low, at once and in `/etc/sysctl.d/60-insula.conf` for the next boot, and
lists those that it has raised. It lowers none. Everything else it leaves to you; the finding says what to do.

The numbers suit hosts with up to some hundred VPSes. They are upper bounds, and take no memory until they are used.

";

    fn page() -> String {
        let mut page = format!(
            "{BEFORE}| check | what it is | enough | what the lack costs | to do |\n|---|---|---|---|---|\n"
        );
        for Check { name, what, costs, fix, judge, .. } in CHECKS {
            let enough = match judge {
                Judge::AtLeast { wanted } => wanted.to_string(),
                Judge::NotZero => "more than 0".into(),
                Judge::Present(_) => "it is there".into(),
                Judge::Version { wanted: (major, minor), .. } => format!("{major}.{minor}"),
                Judge::Word { best, .. } => format!("`{best}`"),
                Judge::Has { needed, wanted } => [*needed, *wanted].concat().join(", "),
                Judge::None => "none".into(),
            };
            let _ = writeln!(page, "| `{name}` | {what} | {enough} | {costs} | `{fix}` |"); // to a string
        }
        page
    }

    #[test]
    fn the_page_has_the_whole_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/doctor.md");
        if std::env::var_os("INSULA_WRITE_DOCS").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            there == page(),
            "docs/doctor.md is another: INSULA_WRITE_DOCS=1 cargo test -p insula-cli doctor"
        );
    }

    #[test]
    fn names_are_unique_and_all_is_said() {
        let names: std::collections::BTreeSet<_> = CHECKS.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), CHECKS.len());
        for check in CHECKS {
            assert!([check.what, check.costs, check.fix].iter().all(|text| !text.is_empty()), "{check:?}");
            let fixes = matches!((&check.source, &check.judge), (Source::Sysctl(_), _));
            assert_eq!(check.fix == FIX, fixes, "{}: what --fix can fix is what it says", check.name);
        }
    }
}
