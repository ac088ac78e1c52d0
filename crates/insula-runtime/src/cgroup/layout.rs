//! Which controllers are where.

use std::io;
use std::path::{Component, Path, PathBuf};

use insula_types::VpsId;
use serde::{Deserialize, Serialize};

/// A controller that a VPS's groups have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// CPU time and its shares.
    Cpu,
    /// The count of CPU time: part of `cpu` in cgroup2.
    Cpuacct,
    /// Memory and swap.
    Memory,
    /// The number of processes.
    Pids,
    /// Disk I/O: `blkio` in v1.
    Io,
    /// Which device nodes may be opened. In cgroup2 there is no such controller.
    Devices,
}

impl Controller {
    const ALL: [Self; 6] = [Self::Cpu, Self::Cpuacct, Self::Memory, Self::Pids, Self::Io, Self::Devices];

    /// Its name in v1.
    pub fn legacy_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Io => "blkio",
            Self::Devices => "devices",
        }
    }

    /// Its name in cgroup2.
    pub fn unified_name(self) -> Option<&'static str> {
        match self {
            Self::Cpu => Some("cpu"),
            Self::Memory => Some("memory"),
            Self::Pids => Some("pids"),
            Self::Io => Some("io"),
            Self::Cpuacct | Self::Devices => None,
        }
    }
}

/// A v1 hierarchy with controllers of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyHierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its controllers.
    pub controllers: Vec<Controller>,
}

/// Where the cgroups of all VPSes of one agent are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupLayout {
    /// The agent's group, relative to every mount.
    pub root_name: PathBuf,
    /// Where cgroup2 is mounted.
    pub unified: PathBuf,
    /// The controllers that are to be had there.
    pub unified_controllers: Vec<Controller>,
    /// The v1 hierarchies: none on a pure cgroup2 host.
    pub legacy: Vec<LegacyHierarchy>,
    /// Whether swap is counted, and so can be limited, in v1.
    pub has_legacy_swap: bool,
}

/// Why the cgroups can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The kernel's tables can't be read.
    #[error("failed to read {path}")]
    Read {
        /// The file that can't be read.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// No cgroup2.
    #[error("cgroup2 is mounted nowhere: boot with systemd, or mount it at /sys/fs/cgroup/unified")]
    NoUnified,
    /// A name that would lead elsewhere.
    #[error("the cgroup root {name:?} is not a relative plain path")]
    RootName {
        /// The name.
        name: PathBuf,
    },
}

impl CgroupLayout {
    /// Looks where the controllers are. `root_name` is the agent's group below every mount: `insula`, or a path such as
    /// `insula.slice/insulad.service` where systemd has delegated one.
    pub fn observe(root_name: impl AsRef<Path>) -> Result<Self, LayoutError> {
        let root_name = root_name.as_ref();
        let is_plain = root_name.components().all(|part| matches!(part, Component::Normal(_)));
        if root_name.as_os_str().is_empty() || !is_plain {
            return Err(LayoutError::RootName { name: root_name.to_owned() });
        }
        let mounts = read(Path::new("/proc/self/mountinfo"))?;
        let (unified, legacy) = parse_mounts(&mounts);
        let unified = unified.ok_or(LayoutError::NoUnified)?;
        let controllers = parse_controllers(&read(&unified.join("cgroup.controllers"))?);
        let has_swap =
            |hierarchy: &LegacyHierarchy| hierarchy.mount.join("memory.memsw.limit_in_bytes").exists();
        Ok(Self {
            root_name: root_name.to_owned(),
            unified,
            unified_controllers: controllers,
            has_legacy_swap: legacy.iter().any(has_swap),
            legacy,
        })
    }

