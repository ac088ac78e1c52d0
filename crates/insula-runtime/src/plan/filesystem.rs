//! What a guest finds mounted.

use std::path::{Component, Path};

use insula_types::{ByteSize, Feature, Features};
use serde::{Deserialize, Serialize};

/// A file system that is mounted in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStep {
    /// Where, relative to the guest's root. Made where it is missing.
    pub target: String,
    /// Its type, as in `/proc/filesystems`.
    pub filesystem: String,
    /// Its options: name and value, or a flag.
    pub options: Vec<(String, Option<String>)>,
    /// The numbers of `MOUNT_ATTR_*`, mount_setattr(2).
    pub attributes: u32,
}

/// A symbolic link below the guest's `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Symlink {
    /// The link's path.
    pub name: String,
    /// The path that it points to.
    pub target: String,
}

/// A file that is made below the guest's `/run` before init is executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    /// Where, relative to `/run`. Directories are made where they are missing.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// The file's content.
    pub contents: String,
}

impl RunFile {
    /// Whether the path is relative and has plain names only.
    pub(super) fn has_plain_path(&self) -> bool {
        !self.path.is_empty()
            && Path::new(&self.path).components().all(|part| matches!(part, Component::Normal(_)))
    }
}

/// Noise of the host's kernel that is covered. What protects it is the user namespace: these files belong to the
/// host's root. Root in the guest may take the covers off and sees what any user of the host sees.
const MASKED: [&str; 8] = [
    "proc/acpi",
    "proc/asound",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/timer_list",
    "sys/firmware",
];

/// What is covered. A guest with keyrings sees its keys, and no others: proc(5).
pub(super) fn plan_masked(features: &Features) -> Vec<String> {
    let has_keys = features.has(&Feature::Keyring);
    let is_covered = |path: &&str| !(has_keys && *path == "proc/keys");
    MASKED.into_iter().filter(is_covered).map(str::to_owned).collect()
}

/// Controls of the host's kernel that software in the guest must not try to write.
pub(super) const READ_ONLY: [&str; 4] = ["proc/bus", "proc/fs", "proc/irq", "proc/sysrq-trigger"];

const READ_ONLY_MOUNT: u32 = 1;
const NO_SUID: u32 = 2;
const NO_DEVICES: u32 = 4;
const NO_EXECUTION: u32 = 8;
const NOTHING_ALLOWED: u32 = NO_SUID | NO_DEVICES | NO_EXECUTION;

/// How many terminals a guest may have open: the kernel has 3,072 for all guests together (`kernel.pty.max`, less what it
/// keeps for the host).
const TERMINALS: &str = "512";

/// How many files a tmpfs may have: what systemd gives its `/run`. The kernel would give half as many as the host has
/// pages of memory.
const FILES: &str = "800k";

/// The mounts in their order. A tmpfs takes as much of the memory limit as systemd would give it; without a limit,
/// of the host's memory.
pub(super) fn plan_mounts(memory: Option<ByteSize>, features: &Features) -> Vec<MountStep> {
    let share = |percent: u64| match memory {
        Some(memory) => (memory.bytes() / 100 * percent).to_string(),
        None => format!("{percent}%"),
    };
    let mut mounts = vec![
        mount("proc", "proc", &[], NOTHING_ALLOWED),
        // Writable, it would make systemd-networkd wait for a udev that never runs in a container.
        mount("sys", "sysfs", &[], NOTHING_ALLOWED | READ_ONLY_MOUNT),
        mount("sys/fs/cgroup", "cgroup2", &[], NOTHING_ALLOWED),
        mount(
            "dev",
            "tmpfs",
            &[("size", "1m"), ("nr_inodes", "4096"), ("mode", "755")],
            NO_SUID | NO_EXECUTION,
        ),
        mount(
            "dev/pts",
            "devpts",
            &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5"), ("max", TERMINALS)],
            NO_SUID | NO_EXECUTION,
        ),
        mount(
            "dev/shm",
            "tmpfs",
            &[("size", &share(50)), ("nr_inodes", FILES), ("mode", "1777")],
            NO_SUID | NO_DEVICES,
        ),
        mount("dev/mqueue", "mqueue", &[], NOTHING_ALLOWED),
        mount(
            "run",
            "tmpfs",
            &[("size", &share(20)), ("nr_inodes", FILES), ("mode", "755")],
            NO_SUID | NO_DEVICES,
        ),
    ];
    if features.has(&Feature::Nesting) {
        mounts.extend(plan_uncovered());
    }
    mounts
}

/// The kernel lets a nested user namespace mount a `/proc` or `/sys` of its own only where it sees one without covers
/// already, and a writable one only where that is writable: `mnt_already_visible()` of its `fs/namespace.c`. Nobody needs
/// to look here.
fn plan_uncovered() -> [MountStep; 2] {
    [
        mount("dev/.insula/proc", "proc", &[], NOTHING_ALLOWED),
        mount("dev/.insula/sys", "sysfs", &[], NOTHING_ALLOWED),
    ]
}

fn mount(target: &str, filesystem: &str, options: &[(&str, &str)], attributes: u32) -> MountStep {
    let option =
        |&(name, value): &(&str, &str)| (name.to_owned(), (!value.is_empty()).then(|| value.to_owned()));
    MountStep {
        target: target.to_owned(),
        filesystem: filesystem.to_owned(),
        options: options.iter().map(option).collect(),
        attributes,
    }
}

pub(super) fn plan_links() -> Vec<Symlink> {
    [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
        ("ptmx", "pts/ptmx"),
    ]
    .map(|(name, target)| Symlink { name: name.to_owned(), target: target.to_owned() })
    .to_vec()
}
