//! The plan of a start, and its form in JSON.
//!
//! In memory a plan has a part that is the guest's and a part that is the host's. In JSON it is flat, as it has been since
//! the first version: monitors of all versions read it, and plans of all agents are read ([`FlatPlan`]).

use std::path::PathBuf;

use insula_types::{Attachment, IdRange, InterfaceName, MacAddress, VpsId};
use serde::{Deserialize, Serialize};

use super::apparmor::AppArmorPlan;
use super::budget::PlannedBudget;
use super::device::{DeviceNode, OwnNode};
use super::filesystem::{MountStep, RunFile, Symlink};
use super::guest::{GuestNic, GuestSpec};
use super::host::{HostBinding, HostNic, RootPlan};
use super::init::InitPlan;
use super::reboots::RebootPolicy;
use super::seccomp::SeccompFilter;
use crate::cgroup::{CgroupLayout, CgroupValue, DeviceRule};

/// The version of [`StartPlan`] that this crate writes and carries out.
pub const PLAN_VERSION: u32 = 1;

/// The first version of the protocol whose monitors know layers of a root, and plans that restore a guest. An older monitor
/// would ignore both, and boot something else.
const LAYERS_AND_RESTORES: u32 = 5;

/// How a VPS is started: all that the monitor needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FlatPlan", into = "FlatPlan")]
pub struct StartPlan {
    /// [`PLAN_VERSION`] of the writer.
    pub version: u32,
    /// The id of the VPS that is started.
    pub id: VpsId,
    /// The guest's part, which is the same on every host.
    pub guest: GuestSpec,
    /// What this host gives to it.
    pub host: HostBinding,
    /// What the start ends with.
    pub end: StartEnd,
}

/// What a start ends with, when everything around the guest is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartEnd {
    /// The guest's init is executed.
    Boot,
    /// The guest's processes are restored from a checkpoint. Not built yet: planner and monitor refuse it.
    Restore(RestorePlan),
}

/// A checkpoint of a guest that ran before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// The directory on the host with CRIU's images.
    pub images: PathBuf,
    /// The console's terminal as the checkpoint names it: the numbers `st_rdev` and `st_dev` that `/dev/console` had then.
    pub console: (u64, u64),
    /// How often the guest had been booted.
    pub boots: u32,
    /// When its init was executed: milliseconds since 1970, UTC.
    pub started_at_ms: i64,
    /// When it had booted, if it had: milliseconds since 1970, UTC.
    pub ready_at_ms: Option<i64>,
}

impl StartPlan {
    /// The oldest version of the protocol whose monitors carry the plan out as it is meant.
    pub fn needed_protocol(&self) -> u32 {
        match self.host.root.lower.is_empty() && self.end == StartEnd::Boot {
            true => 1,
            false => LAYERS_AND_RESTORES,
        }
    }

    /// The guest's interfaces, each with the host's side of it.
    pub fn nics(&self) -> impl Iterator<Item = (&GuestNic, &HostNic)> {
        self.guest.nics.iter().zip(&self.host.nics)
    }
}

/// A plan in JSON. Its fields are never renamed. A new field has a default, which is what plans without it mean.
#[derive(Serialize, Deserialize)]
struct FlatPlan {
    version: u32,
    id: VpsId,
    run_dir: PathBuf,
    layout: CgroupLayout,
    cgroup_values: Vec<CgroupValue>,
    ids: IdRange,
    /// The root volume, or the upper one.
    root: PathBuf,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    has_shifted_root: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lower_layers: Vec<PathBuf>,
    mounts: Vec<MountStep>,
    devices: Vec<FlatDevice>,
    device_rules: Vec<DeviceRule>,
    budgets: Vec<PlannedBudget>,
    #[serde(default = "sysctls_of_old")]
    writable_sysctls: Vec<String>,
    links: Vec<Symlink>,
    run_files: Vec<RunFile>,
    masked: Vec<String>,
    read_only: Vec<String>,
    hostname: String,
    interfaces: Vec<FlatNic>,
    dropped_capabilities: Vec<u32>,
    seccomp: SeccompFilter,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    apparmor: Option<AppArmorPlan>,
    init: InitPlan,
    #[serde(default)]
    reboots: RebootPolicy,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restore: Option<RestorePlan>,
}

