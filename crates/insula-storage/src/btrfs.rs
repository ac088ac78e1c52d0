//! The btrfs driver: a volume is a subvolume, a clone a snapshot, a limit that of a qgroup.
//!
//! All volumes of a VPS are members of one qgroup of level 1, `1/<VpsId::short()>`, which has the limit. So the limit also
//! holds for a guest that is restored and then rewrites everything. Limits and usage are those of *exclusive* bytes. With
//! simple quotas, these are the same as referenced bytes. With classic qgroups, they are what is not shared with an image.
//!
//! The kernel's cleaner frees the space of a deleted subvolume later, and only then do the numbers of its qgroup change. Extents
//! that a snapshot still shares remain with the qgroup of the deleted subvolume that wrote them. So qgroups are removed later
//! ([`BtrfsDriver::reclaim`]). Until then, the directory of the VPS is kept as a note that this has to be done.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use insula_sys::btrfs::{self, QgroupId, SubvolumeInfo};
use insula_types::{ByteSize, VpsId};
use rustix::fs::{RenameFlags, fstat, fstatvfs, renameat_with};

use crate::layout::{Layout, vps_directory};
use crate::replace::{self, Rename};
use crate::{
    Abilities, BlockDevices, DiskLimits, Driver, PoolError, PoolObservation, Volume, VolumeError,
    VolumeUsage, device,
};

/// What enforces limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quota {
    /// Nothing.
    None,
    /// Simple quotas: all that a VPS writes counts, also in subvolumes that its guest makes inside.
    Simple,
    /// Classic qgroups: slow with many clones, and subvolumes that a guest makes inside escape the limit.
    Qgroups,
}

/// The [`Driver`] on a directory of a btrfs file system.
#[derive(Debug)]
pub struct BtrfsDriver {
    layout: Layout,
    quota: Quota,
    /// Held for writing by [`Self::reclaim`], so that it does not remove the qgroup of a volume that is being made.
    reclaiming: RwLock<()>,
}

impl BtrfsDriver {
    /// Opens the pool at `path`, and switches simple quotas on. If the kernel has none, switches classic qgroups on, but only if
    /// `may_scan`: that scans the whole file system.
    pub fn open(path: &Path, may_scan: bool) -> Result<Self, PoolError> {
        let layout = Layout::open(path).map_err(PoolError::io("open the pool", path))?;
        if !is_btrfs(layout.pool()).map_err(PoolError::io("examine", path))? {
            return Err(PoolError::NotBtrfsDirectory(path.to_owned()));
        }
        layout.ensure_directories(&[]).map_err(PoolError::io("make the directories of the pool", path))?;
        let quota = ensure_quota(layout.pool(), may_scan)
            .map_err(|source| PoolError::Quota { pool: path.to_owned(), source })?;
        let driver = Self { layout, quota, reclaiming: RwLock::default() };
        driver.reclaim().map_err(PoolError::io("clean up", path))?;
        Ok(driver)
    }

