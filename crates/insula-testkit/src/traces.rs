//! What a scratch host has on the machine. At its end that must be nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Command;

/// What exists of a host, each thing by its name, as seen from the calling thread's namespaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The mount points below the host's directories.
    pub mounts: BTreeSet<String>,
    /// The files in its directories that are bound to loop devices.
    pub loop_files: BTreeSet<String>,
    /// The host's cgroups.
    pub groups: BTreeSet<PathBuf>,
    /// The host's AppArmor policy namespaces.
    pub policies: BTreeSet<PathBuf>,
    /// Network interfaces that did not exist at the start.
    pub interfaces: BTreeSet<String>,
    /// The nft tables.
    pub tables: BTreeSet<String>,
    /// Processes that have a file in its directories open: agents and monitors.
    pub processes: BTreeSet<String>,
    /// The files in its run directory.
    pub run_files: BTreeSet<String>,
}

impl Traces {
    /// Looks for traces of all kinds.
    pub fn observe(state_dir: &Path, run_dir: &Path, group: &str) -> Self {
        let is_below = |path: &str| [state_dir, run_dir].iter().any(|own| Path::new(path).starts_with(own));
        Self {
            mounts: mounts().into_iter().filter(|path| is_below(path)).collect(),
            loop_files: loop_files().into_iter().filter(|path| is_below(path)).collect(),
            groups: groups(group),
            policies: policies(group),
            interfaces: interfaces(),
            tables: lines(Command::new("nft").args(["list", "tables"])),
            processes: processes(is_below),
            run_files: entries(run_dir).iter().map(|path| path.display().to_string()).collect(),
        }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn lines(command: Command) -> BTreeSet<String> {
    command.run_ok().text().lines().map(str::to_owned).collect()
}

/// All mounts (proc_pid_mountinfo(5)).
fn mounts() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("the mounts");
    mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned).collect()
}

fn loop_files() -> Vec<String> {
    let file = |device: PathBuf| fs::read_to_string(device.join("loop/backing_file")).ok();
    let devices = entries(Path::new("/sys/block")).into_iter();
    devices.filter_map(file).map(|path| path.trim().trim_end_matches(" (deleted)").to_owned()).collect()
}

/// The cgroup of this name in each hierarchy, and all groups below it.
pub(crate) fn groups(name: &str) -> BTreeSet<PathBuf> {
    let hierarchies =
        entries(Path::new("/sys/fs/cgroup")).into_iter().chain([PathBuf::from("/sys/fs/cgroup")]);
    let mut open: Vec<PathBuf> =
        hierarchies.map(|path| path.join(name)).filter(|path| path.is_dir()).collect();
    let mut groups = BTreeSet::new();
    while let Some(group) = open.pop() {
        open.extend(entries(&group).into_iter().filter(|path| path.is_dir()));
        groups.insert(group);
    }
    groups
}

/// The AppArmor policy namespace of this name, and those below it. Empty if the kernel has no
/// AppArmor.
fn policies(name: &str) -> BTreeSet<PathBuf> {
    let own = Path::new("/sys/kernel/security/apparmor/policy/namespaces").join(name);
    let below = entries(&own.join("namespaces"));
    below.into_iter().chain(own.is_dir().then_some(own)).collect()
}

fn interfaces() -> BTreeSet<String> {
    let names = lines(Command::new("ip").args(["-brief", "link"]));
    let name = |line: String| line.split(' ').next().unwrap_or_default().to_owned();
    names.into_iter().map(name).filter(|name| name != "lo" && name != "tap0").collect()
}

fn processes(is_ours: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in entries(Path::new("/proc")) {
        let links = entries(&process.join("fd")).into_iter().filter_map(|fd| fs::read_link(fd).ok());
        let own = process.ends_with(std::process::id().to_string());
        if !own && links.into_iter().any(|target| is_ours(&target.to_string_lossy())) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.insert(format!("{} {}", process.display(), name.trim()));
        }
    }
    found
}

/// The entries of a directory. Empty if it does not exist, or no longer does.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

/// Removes a directory with all that is in it, but nothing that is mounted there.
pub fn remove_directory(directory: &Path) {
    let mounted: Vec<String> =
        mounts().into_iter().filter(|path| Path::new(path).starts_with(directory)).collect();
    assert!(mounted.is_empty(), "{} is not removed: {mounted:?} are mounted", directory.display());
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            panic!("failed to remove {}: {error}", directory.display())
        }
        _ => {}
    }
}
