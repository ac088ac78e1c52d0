//! Making, reading and removing groups.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use insula_types::{IdRange, VpsId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::{CgroupLayout, CgroupLimitError, CgroupValue};

/// Why a group could not be made, changed, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The kernel refused.
    #[error("failed to {what} {path}")]
    Refused {
        /// What was being done.
        what: &'static str,
        /// To which file or group.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The host's kernel lacks what a limit needs.
    #[error("the limit {value:?} can't be enforced: the host's kernel has no {path}")]
    NoFacility {
        /// The file that is missing.
        path: PathBuf,
        /// The value.
        value: String,
    },
    /// The VPS does not run, or boots just now.
    #[error("failed to change the limits: there is no group {path}")]
    NoGroup {
        /// The group.
        path: PathBuf,
    },
    /// A limit that can't be enforced on this host.
    #[error(transparent)]
    Limit(#[from] CgroupLimitError),
    /// More is in use than the new limit allows, and the kernel can't take it back.
    #[error(
        "the limit on {limit} can't be lowered to {limit_bytes} bytes: the VPS uses {used_bytes} bytes that the kernel can't reclaim"
    )]
    InUse {
        /// `memory`, or `memory and swap` where v1 limits the sum.
        limit: &'static str,
        /// The limit that was asked for.
        limit_bytes: u64,
        /// What is in use.
        used_bytes: u64,
    },
    /// Processes that don't end.
    #[error("failed to remove {path}: it still has processes")]
    Busy {
        /// The group.
        path: PathBuf,
    },
}

/// The name of a parked monitor's v1 groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpareName(String);

impl SpareName {
    const PREFIX: &str = "spare-";

    /// The name for this process.
    pub(crate) fn for_this_process() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(format!("{}{}-{:x}", Self::PREFIX, std::process::id(), now.as_nanos()))
    }
}

pub(super) fn refused(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Refused { what, path: path.to_owned(), source }
}

impl CgroupLayout {
    /// Makes the agent's own groups and hands the controllers down to them.
    pub fn ensure_root(&self) -> Result<(), CgroupError> {
        for root in self.legacy_roots() {
            make_group(&root)?;
        }
        let mut group = self.unified.clone();
        for part in &self.root_name {
            self.enable_controllers(&group)?;
            group.push(part);
            make_group(&group)?;
        }
        self.enable_controllers(&group)?;
        make_group(&self.monitors())
    }

    /// Removes the agent's own groups. Groups with processes are an error.
    pub fn ensure_root_absent(&self) -> Result<(), CgroupError> {
        self.legacy_roots().chain([self.unified_root()]).try_for_each(|root| remove_tree(&root))
    }

    /// Puts the calling process into spare v1 groups and among the monitors. It waits for an RCU grace period.
    pub(crate) fn park(&self, name: &SpareName) -> Result<(), CgroupError> {
        let pid = std::process::id().to_string();
        for group in self.legacy_roots().map(|root| root.join(&name.0)) {
            make_group(&group)?;
            write(&group.join("cgroup.procs"), &pid)?;
        }
        write(&self.monitors().join("cgroup.procs"), &pid)
    }

    /// Gives the spare v1 groups the VPS's name. What is left there of a former life is removed.
    pub(crate) fn claim(&self, name: &SpareName, id: &VpsId) -> Result<(), CgroupError> {
        for root in self.legacy_roots() {
            let group = root.join(id.to_string());
            remove_tree(&group)?;
            fs::rename(root.join(&name.0), &group).map_err(refused("rename a spare group to", &group))?;
        }
        Ok(())
    }

