//! Which devices the processes of a VPS may open.

use serde::{Deserialize, Serialize};

/// Devices that may be opened. None may be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Whether it is a character or a block device.
    pub kind: DeviceKind,
    /// The major number, which stands for the driver.
    pub major: u32,
    /// Its number; `None` for all of the driver.
    pub minor: Option<u32>,
}

/// The kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A character device, such as a terminal.
    Character,
    /// A block device, such as a disk.
    Block,
}

impl DeviceRule {
    /// A character device.
    pub const fn character(major: u32, minor: u32) -> Self {
        Self { kind: DeviceKind::Character, major, minor: Some(minor) }
    }

    /// As `devices.allow` takes it, cgroup-v1/devices.rst.
    pub(super) fn as_legacy(&self) -> String {
        let kind = match self.kind {
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        let minor = self.minor.map_or("*".to_owned(), |minor| minor.to_string());
        format!("{kind} {}:{minor} rw", self.major)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_written_as_v1_takes_them() {
        let all = DeviceRule { kind: DeviceKind::Block, major: 8, minor: None };
        assert_eq!(DeviceRule::character(1, 3).as_legacy(), "c 1:3 rw");
        assert_eq!(all.as_legacy(), "b 8:* rw");
    }
}