    fn pool(&self) -> BorrowedFd<'_> {
        self.layout.pool()
    }

    /// Opens the top directory of a volume. `None` if the volume doesn't exist.
    fn subvolume(&self, volume: &Volume, action: &'static str) -> Result<Option<OwnedFd>, VolumeError> {
        let path = volume.directory().join(volume.file_name());
        let not_a_volume = || VolumeError::NotAVolume(self.lasting_path(volume));
        let fd = match self.layout.directory(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(not_a_volume()),
            result => result.map_err(VolumeError::io(action, volume))?,
        };
        match fd.as_ref().map(fstat).transpose() {
            Ok(Some(stat)) if stat.st_ino != btrfs::SUBVOLUME_INODE => Err(not_a_volume()),
            Ok(_) => Ok(fd),
            Err(errno) => Err(VolumeError::io(action, volume)(errno.into())),
        }
    }

    fn existing(&self, volume: &Volume, action: &'static str) -> Result<OwnedFd, VolumeError> {
        self.subvolume(volume, action)?.ok_or_else(|| VolumeError::Missing(volume.clone()))
    }

    fn not_observed(&self, source: io::Error) -> VolumeError {
        VolumeError::Observe { pool: self.layout.path().to_owned(), source }
    }

    /// The qgroup that a volume counts towards, which is made if it is missing. `None` if there is none.
    fn ensure_qgroup(&self, volume: &Volume) -> io::Result<Option<QgroupId>> {
        let Some(vps) = volume.vps().filter(|_| self.quota != Quota::None) else { return Ok(None) };
        let qgroup = vps_qgroup(vps);
        match btrfs::create_qgroup(self.pool(), qgroup) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Some(qgroup)),
        }
    }

    fn snapshot(&self, source: &OwnedFd, to: &Volume) -> io::Result<()> {
        let parent = self.layout.ensure_parent(to)?;
        let qgroup = self.ensure_qgroup(to)?;
        let (name, is_read_only) = (to.file_name(), to.is_read_only());
        btrfs::create_snapshot(source.as_fd(), parent.as_fd(), &name, is_read_only, qgroup)?;
        if self.quota == Quota::Qgroups && qgroup.is_some() {
            // The kernel does not always know the new member's numbers. The limit then holds only after a rescan.
            let status = btrfs::quota_status(self.pool())?;
            if status.is_some_and(|status| !status.consistent) {
                btrfs::rescan_qgroups(self.pool())?;
            }
        }
        Ok(())
    }

    /// Deletes a subvolume and those inside it, the deepest first.
    fn delete(&self, top: u64) -> io::Result<()> {
        let mut ids = vec![top];
        let mut visited = 0;
        while let Some(&id) = ids.get(visited) {
            let children = btrfs::child_subvolumes(self.pool(), id)?;
            if !children.is_empty() {
                // Its children can't be removed from it while it is read-only.
                let subvolume = btrfs::open_subvolume(self.pool(), id)?;
                btrfs::set_readonly(subvolume.as_fd(), false)?;
            }
            ids.extend(children);
            visited += 1;
        }
        ids.iter().rev().try_for_each(|&id| btrfs::delete_subvolume(self.pool(), id))
    }

    /// Removes the qgroups of deleted volumes, if the kernel has emptied them by now, and the directories of VPSes that have
    /// neither volumes nor a qgroup.
    fn reclaim(&self) -> io::Result<()> {
        let _alone = self.reclaiming.write().unwrap_or_else(PoisonError::into_inner);
        if self.quota != Quota::None {
            for qgroup in btrfs::qgroups(self.pool())? {
                let empty = qgroup.id.level() == 0 && qgroup.exclusive_bytes == 0;
                if empty && !btrfs::subvolume_exists(self.pool(), qgroup.id.id())? {
                    self.remove_qgroup(qgroup.id)?;
                }
            }
        }
        for vps in self.layout.vpses_without_volumes()? {
            if self.quota == Quota::None || self.remove_qgroup(vps_qgroup(vps))? {
                self.layout.remove_if_empty(&vps_directory(vps))?;
            }
        }
        Ok(())
    }

    /// Removes a qgroup. `false` while the kernel still needs it. It is no error if there is none.
    fn remove_qgroup(&self, qgroup: QgroupId) -> io::Result<bool> {
        match btrfs::remove_qgroup(self.pool(), qgroup) {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(false),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(true),
        }
    }

    fn observe_pool(&self) -> io::Result<PoolObservation> {
        self.reclaim()?;
        let (volumes, strays) = self.layout.list(&[])?;
        let statistics = fstatvfs(self.pool())?;
        let size = |blocks: u64| ByteSize(blocks.saturating_mul(statistics.f_frsize));
        Ok(PoolObservation {
            volumes,
            strays,
            reclaiming: self.layout.vpses_without_volumes()?,
            total: size(statistics.f_blocks),
            used: size(statistics.f_blocks.saturating_sub(statistics.f_bfree)),
            available: size(statistics.f_bavail),
        })
    }
}

impl Driver for BtrfsDriver {
    fn abilities(&self) -> Abilities {
        let (limits, mechanism) = match self.quota {
            Quota::None => (DiskLimits::None, "none"),
            Quota::Simple => (DiskLimits::Strict, "simple-quotas"),
            Quota::Qgroups => (DiskLimits::Loose, "qgroups"),
        };
        Abilities { instant_copies: true, limits, mechanism, shared_files: true, read_only: true }
    }

    fn block_devices(&self) -> Result<BlockDevices, VolumeError> {
        device::of_btrfs(self.pool()).map_err(|source| self.not_observed(source))
    }

    fn open(&self, volume: &Volume) -> Result<OwnedFd, VolumeError> {
        self.existing(volume, "open")
    }

    fn lasting_path(&self, volume: &Volume) -> PathBuf {
        self.layout.path().join(volume.directory()).join(volume.file_name())
    }

    fn ensure_empty(&self, volume: &Volume) -> Result<bool, VolumeError> {
        const ACTION: &str = "make";
        if self.subvolume(volume, ACTION)?.is_some() {
            return Ok(false);
        }
        let make =
            || btrfs::create_subvolume(self.layout.ensure_parent(volume)?.as_fd(), &volume.file_name());
        make().map_err(VolumeError::io(ACTION, volume))?;
        Ok(true)
    }

    fn ensure_clone(&self, from: &Volume, to: &Volume) -> Result<bool, VolumeError> {
        const ACTION: &str = "clone";
        let source = self.subvolume(from, ACTION)?;
        let failed = VolumeError::io("make", to);
        match (source, self.subvolume(to, ACTION)?) {
            (Some(source), Some(target)) => {
                let info = |fd: &OwnedFd| btrfs::subvolume_info(fd.as_fd()).map_err(&failed);
                match is_snapshot(&info(&target)?, &info(&source)?) {
                    true => Ok(false),
                    false => Err(VolumeError::OtherOrigin { from: from.clone(), to: to.clone() }),
                }
            }
            (None, Some(_)) => Ok(false),
            (None, None) => Err(VolumeError::Missing(from.clone())),
            (Some(source), None) => {
                let _shared = self.reclaiming.read().unwrap_or_else(PoisonError::into_inner);
                self.snapshot(&source, to).map_err(failed).map(|()| true)
            }
        }
    }