    /// Makes the VPS's cgroup2 groups anew: the one with the limits, and the payload, which belongs to the guest's root.
    pub(crate) fn make_unified(&self, id: &VpsId, ids: IdRange) -> Result<(), CgroupError> {
        let (group, payload) = (self.unified_group(id), self.payload(id));
        remove_tree(&group)?;
        make_group(&group)?;
        self.enable_controllers(&group)?;
        // Groups cost memory of the kernel, and one too deep for a path could not be removed.
        write(&group.join("cgroup.max.depth"), "64")?;
        write(&group.join("cgroup.max.descendants"), "20000")?;
        make_group(&payload)?;
        // What a user may own of a delegated group: /sys/kernel/cgroup/delegate.
        for file in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            let path = payload.join(file);
            chown(&path, Some(ids.start), Some(ids.start))
                .map_err(refused("hand over to the guest", &path))?;
        }
        Ok(())
    }

    /// Opens the payload, to clone into it.
    pub(crate) fn open_payload(&self, id: &VpsId) -> Result<OwnedFd, CgroupError> {
        let path = self.payload(id);
        fs::File::open(&path).map(OwnedFd::from).map_err(refused("open", &path))
    }

    /// Opens the group of programs that are brought into the guest, made when it is missing.
    pub(crate) fn open_exec_group(&self, id: &VpsId) -> Result<OwnedFd, CgroupError> {
        let path = self.exec_group(id);
        make_group(&path)?;
        fs::File::open(&path).map(OwnedFd::from).map_err(refused("open", &path))
    }

    /// Writes values to the VPS's groups, at its start. [`CgroupLayout::change_limits`] is for one that runs.
    pub(crate) fn apply_values(&self, id: &VpsId, values: &[CgroupValue]) -> Result<(), CgroupError> {
        for value in values {
            let path = self.file_of(id, value);
            match write(&path, &value.value) {
                Err(CgroupError::Refused { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    value.check_missing(&path)?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// The file that a value is written to.
    pub(super) fn file_of(&self, id: &VpsId, value: &CgroupValue) -> PathBuf {
        let group = self.group_with(value.controller, id).unwrap_or_else(|| self.unified_group(id));
        group.join(&value.file)
    }

    /// Kills every process of the guest. `false` if it has no group.
    pub fn kill(&self, id: &VpsId) -> Result<bool, CgroupError> {
        write_if_there(&self.unified_group(id).join("cgroup.kill"), "1")
    }

    /// Stops every process of the guest where it is. `false` if it has no group.
    pub fn freeze(&self, id: &VpsId) -> Result<bool, CgroupError> {
        write_if_there(&self.unified_group(id).join("cgroup.freeze"), "1")
    }

    /// Lets a frozen guest go on. `false` if it has no group.
    pub fn thaw(&self, id: &VpsId) -> Result<bool, CgroupError> {
        write_if_there(&self.unified_group(id).join("cgroup.freeze"), "0")
    }

    /// Whether the guest was told to freeze.
    pub fn is_frozen(&self, id: &VpsId) -> bool {
        fs::read_to_string(self.unified_group(id).join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
    }

    /// Removes all groups of a VPS. Processes in them that have been killed are waited for, a second at most.
    pub fn remove_groups(&self, id: &VpsId) -> Result<(), CgroupError> {
        let groups = self.legacy_groups(id).into_iter().chain([self.unified_group(id)]);
        groups.map(|group| remove_tree(&group)).fold(Ok(()), Result::and)
    }

    /// Removes the VPS's cgroup2 groups: what a monitor can remove, which is in the others itself.
    pub(crate) fn remove_unified(&self, id: &VpsId) -> Result<(), CgroupError> {
        remove_tree(&self.unified_group(id))
    }

    /// Removes the v1 groups of parked monitors that have ended.
    pub fn remove_spare_groups(&self) -> Result<(), CgroupError> {
        for root in self.legacy_roots() {
            for name in subgroups(&root)?.into_iter().filter(|name| name.starts_with(SpareName::PREFIX)) {
                match fs::remove_dir(root.join(&name)) {
                    Err(error) if is(&error, Errno::BUSY) || is(&error, Errno::NOENT) => {} // parked, or gone
                    result => result.map_err(refused("remove", &root.join(&name)))?,
                }
            }
        }
        Ok(())
    }

    /// The VPSes that have a group in any hierarchy.
    pub fn observe_groups(&self) -> Result<Vec<VpsId>, CgroupError> {
        let mut ids = vec![];
        for root in self.legacy_roots().chain([self.unified_root()]) {
            ids.extend(subgroups(&root)?.iter().filter_map(|name| name.parse::<VpsId>().ok()));
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Hands the controllers down to the groups below `group`.
    fn enable_controllers(&self, group: &Path) -> Result<(), CgroupError> {
        let wanted = self.unified_controllers.iter().filter_map(|controller| controller.unified_name());
        let path = group.join("cgroup.subtree_control");
        let enabled = fs::read_to_string(&path).map_err(refused("read", &path))?;
        let missing: Vec<_> = wanted
            .filter(|name| !enabled.split_whitespace().any(|enabled| enabled == *name))
            .map(|name| format!("+{name}"))
            .collect();
        match missing.is_empty() {
            true => Ok(()),
            false => write(&path, &missing.join(" ")),
        }
    }
}

impl CgroupValue {
    /// What it means that its file is missing: a limit that the kernel does not have needs no lifting.
    pub(super) fn check_missing(&self, path: &Path) -> Result<(), CgroupError> {
        match self.value == "max" {
            true => Ok(()),
            false => Err(CgroupError::NoFacility { path: path.to_owned(), value: self.value.clone() }),
        }
    }
}

pub(super) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Makes a group that anyone may look into, whatever the umask: before Linux 6.16 a guest's root can't mount cgroup2
/// when it may not search the groups above its own.
fn make_group(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
        .map_err(refused("make the group", path))
}

pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let write = || fs::OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes());
    write().map_err(refused("write to", path))
}

/// Writes to a file of a group; `false` if there is no such group, or it goes meanwhile.
pub(super) fn write_if_there(path: &Path, value: &str) -> Result<bool, CgroupError> {
    match write(path, value) {
        Err(CgroupError::Refused { source, .. })
            if is(&source, Errno::NOENT) || is(&source, Errno::NODEV) =>
        {
            Ok(false)
        }
        result => result.map(|()| true),
    }
}

/// The names of the groups directly below one; none if it does not exist.
fn subgroups(group: &Path) -> Result<Vec<String>, CgroupError> {
    let list = || -> io::Result<Vec<String>> {
        let mut names = vec![];
        for entry in fs::read_dir(group)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    };
    match list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        result => result.map_err(refused("list", group)),
    }
}

/// Removes a group and those below it, deepest first. The depth is bounded by the kernel's limit on path lengths.
fn remove_tree(group: &Path) -> Result<(), CgroupError> {
    for name in subgroups(group)? {
        remove_tree(&group.join(name))?;
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match fs::remove_dir(group) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if is(&error, Errno::BUSY) && Instant::now() < deadline => {
                wait_for_processes(group, deadline)?;
            }
            Err(error) => return Err(refused("remove", group)(error)),
        }
    }
}

/// Waits for the end of the processes in a group.
fn wait_for_processes(group: &Path, deadline: Instant) -> Result<(), CgroupError> {
    let path = group.join("cgroup.procs");
    let processes = fs::read_to_string(&path).map_err(refused("read", &path))?;
    for pid in processes.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { continue }; // it has ended
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        if !matches!(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref()), Ok(1..)) {
            return Err(CgroupError::Busy { path: group.to_owned() });
        }
    }
    Ok(())
}
