//! The devices of a guest: the nodes in its `/dev`, and what it may open.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::{DeviceKind, DeviceRule};
use crate::host_device::HostDevice;

/// A device of the host, whose node is mounted below the `/dev` of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// The host's node.
    pub source: PathBuf,
    /// The guest's own node for it, in the place of the host's: that belongs to ids which the guest does not have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnNode>,
}

/// A device node that is made for a guest, and belongs to its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnNode {
    /// Whether it is a character or a block device.
    pub kind: DeviceKind,
    /// The major number, which stands for the driver.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
    /// Its permissions.
    pub mode: u32,
}

/// The devices that every program may expect and that no guest can do harm with: `linux/devices.txt`.
const STANDARD: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Terminals, which the guest's devpts has the nodes of: `ptmx`, and all that come of it. Its console is one.
const TERMINALS: [DeviceRule; 2] =
    [DeviceRule::character(5, 2), DeviceRule { kind: DeviceKind::Character, major: 136, minor: None }];

/// The names of the nodes of every guest, and of those that it is given.
pub(super) fn plan_names<'a>(given: impl Iterator<Item = &'a str>) -> Vec<String> {
    STANDARD.map(|(name, ..)| name).into_iter().chain(given).map(str::to_owned).collect()
}

/// The host's nodes for [`plan_names`]: those of every guest, and those of the devices that it is given, with their
/// permissions.
pub(super) fn plan_devices(given: &[(&HostDevice, u32)]) -> Vec<DeviceNode> {
    let standard = STANDARD.map(|(name, ..)| DeviceNode { source: Path::new("/dev").join(name), own: None });
    let own = |&(device, mode): &(&HostDevice, u32)| DeviceNode {
        source: device.path(),
        own: Some(OwnNode { kind: device.kind, major: device.major, minor: device.minor, mode }),
    };
    standard.into_iter().chain(given.iter().map(own)).collect()
}

pub(super) fn plan_device_rules(given: &[(&HostDevice, u32)]) -> Vec<DeviceRule> {
    let rule = |(device, _): &(&HostDevice, u32)| DeviceRule {
        kind: device.kind,
        major: device.major,
        minor: Some(device.minor),
    };
    STANDARD
        .map(|(_, major, minor)| DeviceRule::character(major, minor))
        .into_iter()
        .chain(TERMINALS)
        .chain(given.iter().map(rule))
        .collect()
}