    /// The v1 hierarchy of a controller.
    pub fn legacy_of(&self, controller: Controller) -> Option<&LegacyHierarchy> {
        self.legacy.iter().find(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// Whether a controller is to be had in cgroup2.
    pub fn is_unified(&self, controller: Controller) -> bool {
        self.unified_controllers.contains(&controller)
    }

    /// The agent's group in cgroup2.
    pub fn unified_root(&self) -> PathBuf {
        self.unified.join(&self.root_name)
    }

    /// Where the monitors are in cgroup2.
    pub fn monitors(&self) -> PathBuf {
        self.unified_root().join("monitors")
    }

    /// The VPS's group in cgroup2, which holds its limits.
    pub fn unified_group(&self, id: &VpsId) -> PathBuf {
        self.unified_root().join(id.to_string())
    }

    /// The group of the guest's processes in cgroup2, which the guest owns.
    pub fn payload(&self, id: &VpsId) -> PathBuf {
        self.unified_group(id).join("payload")
    }

    /// The group of programs that are brought into the guest. Not the payload, which has no processes of its own when the
    /// guest hands controllers down; not init's, because systemd takes what the kernel kills there for its own failure.
    /// No unit's group begins with a dot.
    pub fn exec_group(&self, id: &VpsId) -> PathBuf {
        self.payload(id).join(".insula")
    }

    /// The VPS's group in every v1 hierarchy.
    pub fn legacy_groups(&self, id: &VpsId) -> Vec<PathBuf> {
        let name = id.to_string();
        self.legacy_roots().map(|root| root.join(&name)).collect()
    }

    /// The agent's group in every v1 hierarchy.
    pub fn legacy_roots(&self) -> impl Iterator<Item = PathBuf> {
        self.legacy.iter().map(|hierarchy| hierarchy.mount.join(&self.root_name))
    }

    /// The VPS's group that has the controller.
    pub fn group_with(&self, controller: Controller, id: &VpsId) -> Option<PathBuf> {
        match self.legacy_of(controller) {
            Some(hierarchy) => Some(hierarchy.mount.join(&self.root_name).join(id.to_string())),
            None => self.is_unified(controller).then(|| self.unified_group(id)),
        }
    }
}

fn read(path: &Path) -> Result<String, LayoutError> {
    std::fs::read_to_string(path).map_err(|source| LayoutError::Read { path: path.to_owned(), source })
}

/// Where cgroup2 is and the v1 hierarchies with controllers of ours, from `/proc/<pid>/mountinfo`, proc(5).
fn parse_mounts(mountinfo: &str) -> (Option<PathBuf>, Vec<LegacyHierarchy>) {
    let (mut unified, mut legacy) = (None, Vec::<LegacyHierarchy>::new());
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else { continue };
        let mut fields = mount.split(' ').skip(3);
        let (Some("/"), Some(target)) = (fields.next(), fields.next()) else { continue };
        let mut fields = filesystem.split(' ');
        match (fields.next(), fields.nth(1)) {
            (Some("cgroup2"), _) => {
                unified.get_or_insert(PathBuf::from(target));
            }
            (Some("cgroup"), Some(options)) => {
                let has = |controller: &Controller| options.split(',').any(|o| o == controller.legacy_name());
                let controllers: Vec<_> = Controller::ALL.into_iter().filter(has).collect();
                let is_known = legacy.iter().any(|known| known.controllers == controllers);
                if !controllers.is_empty() && !is_known {
                    legacy.push(LegacyHierarchy { mount: target.into(), controllers });
                }
            }
            _ => {}
        }
    }
    (unified, legacy)
}

fn parse_controllers(text: &str) -> Vec<Controller> {
    let has =
        |controller: &Controller| text.split_whitespace().any(|name| Some(name) == controller.unified_name());
    Controller::ALL.into_iter().filter(has).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_host_is_understood() {
        let (unified, legacy) = parse_mounts(
            "24 1 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
             25 24 0:22 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
             26 24 0:22 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct\n\
             27 24 0:23 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
             28 24 0:24 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             29 24 0:25 / /sys/fs/cgroup/blkio rw - cgroup cgroup rw,blkio\n\
             30 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        assert_eq!(unified.as_deref(), Some(Path::new("/sys/fs/cgroup/unified")));
        let hierarchy = |mount: &str, controllers: &[Controller]| LegacyHierarchy {
            mount: mount.into(),
            controllers: controllers.to_vec(),
        };
        assert_eq!(
            legacy,
            [
                hierarchy("/sys/fs/cgroup/cpu,cpuacct", &[Controller::Cpu, Controller::Cpuacct]),
                hierarchy("/sys/fs/cgroup/blkio", &[Controller::Io]),
            ]
        );
    }

    #[test]
    fn a_pure_host_is_understood() {
        let (unified, legacy) =
            parse_mounts("30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n");
        assert_eq!((unified, legacy), (Some("/sys/fs/cgroup".into()), vec![]));
        let controllers = parse_controllers("cpuset cpu io memory hugetlb pids rdma misc\n");
        assert_eq!(controllers, [Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Io]);
    }

    proptest::proptest! {
        #[test]
        fn any_table_of_mounts_is_read(text in "([0-9a-z/,:.-]{0,9}[ \\n]?){0,60}( - cgroup2? [a-z ,]{0,20}\\n)?") {
            let (_, legacy) = parse_mounts(&text);
            proptest::prop_assert!(legacy.iter().all(|hierarchy| !hierarchy.controllers.is_empty()));
        }
    }

    #[test]
    fn a_root_name_stays_below_the_mounts() {
        for name in ["", "/", "/a", "..", "a/../b", "./a"] {
            assert!(matches!(CgroupLayout::observe(name), Err(LayoutError::RootName { .. })), "{name}");
        }
    }
}
