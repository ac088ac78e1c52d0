//! Why something about pools and volumes failed.

use std::io;
use std::path::PathBuf;

use insula_sys::program::ProgramError;
use insula_types::{ByteSize, Reason, VpsId};

use crate::Volume;

/// Why a volume could not be made, changed, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It isn't there.
    #[error("{0} does not exist")]
    Missing(Volume),
    /// Something else is in its place.
    #[error("{} exists and is not a volume", .0.display())]
    NotAVolume(PathBuf),
    /// It exists, and was made from something else.
    #[error("{to} exists and is not a clone of {from}")]
    OtherOrigin {
        /// What it should be a clone of.
        from: Volume,
        /// The volume that exists.
        to: Volume,
    },
    /// The pool can't hold a limit.
    #[error("failed to limit the disk of VPS {0}: the pool has no quotas (those of btrfs need Linux 6.7)")]
    NoQuota(VpsId),
    /// The pool can't give files the ids of a VPS.
    #[error(
        "failed to give VPS {0} its files: the kernel can't map the ids of this pool, nor can its driver change them"
    )]
    NoOwners(VpsId),
    /// Something in a volume could not be copied.
    #[error("failed to copy /{} of {from} to {to}", path.display())]
    Copy {
        /// The volume that is copied.
        from: Volume,
        /// The copy.
        to: Volume,
        /// Where it failed, relative to the volume.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("failed to {action} {volume}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The volume.
        volume: Volume,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The pool as a whole could not be read.
    #[error("failed to look into the pool {}", pool.display())]
    Observe {
        /// Its directory.
        pool: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    pub(crate) fn io(action: &'static str, volume: &Volume) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { action, volume: volume.clone(), source }
    }

    /// The kind that programs branch on.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing(Volume::Image(_)) => Reason::ImageNotFound,
            Self::Missing(Volume::Snapshot(..)) => Reason::SnapshotNotFound,
            Self::NoQuota(_) | Self::NoOwners(_) => Reason::FacilityMissing,
            Self::Io { source, .. } | Self::Copy { source, .. }
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                Reason::PoolFull
            }
            _ => Reason::Internal,
        }
    }
}

/// Why a pool could not be opened, created or closed.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// No useful pool is that small.
    #[error("a pool of {size} is too small: it must have at least {least}")]
    TooSmall {
        /// The size that was given.
        size: ByteSize,
        /// The least that is useful.
        least: ByteSize,
    },
    /// The disk that the file would lie on has not enough room.
    #[error("a pool of {size} does not fit on the disk of {}, which has {available} free", file.display())]
    HostDiskTooSmall {
        /// The pool's file.
        file: PathBuf,
        /// The size that was given.
        size: ByteSize,
        /// The space that is free.
        available: ByteSize,
    },
    /// The pool's file holds something else, and is left alone.
    #[error("{} holds no btrfs file system: move it away, or name another file for the pool", .0.display())]
    NotBtrfsFile(PathBuf),
    /// Somebody else has it open.
    #[error("another agent uses the pool {}", .0.display())]
    InUse(PathBuf),
    /// The directory is on another kind of file system.
    #[error("{} is not on a btrfs file system", .0.display())]
    NotBtrfsDirectory(PathBuf),
    /// Something else is mounted where the pool should be.
    #[error("another file system is mounted on {}", .0.display())]
    MountPointTaken(PathBuf),
    /// The file system could not be made.
    #[error("failed to make a btrfs file system in {} (package btrfs-progs is needed)", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// What `mkfs.btrfs` said.
        #[source]
        source: ProgramError,
    },
    /// The kernel has no loop device for the file.
    #[error("failed to bind a loop device to {} (is the kernel's module \"loop\" loaded?)", file.display())]
    LoopDevice {
        /// The file.
        file: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// Quotas could not be switched on.
    #[error("failed to switch on quotas of the pool {}", pool.display())]
    Quota {
        /// Its directory.
        pool: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
}

impl PoolError {
    pub(crate) fn io<E: Into<io::Error>>(action: &'static str, path: &std::path::Path) -> impl Fn(E) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// The kind that programs branch on.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TooSmall { .. } => Reason::InvalidArgument,
            Self::HostDiskTooSmall { .. } => Reason::HostDiskFull,
            Self::Format { source: ProgramError::NotFound { .. }, .. } | Self::LoopDevice { .. } => {
                Reason::FacilityMissing
            }
            _ => Reason::Internal,
        }
    }
}
