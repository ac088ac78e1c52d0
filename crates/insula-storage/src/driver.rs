//! The contract of all storage drivers.
//!
//! It uses the terms of no particular file system, and promises nothing that another idea of snapshots could not keep. With
//! ZFS, for instance, a snapshot belongs to the volume that it was taken of, and a copy depends on its origin. A driver hides
//! that from its caller. `tests/lineage` is such a driver, and passes the suite of all drivers.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use insula_types::{ByteSize, IdRange, VpsId};

use crate::{BlockDevices, Volume, VolumeError};

/// A storage driver, which works on one pool. Several threads may call it at once.
///
/// A volume that exists is complete: a crash leaves no half-made volume, but at most one that should be absent. Volumes may be
/// removed in any order, whichever was copied from which. A method that returns `bool` says whether it changed anything.
///
/// # Errors
/// Every method fails with [`VolumeError`], whose source is the error of the kernel.
pub trait Driver: Debug + Send + Sync {
    /// What the driver is able to do on this pool.
    fn abilities(&self) -> Abilities;

    /// The block devices that hold the pool.
    fn block_devices(&self) -> Result<BlockDevices, VolumeError>;

    /// Opens the top directory of a volume. An open volume can be removed, but its space is freed only after the descriptor was
    /// closed. [`VolumeError::Missing`] if it doesn't exist.
    fn open(&self, volume: &Volume) -> Result<OwnedFd, VolumeError>;

    /// The path where a volume is, or would be. It is for programs that must find a volume by themselves: the monitor, which
    /// may boot its guest again while no agent runs, and mmdebstrap. The path is valid while the host is up, also after a
    /// replacement of the root. All other callers use [`Driver::open`].
    fn lasting_path(&self, volume: &Volume) -> PathBuf;

    /// Makes an empty volume unless the volume exists.
    fn ensure_empty(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Makes `to` a copy of `from` as it is now, unless `to` exists. A root can be copied from an image, a root or a snapshot; a
    /// snapshot only from the root of the same VPS. What is written to a copy counts towards the limit of its VPS.
    ///
    /// If `to` exists, `from` may be gone. With [`Abilities::instant_copies`], a copy takes milliseconds, and volumes that a
    /// guest has made *inside* `from` are empty directories in it. Without, nobody may write to `from` meanwhile.
    /// [`VolumeError::OtherOrigin`] if `to` is known to be a copy of something else.
    fn ensure_clone(&self, from: &Volume, to: &Volume) -> Result<bool, VolumeError>;

    /// Removes a volume with everything in it. Its space is freed within a minute, except for what copies still share.
    fn ensure_absent(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Publishes what was built: makes the staging volume an image, read-only and on disk, and removes the staging volume. If
    /// the image exists, it stays as it is.
    fn seal(&self, staging: &Volume, image: &Volume) -> Result<(), VolumeError> {
        match self.ensure_clone(staging, image) {
            Ok(_) | Err(VolumeError::OtherOrigin { .. }) => self.ensure_absent(staging).map(drop),
            Err(error) => Err(error),
        }
    }

    /// Replaces the root of a VPS by a copy of `from`, which is on disk when this returns. The old root is kept as
    /// [`Volume::Outgoing`], and so are all snapshots, whichever root they were taken of.
    ///
    /// Nobody may use the root meanwhile. After a crash or an error, another call continues. `false` if nothing was left to do.
    fn replace_root(&self, vps: VpsId, from: &Volume) -> Result<bool, VolumeError>;

    /// Makes a replacement final: removes the old root. Another call does nothing.
    fn commit_replacement(&self, vps: VpsId) -> Result<(), VolumeError>;

    /// Undoes a replacement that was done, half done or not begun, but not committed. The root is the old one again, and the
    /// copy is removed. Another call does nothing.
    fn undo_replacement(&self, vps: VpsId) -> Result<(), VolumeError>;

    /// Limits what may be written to all volumes of a VPS together, or lifts the limit with `None`. The blocks of the image don't
    /// count. The VPS must have a volume; when its last one is removed, the limit goes, too. [`VolumeError::NoQuota`] if the
    /// pool can't enforce limits.
    fn set_limit(&self, vps: VpsId, limit: Option<ByteSize>) -> Result<(), VolumeError>;

    /// What was written to all volumes of a VPS together. The numbers may be half a minute old.
    fn usage(&self, vps: VpsId) -> Result<VolumeUsage, VolumeError>;

    /// Looks at everything in the pool, after it has cleaned up what deleted volumes have left.
    fn observe(&self) -> Result<PoolObservation, VolumeError>;

    /// Sets the ids that files have on disk in the volumes that will be copied for this VPS. For hosts whose kernel can't map ids
    /// when it mounts a volume. It must be called before the root is made; another call with the same ids is no error.
    fn set_owner(&self, vps: VpsId, _ids: IdRange) -> Result<(), VolumeError> {
        Err(VolumeError::NoOwners(vps))
    }

    /// The ids that the files of a VPS have on disk. `None` if they are the guest's own, from 0 on.
    fn owner(&self, _vps: VpsId) -> Result<Option<IdRange>, VolumeError> {
        Ok(None)
    }
}

/// What a driver is able to do on its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Copies take milliseconds, share what is equal, and may be made of a volume that is being written to. Without this, a copy
    /// is made file by file.
    pub instant_copies: bool,
    /// How disk limits are enforced.
    pub limits: DiskLimits,
    /// What enforces them, in the file system's own terms, for people. `none` if nothing does.
    pub mechanism: &'static str,
    /// Single files can be copied by sharing their blocks (`FICLONE`).
    pub shared_files: bool,
    /// Nothing can be written to images and snapshots. Without this, they are only out of reach for all but the host's root.
    pub read_only: bool,
}

/// How limits are enforced. A later variant is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLimits {
    /// Not at all. Requests for a limit are refused.
    None,
    /// With gaps: a guest that tries to can write more than its limit.
    Loose,
    /// To the byte, whatever a guest does.
    Strict,
}

/// What a VPS has on disk. A field is `None` if the driver can't tell, and the limit also if there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeUsage {
    /// The bytes that were written to its root and its snapshots, without the blocks of the image.
    pub used: Option<ByteSize>,
    /// The limit in bytes.
    pub limit: Option<ByteSize>,
}

/// All that is in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolObservation {
    /// The volumes, sorted.
    pub volumes: Vec<Volume>,
    /// The paths of files that are no volumes, relative to the pool, sorted.
    pub strays: Vec<PathBuf>,
    /// VPSes without volumes whose last blocks the kernel has yet to free. They are no leak: a later look finds them gone.
    pub reclaiming: Vec<VpsId>,
    /// The size of the file system.
    pub total: ByteSize,
    /// The bytes in use.
    pub used: ByteSize,
    /// The bytes that can be written until it is full.
    pub available: ByteSize,
}
