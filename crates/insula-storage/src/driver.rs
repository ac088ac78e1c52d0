//! What a storage driver does, whatever it is made of.
//!
//! The contract is in words of no file system, and asks for nothing that one with another idea of snapshots can't do:
//! where a snapshot belongs to the volume that it was taken of, and a copy depends on its origin, as with ZFS, a driver
//! keeps that to itself. `tests/lineage` is such a driver, and passes the suite of all.

use std::fmt::Debug;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use insula_types::{ByteSize, IdRange, VpsId};

use crate::{BlockDevices, Volume, VolumeError};

/// A storage driver, working on one pool. All calls may come from several threads at once.
///
/// What is there is there completely: a crash leaves no half-made volume behind, at most one that should be absent.
/// Volumes may be removed in any order, whatever was copied from whatever else.
pub trait Driver: Debug + Send + Sync {
    /// What it is able to do on this pool.
    fn abilities(&self) -> Abilities;

    /// The block devices that hold the pool.
    fn block_devices(&self) -> Result<BlockDevices, VolumeError>;

    /// Opens the top directory of a volume. A volume that is open can be removed, but its space does not come back
    /// before the descriptor is closed.
    fn open(&self, volume: &Volume) -> Result<OwnedFd, VolumeError>;

    /// Where a volume is, or would be, for a program that has to find it by itself: the monitor, which boots its guest
    /// again when no agent runs, and mmdebstrap. The path stays good while the host is up, also after a replacement
    /// of the root. Everybody else uses [`Driver::open`].
    fn lasting_path(&self, volume: &Volume) -> PathBuf;

    /// Makes an empty volume, if it isn't there.
    fn ensure_empty(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Makes `to` a copy of `from` as it is now, if `to` isn't there: a root of an image, a root or a snapshot; a
    /// snapshot of the root of the same VPS. A copy that belongs to a VPS counts towards its limit with what is written
    /// to it.
    ///
    /// A `to` that is known to be a copy of something else is an error; `from` may be gone if `to` is there. Where
    /// [`Abilities::instant_copies`] is set it takes milliseconds; volumes that a guest made *inside* of `from` are
    /// empty directories in the copy. Where it is not, nobody may write to `from` meanwhile.
    fn ensure_clone(&self, from: &Volume, to: &Volume) -> Result<bool, VolumeError>;

    /// Removes a volume with everything in it. Its space comes back within a minute, but for what copies still share.
    fn ensure_absent(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Publishes what was built: the image is there at once, read-only and on disk, and the staging volume gone.
    /// An image that is there already stays.
    fn seal(&self, staging: &Volume, image: &Volume) -> Result<(), VolumeError> {
        match self.ensure_clone(staging, image) {
            Ok(_) | Err(VolumeError::OtherOrigin { .. }) => self.ensure_absent(staging).map(drop),
            Err(error) => Err(error),
        }
    }

    /// Puts a copy of `from` in the place of a VPS's root, on disk when it returns. The old root is kept, as
    /// [`Volume::Outgoing`], and so are all snapshots, whichever root they were taken of.
    ///
    /// Nobody may use the root meanwhile. When it is called again, after a crash or an error in its middle, it goes on;
    /// `false` when it was done before.
    fn replace_root(&self, vps: VpsId, from: &Volume) -> Result<bool, VolumeError>;

    /// Ends a replacement for good: the old root goes. Called again, it does nothing.
    fn commit_replacement(&self, vps: VpsId) -> Result<(), VolumeError>;

    /// Takes back a replacement that was done, half done or not begun, but not committed: the root is the old one, and
    /// the copy gone. Called again, it does nothing.
    fn undo_replacement(&self, vps: VpsId) -> Result<(), VolumeError>;

    /// Limits what may be written to all volumes of a VPS together, or lifts the limit. The blocks of the image
    /// don't count. One of them must be there; with the last, the limit goes.
    fn set_limit(&self, vps: VpsId, limit: Option<ByteSize>) -> Result<(), VolumeError>;

    /// What is written to all volumes of a VPS together, up to half a minute old.
    fn usage(&self, vps: VpsId) -> Result<VolumeUsage, VolumeError>;

    /// Looks at everything that is there, after cleaning up what deleted volumes left behind.
    fn observe(&self) -> Result<PoolObservation, VolumeError>;

    /// Where files can't be mapped to the ids of a VPS when they are mounted: what is copied for this VPS from now on has
    /// these ids on disk. Before its root is made; the same again is no error.
    fn set_owner(&self, vps: VpsId, _ids: IdRange) -> Result<(), VolumeError> {
        Err(VolumeError::NoOwners(vps))
    }

    /// The ids that the files of a VPS have on disk; `None` where they are the guest's own, 0 and up.
    fn owner(&self, _vps: VpsId) -> Result<Option<IdRange>, VolumeError> {
        Ok(None)
    }
}

/// What a driver is able to do on its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Copies take milliseconds, share what is equal, and may be made of what is written to meanwhile. Elsewhere a
    /// copy is made file by file.
    pub instant_copies: bool,
    /// How disk limits are enforced.
    pub limits: DiskLimits,
    /// What holds them, in the words of the file system, for people: `none` where nothing does.
    pub mechanism: &'static str,
    /// Single files can be copied by sharing their blocks (`FICLONE`).
    pub shared_files: bool,
    /// Images and snapshots refuse to be written to. Elsewhere nobody but root of the host reaches them.
    pub read_only: bool,
}

/// How limits are held. Later is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskLimits {
    /// Not at all: they are refused.
    None,
    /// With gaps: a guest that means to can write more than it may.
    Loose,
    /// To the byte, whatever a guest does.
    Strict,
}

/// What a VPS has on disk. Both are `None` where the driver can't tell, the limit also where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VolumeUsage {
    /// What was written to its volumes: root and snapshots, without the blocks of the image.
    pub used: Option<ByteSize>,
    /// The limit.
    pub limit: Option<ByteSize>,
}

/// All that is in a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolObservation {
    /// The volumes, sorted.
    pub volumes: Vec<Volume>,
    /// What is no volume of ours, relative to the pool.
    pub strays: Vec<PathBuf>,
    /// VPSes without volumes whose last blocks are still to be freed. No leak: a later look finds them gone.
    pub reclaiming: Vec<VpsId>,
    /// The size of the file system.
    pub total: ByteSize,
    /// The bytes in use.
    pub used: ByteSize,
    /// What may be written until it is full.
    pub available: ByteSize,
}
