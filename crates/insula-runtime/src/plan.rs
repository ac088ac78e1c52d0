//! The start of a VPS as data. [`plan_start`] decides everything; who carries the plan out decides nothing.
//!
//! A [`StartPlan`] is complete by itself: the monitor boots the guest again from it while nobody else is there.

mod apparmor;
mod budget;
mod capability;
mod device;
mod feature;
mod filesystem;
mod init;
mod reboots;
mod seccomp;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use insula_types::{Features, IdRange, InitKind, InterfaceName, Limits, MacAddress, VpsId};
use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupLayout, CgroupLimitError, CgroupValue, DeviceRule, plan_limits};
use crate::host_device::HostDevice;

pub use apparmor::{
    AppArmorPlan, DENIED_FILES, DENIED_MOUNTS, DeniedFiles, DeniedMount, GUEST_PROFILE, render_profile,
};
pub use budget::{BUDGETS, Budget, PlannedBudget};
pub use capability::{DROPPED_CAPABILITIES, DroppedCapability};
pub use device::{DeviceNode, OwnNode};
pub use feature::{CLOSED_CALLS, ClosedCall, OPENED_CALLS, OpenedCall, wanted_devices};
pub use filesystem::{MountStep, RunFile, Symlink};
pub use init::plan_init;
pub use reboots::RebootPolicy;
pub use seccomp::{
    ArgumentTest, DENIED_CALLS, DENIED_IOCTLS, DeniedCall, DeniedIoctl, DeniedWhen, NEWEST_CALL,
    SeccompFilter,
};

/// The version of [`StartPlan`] that this crate writes and carries out.
pub const PLAN_VERSION: u32 = 1;

/// How a VPS is started: all that the monitor needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPlan {
    /// [`PLAN_VERSION`] of the writer.
    pub version: u32,
    /// Whose start it is.
    pub id: VpsId,
    /// Below it `vps/<id>/` holds the monitor's socket and files.
    pub run_dir: PathBuf,
    /// Where the VPS's cgroups are.
    pub layout: CgroupLayout,
    /// What is written to its cgroups, in this order.
    pub cgroup_values: Vec<CgroupValue>,
    /// The guest's user and group ids on the host.
    pub ids: IdRange,
    /// The root volume on the host; its files have the guest's own ids, unless
    /// [`has_shifted_root`](Self::has_shifted_root).
    pub root: PathBuf,
    /// The files of the root have the guest's ids on the host: they are not mapped when the root is mounted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_shifted_root: bool,
    /// What is mounted in the guest, in this order.
    pub mounts: Vec<MountStep>,
    /// The host's device nodes that the guest gets, below `/dev`.
    pub devices: Vec<DeviceNode>,
    /// The devices that may be opened, wherever their nodes are.
    pub device_rules: Vec<DeviceRule>,
    /// What the guest may have of things that the kernel counts by user namespace. With one, it can raise none.
    pub budgets: Vec<PlannedBudget>,
    /// The beginnings of the names of sysctls that it may write where the kernel lets it; with budgets only.
    #[serde(default = "sysctls_of_old")]
    pub writable_sysctls: Vec<String>,
    /// Symbolic links below `/dev`.
    pub links: Vec<Symlink>,
    /// Files below `/run`.
    pub run_files: Vec<RunFile>,
    /// Paths that are covered with nothing, where they exist.
    pub masked: Vec<String>,
    /// Paths that can't be written, where they exist.
    pub read_only: Vec<String>,
    /// The guest's name for itself.
    pub hostname: String,
    /// Its network interfaces.
    pub interfaces: Vec<Interface>,
    /// The capabilities that no process of the guest ever has, by their numbers.
    pub dropped_capabilities: Vec<u32>,
    /// The system calls that are refused.
    pub seccomp: SeccompFilter,
    /// The policy of AppArmor, where the host has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apparmor: Option<AppArmorPlan>,
    /// What is executed.
    pub init: InitPlan,
    /// What follows when the guest reboots or crashes.
    #[serde(default)]
    pub reboots: RebootPolicy,
}

/// The guest's init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitPlan {
    /// The program's path in the guest, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment, as `NAME=value`.
    pub environment: Vec<String>,
    /// The number of the signal that makes it shut the guest down.
    pub stop_signal: i32,
    /// How it says that the guest has booted.
    pub ready: ReadyMode,
    /// Whether it drops the signal at times, though it listens to it: then it is told again until it ends.
    #[serde(default)]
    pub tell_again: bool,
    /// Whether its standard streams are the console, as a kernel hands them to its init, instead of `/dev/null`.
    #[serde(default)]
    pub console_streams: bool,
}

/// How a guest says that it has booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyMode {
    /// By `READY=1` on the socket `/run/host/notify`, as in sd_notify(3).
    Notify,
    /// By the prompt of a getty(8) on the console: a line that begins with `<word> login:`. `READY=1` counts, too.
    LoginPrompt,
}