    fn ensure_absent(&self, volume: &Volume) -> Result<bool, VolumeError> {
        const ACTION: &str = "remove";
        // The descriptor must be closed first: the kernel's cleaner skips a subvolume that is in use.
        let id =
            self.subvolume(volume, ACTION)?.map(|fd| btrfs::subvolume_info(fd.as_fd()).map(|info| info.id));
        let id = id.transpose().map_err(VolumeError::io(ACTION, volume))?;
        let remove = || {
            if let Some(id) = id {
                self.delete(id)?;
                btrfs::start_commit(self.pool())?;
            }
            if let Volume::Snapshot(..) = volume {
                self.layout.remove_if_empty(&volume.directory())?;
            }
            self.reclaim()
        };
        remove().map_err(VolumeError::io(ACTION, volume))?;
        Ok(id.is_some())
    }

    fn replace_root(&self, vps: VpsId, from: &Volume) -> Result<bool, VolumeError> {
        replace::replace_root(self, vps, from)
    }

    fn commit_replacement(&self, vps: VpsId) -> Result<(), VolumeError> {
        replace::commit_replacement(self, vps)
    }

    fn undo_replacement(&self, vps: VpsId) -> Result<(), VolumeError> {
        replace::undo_replacement(self, vps)
    }

    fn set_limit(&self, vps: VpsId, limit: Option<ByteSize>) -> Result<(), VolumeError> {
        match (self.quota, limit) {
            (Quota::None, None) => return Ok(()),
            (Quota::None, Some(_)) => return Err(VolumeError::NoQuota(vps)),
            _ => {}
        }
        match btrfs::limit_qgroup(self.pool(), vps_qgroup(vps), limit.map(ByteSize::bytes)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(VolumeError::Missing(Volume::Root(vps)))
            }
            result => result.map_err(VolumeError::io("limit", &Volume::Root(vps))),
        }
    }

    fn usage(&self, vps: VpsId) -> Result<VolumeUsage, VolumeError> {
        if self.quota == Quota::None {
            return Ok(VolumeUsage::default());
        }
        let root = Volume::Root(vps);
        let qgroup =
            btrfs::qgroup(self.pool(), vps_qgroup(vps)).map_err(VolumeError::io("measure", &root))?;
        let qgroup = qgroup.ok_or(VolumeError::Missing(root))?;
        let limit = qgroup.max_exclusive_bytes.map(ByteSize);
        Ok(VolumeUsage { used: Some(ByteSize(qgroup.exclusive_bytes)), limit })
    }

    fn observe(&self) -> Result<PoolObservation, VolumeError> {
        self.observe_pool().map_err(|source| self.not_observed(source))
    }
}

impl Rename for BtrfsDriver {
    fn has(&self, volume: &Volume) -> Result<bool, VolumeError> {
        Ok(self.subvolume(volume, "look for")?.is_some())
    }

    fn rename(&self, from: &Volume, to: &Volume) -> Result<(), VolumeError> {
        let rename = || {
            let (from_parent, to_parent) = (self.layout.ensure_parent(from)?, self.layout.ensure_parent(to)?);
            let flags = RenameFlags::NOREPLACE;
            renameat_with(&from_parent, from.file_name(), &to_parent, to.file_name(), flags)?;
            btrfs::wait_for_commit(self.pool(), btrfs::start_commit(self.pool())?)
        };
        rename().map_err(VolumeError::io("rename", from))
    }
}

/// The qgroup that holds the limit of a VPS.
fn vps_qgroup(vps: VpsId) -> QgroupId {
    QgroupId::new(1, vps.short())
}

fn is_snapshot(target: &SubvolumeInfo, source: &SubvolumeInfo) -> bool {
    target.parent_uuid == source.uuid
}

/// Whether a directory is on btrfs.
pub fn is_btrfs(directory: BorrowedFd<'_>) -> io::Result<bool> {
    const BTRFS_SUPER_MAGIC: i64 = 0x9123_683e;
    Ok(rustix::fs::fstatfs(directory)?.f_type == BTRFS_SUPER_MAGIC)
}

/// Switches quotas on if they are off. Returns which kind is on.
fn ensure_quota(pool: BorrowedFd<'_>, may_scan: bool) -> io::Result<Quota> {
    if let Some(status) = btrfs::quota_status(pool)? {
        return Ok(if status.simple { Quota::Simple } else { Quota::Qgroups });
    }
    match btrfs::enable_simple_quota(pool) {
        Ok(()) => return Ok(Quota::Simple),
        Err(error) if error.kind() != io::ErrorKind::InvalidInput => return Err(error),
        Err(_) if !may_scan => return Ok(Quota::None),
        Err(_) => {}
    }
    btrfs::enable_qgroups(pool)?;
    btrfs::rescan_qgroups(pool)?;
    Ok(Quota::Qgroups)
}
