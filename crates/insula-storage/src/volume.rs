//! What is kept in a pool: volumes, their names and their paths.

use std::fmt;
use std::path::PathBuf;

use insula_types::{Fingerprint, OperationId, SnapshotName, VpsId};

/// A file tree in a pool, named by what it is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Volume {
    /// An image. Read-only.
    Image(Fingerprint),
    /// An image that this operation is building.
    Staging(OperationId),
    /// The root of a VPS.
    Root(VpsId),
    /// The future root of a VPS, while [`Driver::replace_root`](crate::Driver::replace_root) works.
    Incoming(VpsId),
    /// The old root of a VPS, until its replacement is committed or undone.
    Outgoing(VpsId),
    /// The root of a VPS as it was at a point in time. Read-only.
    Snapshot(VpsId, SnapshotName),
}

pub(crate) const IMAGES: &str = "images";
pub(crate) const STAGING: &str = "staging";
pub(crate) const VPS: &str = "vps";
pub(crate) const SNAPSHOTS: &str = "snapshots";
pub(crate) const ROOT: &str = "root";
pub(crate) const INCOMING: &str = "incoming";
pub(crate) const OUTGOING: &str = "outgoing";

impl Volume {
    /// The VPS that it belongs to, and towards whose limit it counts.
    pub fn vps(&self) -> Option<VpsId> {
        match self {
            Self::Image(_) | Self::Staging(_) => None,
            Self::Root(vps) | Self::Incoming(vps) | Self::Outgoing(vps) | Self::Snapshot(vps, _) => {
                Some(*vps)
            }
        }
    }

    /// Whether nothing may be written to it.
    pub fn is_read_only(&self) -> bool {
        matches!(self, Self::Image(_) | Self::Snapshot(..))
    }

    /// The directory that it is in, relative to the pool.
    pub(crate) fn directory(&self) -> PathBuf {
        match self {
            Self::Image(_) => IMAGES.into(),
            Self::Staging(_) => STAGING.into(),
            Self::Root(vps) | Self::Incoming(vps) | Self::Outgoing(vps) => {
                PathBuf::from(VPS).join(vps.to_string())
            }
            Self::Snapshot(vps, _) => PathBuf::from(SNAPSHOTS).join(vps.to_string()),
        }
    }

    /// Its name in that directory.
    pub(crate) fn file_name(&self) -> String {
        match self {
            Self::Image(fingerprint) => fingerprint.to_string(),
            Self::Staging(operation) => operation.to_string(),
            Self::Root(_) => ROOT.to_owned(),
            Self::Incoming(_) => INCOMING.to_owned(),
            Self::Outgoing(_) => OUTGOING.to_owned(),
            Self::Snapshot(_, name) => name.to_string(),
        }
    }
}

impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(fingerprint) => write!(f, "image {fingerprint}"),
            Self::Staging(operation) => write!(f, "staging volume of operation {operation}"),
            Self::Root(vps) => write!(f, "root of VPS {vps}"),
            Self::Incoming(vps) => write!(f, "incoming root of VPS {vps}"),
            Self::Outgoing(vps) => write!(f, "outgoing root of VPS {vps}"),
            Self::Snapshot(vps, name) => write!(f, "snapshot {name} of VPS {vps}"),
        }
    }
}