/// A network interface of the guest: a veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in the guest.
    pub name: InterfaceName,
    /// The name of the host's end.
    pub host_name: InterfaceName,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// The bridge that the host's end is plugged into.
    pub bridge: InterfaceName,
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where the default route goes.
    pub gateway: Option<Ipv4Addr>,
}

/// An interface to plan: what the network says about it.
#[derive(Debug, Clone)]
pub struct NicInput {
    /// Its name in the guest.
    pub name: InterfaceName,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// The bridge that it is plugged into.
    pub bridge: InterfaceName,
    /// Its addresses with the lengths of their prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Where the default route goes.
    pub gateway: Option<Ipv4Addr>,
}

/// What a start is planned from.
#[derive(Debug, Clone)]
pub struct StartInput<'a> {
    /// The VPS's id.
    pub id: VpsId,
    /// The guest's name for itself.
    pub hostname: &'a str,
    /// Its user and group ids on the host.
    pub ids: IdRange,
    /// What it may use.
    pub limits: &'a Limits,
    /// What is open to it.
    pub features: &'a Features,
    /// The devices of the host that its features name ([`wanted_devices`]), as observed.
    pub host_devices: &'a [HostDevice],
    /// Which init its image boots.
    pub init: InitKind,
    /// Its interfaces, at most [`MAX_INTERFACES`].
    pub nics: Vec<NicInput>,
    /// The root volume on the host: an absolute path.
    pub root: &'a Path,
    /// Whether its files have the guest's ids on the host already.
    pub has_shifted_root: bool,
    /// Whether the host is a container itself: the budgets of the VPS around it hold, and it can lock none of its own.
    pub is_nested: bool,
    /// The cgroups as observed.
    pub layout: &'a CgroupLayout,
    /// Files for its `/run`.
    pub run_files: Vec<RunFile>,
    /// The agent's run directory: an absolute path.
    pub run_dir: &'a Path,
    /// What init's environment has beyond the usual, as `NAME=value`.
    pub environment: Vec<String>,
    /// What follows when the guest reboots or crashes.
    pub reboots: RebootPolicy,
    /// The compiled policy of AppArmor: an absolute path. `None` where the host has no AppArmor.
    pub policy: Option<&'a Path>,
}

/// The most interfaces that a VPS can have: as many as there are names for the host's ends.
pub const MAX_INTERFACES: usize = 8;