#[derive(Serialize, Deserialize)]
struct FlatDevice {
    name: String,
    source: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    own: Option<OwnNode>,
}

#[derive(Serialize, Deserialize)]
struct FlatNic {
    name: InterfaceName,
    host_name: InterfaceName,
    mac: MacAddress,
    #[serde(flatten)]
    attachment: Attachment,
    addresses: Vec<(std::net::IpAddr, u8)>,
    gateway: Option<std::net::IpAddr>,
}

/// What guests could write before plans said so.
fn sysctls_of_old() -> Vec<String> {
    ["net/", "kernel/", "fs/"].map(str::to_owned).to_vec()
}

impl From<FlatPlan> for StartPlan {
    fn from(flat: FlatPlan) -> Self {
        let (names, devices) = flat.devices.into_iter().map(FlatDevice::split).unzip();
        let (guest_nics, host_nics) = flat.interfaces.into_iter().map(FlatNic::split).unzip();
        let guest = GuestSpec {
            hostname: flat.hostname,
            init: flat.init,
            mounts: flat.mounts,
            devices: names,
            links: flat.links,
            run_files: flat.run_files,
            masked: flat.masked,
            read_only: flat.read_only,
            writable_sysctls: flat.writable_sysctls,
            nics: guest_nics,
            dropped_capabilities: flat.dropped_capabilities,
            seccomp: flat.seccomp,
        };
        let host = HostBinding {
            run_dir: flat.run_dir,
            layout: flat.layout,
            cgroup_values: flat.cgroup_values,
            ids: flat.ids,
            root: RootPlan {
                upper: flat.root,
                lower: flat.lower_layers,
                has_shifted_ids: flat.has_shifted_root,
            },
            devices,
            device_rules: flat.device_rules,
            budgets: flat.budgets,
            nics: host_nics,
            apparmor: flat.apparmor,
            reboots: flat.reboots,
        };
        let end = flat.restore.map_or(StartEnd::Boot, StartEnd::Restore);
        Self { version: flat.version, id: flat.id, guest, host, end }
    }
}

impl From<StartPlan> for FlatPlan {
    fn from(StartPlan { version, id, guest, host, end }: StartPlan) -> Self {
        Self {
            version,
            id,
            run_dir: host.run_dir,
            layout: host.layout,
            cgroup_values: host.cgroup_values,
            ids: host.ids,
            root: host.root.upper,
            has_shifted_root: host.root.has_shifted_ids,
            lower_layers: host.root.lower,
            mounts: guest.mounts,
            devices: guest.devices.into_iter().zip(host.devices).map(FlatDevice::join).collect(),
            device_rules: host.device_rules,
            budgets: host.budgets,
            writable_sysctls: guest.writable_sysctls,
            links: guest.links,
            run_files: guest.run_files,
            masked: guest.masked,
            read_only: guest.read_only,
            hostname: guest.hostname,
            interfaces: guest.nics.into_iter().zip(host.nics).map(FlatNic::join).collect(),
            dropped_capabilities: guest.dropped_capabilities,
            seccomp: guest.seccomp,
            apparmor: host.apparmor,
            init: guest.init,
            reboots: host.reboots,
            restore: match end {
                StartEnd::Boot => None,
                StartEnd::Restore(restore) => Some(restore),
            },
        }
    }
}

impl FlatDevice {
    fn split(self) -> (String, DeviceNode) {
        (self.name, DeviceNode { source: self.source, own: self.own })
    }

    fn join((name, DeviceNode { source, own }): (String, DeviceNode)) -> Self {
        Self { name, source, own }
    }
}

impl FlatNic {
    fn split(self) -> (GuestNic, HostNic) {
        let Self { name, host_name, mac, attachment, addresses, gateway } = self;
        (GuestNic { name, mac, addresses, gateway }, HostNic { host_name, attachment })
    }

    fn join((guest, host): (GuestNic, HostNic)) -> Self {
        let (GuestNic { name, mac, addresses, gateway }, HostNic { host_name, attachment }) = (guest, host);
        Self { name, host_name, mac, attachment, addresses, gateway }
    }
}
