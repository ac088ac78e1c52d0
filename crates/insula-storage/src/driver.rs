//! What a storage driver does, whatever it is made of.

use std::fmt::Debug;
use std::path::PathBuf;

use insula_types::{ByteSize, IdRange, VpsId};

use crate::{Volume, VolumeError};

/// A storage driver, working on one pool. All calls may come from several threads at once.
///
/// What is there is there completely: a crash leaves no half-made volume behind, at most one that should be absent.
pub trait Driver: Debug + Send + Sync {
    /// What it is able to on this pool.
    fn abilities(&self) -> Abilities;

    /// Where a volume is, or would be.
    fn path(&self, volume: &Volume) -> PathBuf;

    /// Makes an empty volume, if it isn't there.
    fn ensure_empty(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Makes `to` a copy of `from` as it is now, if `to` isn't there. A copy that belongs to a VPS counts into its
    /// limit with what is written to it.
    ///
    /// A `to` that is known to be a copy of something else is an error; `from` may be gone if `to` is there. Where
    /// [`Abilities::snapshots`] is set it takes milliseconds; volumes that a guest made *inside* of `from` are empty
    /// directories in the copy. Where it is not, nobody may write to `from` meanwhile.
    fn ensure_clone(&self, from: &Volume, to: &Volume, readonly: bool) -> Result<bool, VolumeError>;

    /// Removes a volume with everything in it. Its space comes back within a minute.
    fn ensure_absent(&self, volume: &Volume) -> Result<bool, VolumeError>;

    /// Gives a volume another name of the same VPS, on disk when it returns. `false` when that was done before: `from`
    /// is gone and `to` is there. A `to` beside `from` is an error.
    fn ensure_renamed(&self, from: &Volume, to: &Volume) -> Result<bool, VolumeError>;

    /// Limits what may be written to all volumes of a VPS together, or lifts the limit. The blocks of the image
    /// don't count. One of them must be there; with the last, the limit goes.
    fn set_limit(&self, vps: VpsId, limit: Option<ByteSize>) -> Result<(), VolumeError>;

    /// What is written to all volumes of a VPS together, up to half a minute old.
    fn usage(&self, vps: VpsId) -> Result<VolumeUsage, VolumeError>;

    /// Looks at everything that is there, after cleaning up what deleted volumes left behind.
    fn observe(&self) -> Result<PoolObservation, VolumeError>;

    /// Publishes what was built: the image is there at once, read-only and on disk, and the staging volume gone.
    /// An image that is there already stays.
    fn seal(&self, staging: &Volume, image: &Volume) -> Result<(), VolumeError> {
        match self.ensure_clone(staging, image, true) {
            Ok(_) | Err(VolumeError::OtherOrigin { .. }) => self.ensure_absent(staging).map(drop),
            Err(error) => Err(error),
        }
    }

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

/// What a driver is able to on its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Clones and snapshots are instant and share their blocks.
    pub snapshots: bool,
    /// How limits are held.
    pub quota: QuotaKind,
    /// Single files can be copied by sharing their blocks (`FICLONE`).
    pub reflink: bool,
    /// Images and snapshots refuse to be written to. Elsewhere nobody but root of the host reaches them.
    pub read_only: bool,
}

/// How limits are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaKind {
    /// Not at all.
    None,
    /// btrfs simple quotas: what a VPS writes counts, also in subvolumes that its guest makes inside.
    Simple,
    /// btrfs qgroups: slow with many clones, and subvolumes that a guest makes inside escape the limit.
    Qgroups,
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
    /// VPSes without volumes whose last blocks the kernel is still freeing. No leak: a later look finds them gone.
    pub reclaiming: Vec<VpsId>,
    /// The size of the file system.
    pub total: ByteSize,
    /// What is taken.
    pub used: ByteSize,
    /// What may be written until it is full.
    pub available: ByteSize,
}
