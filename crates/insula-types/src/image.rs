//! Images: what is known of one, its init and its architecture.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::{ByteSize, Fingerprint, ImageAlias, PoolName};

/// The kind of a guest's init: which signals it understands, and how it reports that the guest has booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitKind {
    /// systemd(1).
    Systemd,
    /// init(8) of sysvinit; `/etc/inittab` decides what runs the services.
    Sysvinit,
    /// openrc-init(8).
    OpenRc,
    /// runit(8).
    Runit,
    /// The init of busybox(1).
    Busybox,
}

impl InitKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Systemd, Self::Sysvinit, Self::OpenRc, Self::Runit, Self::Busybox];
}

impl fmt::Display for InitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Systemd => "systemd",
            Self::Sysvinit => "sysvinit",
            Self::OpenRc => "openrc",
            Self::Runit => "runit",
            Self::Busybox => "busybox",
        })
    }
}

/// A processor architecture, by Debian's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// The architecture of this program, and therefore of its host.
    pub const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        })
    }
}

/// An image of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// The SHA-256 of its content, which is also its name in the pool.
    pub fingerprint: Fingerprint,
    /// The pool that holds it.
    pub pool: PoolName,
    /// The names that point to it.
    pub aliases: Vec<ImageAlias>,
    /// One line for people.
    pub description: String,
    /// The distribution, `debian`.
    pub distribution: String,
    /// The release, `12`.
    pub release: String,
    /// The processors that it runs on.
    pub architecture: Architecture,
    /// The init that it boots.
    pub init: InitKind,
    /// The bytes of all its files together.
    pub size: ByteSize,
    /// The SHA-256 of the definition that it was built from: the same definition needs no second build.
    pub definition: Fingerprint,
    /// When it was built: seconds since 1970, UTC.
    pub created_at: i64,
}
