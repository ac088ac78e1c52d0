//! The errors of pools and volumes.

use std::io;
use std::path::PathBuf;

use insula_sys::program::ProgramError;
use insula_types::{ByteSize, Reason, VpsId};

use crate::Volume;

/// Why a volume could not be made, changed, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The volume doesn't exist.
    #[error("{0} does not exist")]
    Missing(Volume),
    /// Something that is no volume has its path.
    #[error("{} exists and is not a volume", .0.display())]
    NotAVolume(PathBuf),
    /// The volume exists, but is a copy of something else.
    #[error("{to} exists and is not a clone of {from}")]
    OtherOrigin {
        /// What it should be a clone of.
        from: Volume,
        /// The volume that exists.
        to: Volume,
    },
    /// The pool can't enforce a limit.
    #[error("failed to limit the disk of VPS {0}: the pool has no quotas (those of btrfs need Linux 6.7)")]
    NoQuota(VpsId),
    /// The pool can't give files the ids of a VPS.
    #[error(
        "failed to give VPS {0} its files: the kernel can't map the ids of this pool, nor can its driver change them"
    )]
    NoOwners(VpsId),
    /// A file of a volume could not be copied.
    #[error("failed to copy /{} of {from} to {to}", path.display())]
    Copy {
        /// The volume that is copied.
        from: Volume,
        /// The copy.
        to: Volume,
        /// The path of the file, relative to the volume.
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
        /// The requested size.
        size: ByteSize,
        /// The smallest size that is accepted.
        least: ByteSize,
    },
    /// The disk of the host has not enough space for the pool's file.
    #[error("a pool of {size} does not fit on the disk of {}, which has {available} free", file.display())]
    HostDiskTooSmall {
        /// The pool's file.
        file: PathBuf,
        /// The requested size.
        size: ByteSize,
        /// The free space.
        available: ByteSize,
    },
    /// The pool's file has something else in it, and is left as it is.
    #[error("{} holds no btrfs file system: move it away, or name another file for the pool", .0.display())]
    NotBtrfsFile(PathBuf),
    /// Another agent has the pool open.
    #[error("another agent uses the pool {}", .0.display())]
    InUse(PathBuf),
    /// The directory is not on btrfs.
    #[error("{} is not on a btrfs file system", .0.display())]
    NotBtrfsDirectory(PathBuf),
    /// Something else is mounted on the pool's mount point.
    #[error("another file system is mounted on {}", .0.display())]
    MountPointTaken(PathBuf),
    /// `mkfs.btrfs` failed.
    #[error("failed to make a btrfs file system in {} (package btrfs-progs is needed)", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// How `mkfs.btrfs` failed, with its output.
        #[source]
        source: ProgramError,
    },
    /// No loop device could be bound to the pool's file.
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
        /// The file or directory that it was done to.
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
