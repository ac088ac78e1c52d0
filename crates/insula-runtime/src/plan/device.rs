//! The devices of a guest: the nodes in its `/dev`, and what it may open.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::{DeviceKind, DeviceRule};

/// A device node of the host, mounted at `/dev/<name>` of the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Its name below the guest's `/dev`.
    pub name: String,
    /// The host's node.
    pub source: PathBuf,
}

/// The devices that every program may expect and that no guest can do harm with: `linux/devices.txt`.
const STANDARD: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// Terminals, which the guest's devpts has the nodes of: `ptmx`, and all that come of it. Its console is one.
const TERMINALS: [DeviceRule; 2] =
    [DeviceRule::character(5, 2), DeviceRule { kind: DeviceKind::Character, major: 136, minor: None }];

pub(super) fn plan_devices() -> Vec<DeviceNode> {
    STANDARD
        .map(|(name, ..)| DeviceNode { name: name.to_owned(), source: Path::new("/dev").join(name) })
        .to_vec()
}

pub(super) fn plan_device_rules() -> Vec<DeviceRule> {
    STANDARD
        .map(|(_, major, minor)| DeviceRule::character(major, minor))
        .into_iter()
        .chain(TERMINALS)
        .collect()
}
