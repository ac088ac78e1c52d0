//! Images: what the database and the pool record about each.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::{ByteSize, Fingerprint, ImageAlias, PoolName};

/// The init of a guest. It decides which signals the guest understands and how the guest reports
/// that it has booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitKind {
    /// systemd(1).
    Systemd,
    /// init(8) of sysvinit, as `/etc/inittab` shows, with any manager of services.
    Sysvinit,
    /// openrc-init(8).
    OpenRc,
    /// runit(8).
    Runit,
    /// The init of busybox(1).
    Busybox,
}

impl InitKind {
    /// All kinds of init.
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

/// A processor architecture, under Debian's name for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// The architecture of this program, and so of the host that it runs on.
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

/// An image in a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// The SHA-256 of the image's content, which is also its name in the pool.
    pub fingerprint: Fingerprint,
    /// The pool that holds the image.
    pub pool: PoolName,
    /// The aliases that point to the image.
    pub aliases: Vec<ImageAlias>,
    /// A description of one line, for people.
    pub description: String,
    /// The distribution, such as `debian`.
    pub distribution: String,
    /// The distribution's release, such as `12`.
    pub release: String,
    /// The architecture that the image's programs are built for.
    pub architecture: Architecture,
    /// The init that the image boots.
    pub init: InitKind,
    /// The total size of all its files, in bytes.
    pub size: ByteSize,
    /// The SHA-256 of the definition that the image was built from. The same definition needs no
    /// second build.
    pub definition: Fingerprint,
    /// When the image was built, in seconds since 1970, UTC.
    pub created_at: i64,
}
