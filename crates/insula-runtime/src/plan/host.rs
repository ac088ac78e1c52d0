//! What one host gives to a guest: its paths, ids, groups, devices and the ends of its links. It means nothing on another host.

use std::path::{Path, PathBuf};

use insula_types::{Attachment, IdRange, InterfaceName, VpsId};
use serde::{Deserialize, Serialize};

use super::apparmor::AppArmorPlan;
use super::budget::{self, PlannedBudget};
use super::device::{self, DeviceNode};
use super::error::PlanError;
use super::feature;
use super::guest::GuestInput;
use super::reboots::RebootPolicy;
use crate::cgroup::{CgroupLayout, CgroupValue, DeviceRule, plan_limits};
use crate::host_device::HostDevice;

/// What the host gives to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBinding {
    /// Below it `vps/<id>/` holds the monitor's socket and files.
    pub run_dir: PathBuf,
    /// Where the VPS's cgroups are.
    pub layout: CgroupLayout,
    /// What is written to its cgroups, in this order: its limits.
    pub cgroup_values: Vec<CgroupValue>,
    /// The guest's user and group ids on the host.
    pub ids: IdRange,
    /// Where its files are.
    pub root: RootPlan,
    /// The host's nodes for the guest's devices, in the order of [`GuestSpec::devices`](super::GuestSpec::devices).
    pub devices: Vec<DeviceNode>,
    /// The devices that may be opened, wherever their nodes are.
    pub device_rules: Vec<DeviceRule>,
    /// What the guest may have of things that the kernel counts by user namespace. With one, it can raise none.
    pub budgets: Vec<PlannedBudget>,
    /// The host's side of the guest's interfaces, in the order of [`GuestSpec::nics`](super::GuestSpec::nics).
    pub nics: Vec<HostNic>,
    /// The policy of AppArmor, where the host has it.
    pub apparmor: Option<AppArmorPlan>,
    /// What the monitor does when the guest reboots or crashes. The pauses are settings of the agent.
    pub reboots: RebootPolicy,
}

/// The root of a guest: one volume, or layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPlan {
    /// The volume that the guest writes. Without lower layers it is the root; with them it holds the directories `upper`
    /// and `work` of an overlay.
    pub upper: PathBuf,
    /// The layers below, which are never written. The first lies on the others.
    pub lower: Vec<PathBuf>,
    /// Whether the files of all layers have the guest's ids on the host. Else they have the guest's own ids, and are mapped
    /// when they are mounted.
    pub has_shifted_ids: bool,
}

/// The host's side of a network interface, a veth pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNic {
    /// The name of the host's end.
    pub host_name: InterfaceName,
    /// How the host's end is connected.
    pub attachment: Attachment,
}

/// What a host's side is planned from: what was observed of the host, and what it has for the VPS.
#[derive(Debug, Clone)]
pub struct HostInput<'a> {
    /// The VPS's user and group ids on the host.
    pub ids: IdRange,
    /// Where its files are: absolute paths.
    pub root: RootPlan,
    /// How its interfaces are connected, one for each.
    pub attachments: Vec<Attachment>,
    /// The devices of the host that its features name ([`wanted_devices`](super::wanted_devices)), as observed.
    pub devices: &'a [HostDevice],
    /// Whether the host is a container itself: the budgets of the VPS around it hold, and it can lock none of its own.
    pub is_nested: bool,
    /// The cgroups as observed.
    pub layout: &'a CgroupLayout,
    /// The agent's run directory: an absolute path.
    pub run_dir: &'a Path,
    /// What the monitor does when the guest reboots or crashes.
    pub reboots: RebootPolicy,
    /// The compiled policy of AppArmor: an absolute path. `None` where the host has no AppArmor.
    pub policy: Option<&'a Path>,
}

/// Plans what a host gives to a guest. Pure.
pub fn plan_host(id: &VpsId, guest: &GuestInput<'_>, host: &HostInput<'_>) -> Result<HostBinding, PlanError> {
    check(host)?;
    let given = feature::plan_host_devices(guest.features, host.devices)?;
    Ok(HostBinding {
        run_dir: host.run_dir.to_owned(),
        layout: host.layout.clone(),
        cgroup_values: plan_limits(host.layout, guest.limits)?,
        ids: host.ids,
        root: host.root.clone(),
        devices: device::plan_devices(&given),
        device_rules: device::plan_device_rules(&given),
        budgets: if host.is_nested { vec![] } else { budget::plan_budgets(guest.features) },
        nics: plan_nics(id, guest.nics.len(), &host.attachments)?,
        apparmor: host.policy.map(|policy| AppArmorPlan { policy: policy.to_owned() }),
        reboots: host.reboots.clone(),
    })
}

fn check(host: &HostInput<'_>) -> Result<(), PlanError> {
    let root = host.root.lower.iter().chain([&host.root.upper]).map(PathBuf::as_path);
    match root
        .chain([host.run_dir])
        .chain(host.policy)
        .find(|path| !path.is_absolute() || path.to_str().is_none())
    {
        Some(path) => Err(PlanError::Path { path: path.to_owned() }),
        None => Ok(()),
    }
}

fn plan_nics(id: &VpsId, nics: usize, attachments: &[Attachment]) -> Result<Vec<HostNic>, PlanError> {
    if nics != attachments.len() {
        return Err(PlanError::Attachments { nics, attachments: attachments.len() });
    }
    let plan = |(index, attachment): (usize, &Attachment)| {
        let host_name = host_interface_name(id, index).ok_or(PlanError::Interfaces { count: nics })?;
        match attachment {
            Attachment::Bridged(_) => Ok(HostNic { host_name, attachment: attachment.clone() }),
            Attachment::Routed(uplink) => Err(PlanError::Routed { uplink: uplink.clone() }),
        }
    };
    attachments.iter().enumerate().map(plan).collect()
}

/// The name of the host's end of a VPS's veth pair: `ins` and twelve hexadecimal digits for the
/// first, then `int…` up to `inz…`, because the kernel's 15 characters have no room for a number
/// after the id.
pub fn host_interface_name(id: &VpsId, index: usize) -> Option<InterfaceName> {
    let letter = ('s'..='z').nth(index)?;
    format!("in{letter}{:012x}", id.short()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::error::MAX_INTERFACES;

    #[test]
    fn every_interface_has_a_name_of_its_own_on_the_host() {
        let id: VpsId = "0193a1b2-c3d4-7e5f-8a9b-0123456789ab".parse().unwrap();
        assert_eq!(host_interface_name(&id, 0).unwrap().as_str(), "ins0123456789ab");
        let names: std::collections::BTreeSet<_> =
            (0..MAX_INTERFACES).map(|index| host_interface_name(&id, index).unwrap()).collect();
        assert_eq!(names.len(), MAX_INTERFACES);
        assert_eq!(host_interface_name(&id, MAX_INTERFACES), None);
    }
}