/// Why a start can't be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A limit that the host can't enforce.
    #[error("the limits can't be enforced")]
    Limit(#[from] CgroupLimitError),
    /// The system call filter can't be compiled.
    #[error("failed to compile the system call filter")]
    Seccomp(#[source] libseccomp::error::SeccompError),
    /// The system call filter can't be read back from the library.
    #[error("failed to export the system call filter")]
    SeccompExport(#[source] std::io::Error),
    /// A path that depends on the working directory, or can't be written as JSON.
    #[error("the path {path:?} is not absolute or not UTF-8")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// More interfaces than names.
    #[error("{count} network interfaces are more than {MAX_INTERFACES}")]
    Interfaces {
        /// How many.
        count: usize,
    },
    /// A file for `/run` whose path leaves it.
    #[error("the path {path:?} of a file for /run is not relative and plain")]
    RunFile {
        /// The path.
        path: String,
    },
    /// A device that a feature names and the host does not have.
    #[error("the host has no device /dev/{name}")]
    Device {
        /// Its path below `/dev`.
        name: String,
    },
    /// A name for the guest that the kernel would refuse.
    #[error("the host name {hostname:?} is empty or longer than 64 bytes")]
    Hostname {
        /// The name.
        hostname: String,
    },
}

/// Plans the start of a VPS. Pure, but for the compilation of the system call filter by libseccomp.
pub fn plan_start(input: &StartInput<'_>) -> Result<StartPlan, PlanError> {
    check(input)?;
    let features = input.features;
    let given = feature::plan_host_devices(features, input.host_devices)?;
    Ok(StartPlan {
        version: PLAN_VERSION,
        id: input.id,
        run_dir: input.run_dir.to_owned(),
        layout: input.layout.clone(),
        cgroup_values: plan_limits(input.layout, input.limits)?,
        ids: input.ids,
        root: input.root.to_owned(),
        has_shifted_root: input.has_shifted_root,
        mounts: filesystem::plan_mounts(input.limits.memory, features),
        devices: device::plan_devices(&given),
        device_rules: device::plan_device_rules(&given),
        budgets: if input.is_nested { vec![] } else { budget::plan_budgets(features) },
        writable_sysctls: feature::plan_writable_sysctls(features),
        links: filesystem::plan_links(),
        run_files: input.run_files.clone(),
        masked: filesystem::plan_masked(features),
        read_only: filesystem::READ_ONLY.map(str::to_owned).to_vec(),
        hostname: input.hostname.to_owned(),
        interfaces: plan_interfaces(&input.id, &input.nics)?,
        dropped_capabilities: DROPPED_CAPABILITIES.iter().map(|dropped| dropped.number).collect(),
        seccomp: SeccompFilter::of(features)?,
        apparmor: input.policy.map(|policy| AppArmorPlan { policy: policy.to_owned() }),
        init: plan_init(input.init, &input.environment),
        reboots: input.reboots.clone(),
    })
}

/// What guests could write before plans said so.
fn sysctls_of_old() -> Vec<String> {
    ["net/", "kernel/", "fs/"].map(str::to_owned).to_vec()
}

fn check(input: &StartInput<'_>) -> Result<(), PlanError> {
    for path in [input.root, input.run_dir].into_iter().chain(input.policy) {
        if !path.is_absolute() || path.to_str().is_none() {
            return Err(PlanError::Path { path: path.to_owned() });
        }
    }
    if !(1..=64).contains(&input.hostname.len()) {
        return Err(PlanError::Hostname { hostname: input.hostname.to_owned() });
    }
    match input.run_files.iter().find(|file| !file.has_plain_path()) {
        Some(file) => Err(PlanError::RunFile { path: file.path.clone() }),
        None => Ok(()),
    }
}

fn plan_interfaces(id: &VpsId, nics: &[NicInput]) -> Result<Vec<Interface>, PlanError> {
    let too_many = || PlanError::Interfaces { count: nics.len() };
    let plan = |(index, nic): (usize, &NicInput)| {
        Ok(Interface {
            name: nic.name.clone(),
            host_name: host_interface_name(id, index).ok_or_else(too_many)?,
            mac: nic.mac,
            bridge: nic.bridge.clone(),
            addresses: nic.addresses.clone(),
            gateway: nic.gateway,
        })
    };
    nics.iter().enumerate().map(plan).collect()
}

/// The name of the host's end of a VPS's veth pair: `ins…` for the first, then `int…` up to `inz…`, because the
/// kernel's 15 characters have no room for a number behind the id.
pub fn host_interface_name(id: &VpsId, index: usize) -> Option<InterfaceName> {
    let first = id.veth_name();
    let letter = ('s'..='z').nth(index)?;
    format!("in{letter}{}", &first.as_str()[3..]).parse().ok()
}

/// Where programs are found in a guest.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Controller, LegacyHierarchy};

    fn layout() -> CgroupLayout {
        CgroupLayout {
            root_name: "insula".into(),
            unified: "/sys/fs/cgroup".into(),
            unified_controllers: vec![Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Io],
            legacy: vec![],
            has_legacy_swap: false,
        }
    }

    fn input<'a>(layout: &'a CgroupLayout, limits: &'a Limits) -> StartInput<'a> {
        let id: VpsId = "0193a1b2-c3d4-7e5f-8a9b-0123456789ab".parse().unwrap();
        StartInput {
            id,
            hostname: "web1",
            ids: IdRange { start: 1_000_000, length: 65_536 },
            limits,
            features: no_features(),
            host_devices: &[],
            init: InitKind::Systemd,
            nics: vec![nic("eth0", 0), nic("eth1", 1)],
            root: Path::new("/var/lib/insula/pools/default/vps/x/root"),
            has_shifted_root: false,
            is_nested: false,
            layout,
            run_files: vec![RunFile {
                path: "systemd/network/a".into(),
                mode: 0o644,
                contents: "[Match]".into(),
            }],
            run_dir: Path::new("/run/insula"),
            environment: vec!["LANG=C.UTF-8".into()],
            reboots: RebootPolicy::default(),
            policy: None,
        }
    }

    fn no_features() -> &'static Features {
        static NONE: std::sync::LazyLock<Features> = std::sync::LazyLock::new(Features::default);
        &NONE
    }

    fn nic(name: &str, index: u8) -> NicInput {
        NicInput {
            name: name.parse().unwrap(),
            mac: MacAddress([2, 0, 0, 0, 0, index]),
            bridge: "insbr0".parse().unwrap(),
            addresses: vec![(IpAddr::from([10, 90, index, 2]), 24)],
            gateway: (index == 0).then(|| Ipv4Addr::new(10, 90, 0, 1)),
        }
    }

    #[test]
    fn a_start_is_planned_as_before() {
        let limits = Limits {
            cpus: Some("1.5".parse().unwrap()),
            memory: Some("512M".parse().unwrap()),
            processes: Some(500),
            ..Limits::default()
        };
        let mut plan = plan_start(&input(&layout(), &limits)).unwrap();
        assert!(!plan.seccomp.0.is_empty());
        plan.seccomp = SeccompFilter(vec![]); // depends on the library's version
        insta::assert_json_snapshot!(plan);
    }

    /// A plan of the first version as it was written then: what came later has a default that is harmless to it. A guest that
    /// runs by one, and one that an older agent starts, goes by that.
    #[test]
    fn a_frozen_plan_is_understood() {
        let frozen: serde_json::Value = serde_json::from_str(include_str!("plan/frozen-1.json")).unwrap();
        let plan: StartPlan = serde_json::from_value(frozen.clone()).unwrap();
        assert_eq!(plan.version, 1);
        assert_eq!((plan.hostname.as_str(), plan.interfaces.len(), plan.init.stop_signal), ("web1", 2, 37));
        assert_eq!(plan.reboots, RebootPolicy::default());
        // Nothing of it is lost.
        let again = serde_json::to_value(&plan).unwrap();
        for (key, value) in frozen.as_object().unwrap() {
            assert!(contains(&again[key], value), "{key}: {value} became {}", again[key]);
        }
    }

    /// Whether a value has all that another has, and perhaps fields that came later.
    fn contains(new: &serde_json::Value, old: &serde_json::Value) -> bool {
        use serde_json::Value::*;
        match (new, old) {
            (Object(new), Object(old)) => {
                old.iter().all(|(key, old)| new.get(key).is_some_and(|new| contains(new, old)))
            }
            (Array(new), Array(old)) => {
                new.len() == old.len() && new.iter().zip(old).all(|(new, old)| contains(new, old))
            }
            (new, old) => new == old,
        }
    }

    #[test]
    fn a_shifted_root_is_in_the_plan_and_others_are_as_they_were() {
        let (layout, limits) = (layout(), Limits::default());
        let json = |input| serde_json::to_value(plan_start(&input).unwrap()).unwrap();
        let shifted = json(StartInput { has_shifted_root: true, ..input(&layout, &limits) });
        assert_eq!(shifted["has_shifted_root"], true);
        assert!(serde_json::from_value::<StartPlan>(shifted).unwrap().has_shifted_root);
        assert!(json(input(&layout, &limits)).get("has_shifted_root").is_none());
    }

    #[test]
    fn a_vps_in_a_vps_has_the_budgets_of_that_around_it() {
        let (layout, limits) = (layout(), Limits::default());
        let budgets =
            |is_nested| plan_start(&StartInput { is_nested, ..input(&layout, &limits) }).unwrap().budgets;
        assert_eq!((budgets(true).len(), budgets(false).len()), (0, BUDGETS.len()));
    }

    #[test]
    fn a_plan_survives_json_and_newer_fields() {
        let plan = plan_start(&input(&layout(), &Limits::default())).unwrap();
        let mut json = serde_json::to_value(&plan).unwrap();
        json["from_the_future"] = 1.into();
        assert_eq!(serde_json::from_value::<StartPlan>(json).unwrap(), plan);
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        let (layout, limits) = (layout(), Limits::default());
        let input = || input(&layout, &limits);
        let bare = CgroupLayout {
            unified_controllers: vec![],
            legacy: vec![LegacyHierarchy { mount: "/x".into(), controllers: vec![Controller::Io] }],
            ..layout.clone()
        };
        let memory = Limits { memory: Some("1G".parse().unwrap()), ..Limits::default() };
        let run_file = |path: &str| vec![RunFile { path: path.into(), mode: 0o644, contents: String::new() }];
        let refused = [
            StartInput { root: Path::new("pools/x"), ..input() },
            StartInput { run_dir: Path::new("run"), ..input() },
            StartInput { policy: Some(Path::new("apparmor.policy")), ..input() },
            StartInput { hostname: "", ..input() },
            StartInput { run_files: run_file("../etc/passwd"), ..input() },
            StartInput { run_files: run_file("/etc/passwd"), ..input() },
            StartInput { run_files: run_file(""), ..input() },
            StartInput { nics: (0..9).map(|index| nic("eth0", index)).collect(), ..input() },
            StartInput { layout: &bare, limits: &memory, ..input() },
        ];
        for input in refused {
            assert!(plan_start(&input).is_err(), "{input:?}");
        }
    }

    #[test]
    fn every_interface_has_a_name_of_its_own_on_the_host() {
        let id: VpsId = "0193a1b2-c3d4-7e5f-8a9b-0123456789ab".parse().unwrap();
        assert_eq!(host_interface_name(&id, 0), Some(id.veth_name()));
        let names: std::collections::BTreeSet<_> =
            (0..MAX_INTERFACES).map(|index| host_interface_name(&id, index).unwrap()).collect();
        assert_eq!(names.len(), MAX_INTERFACES);
        assert_eq!(host_interface_name(&id, MAX_INTERFACES), None);
    }
}
