//! The driver for any file system: a volume is a directory, a clone is a copy of all files, and there are no limits.
//!
//! ```text
//! <path of the volume>/      accessible only to root
//!     note                   the volume's own name, unique for all time, and that of the volume that it was copied from
//!     tree/                  the volume
//! unfinished/                volumes that are being made; renamed when they are whole and on disk
//! removed/                   volumes that are being removed; moved here at once, and then emptied
//! owners/<id>                the ids that the files of a VPS have on disk, if these are not the guest's own
//! ```
//!
//! So a volume appears and disappears by one rename, together with its note, and whenever the agent may be stopped. What is
//! left in `unfinished` and `removed` is removed when the pool is opened: a lock on the pool excludes other users.

mod copy;
mod note;
mod owner;
mod remove;
mod shift;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use insula_sys::walk::names;
use insula_types::{ByteSize, IdRange, VpsId};
use rustix::fs::{
    AtFlags, FlockOperation, Gid, Mode, OFlags, RenameFlags, Uid, chmodat, chownat, flock, fstatvfs, fsync,
    ioctl_ficlone, mkdirat, openat, renameat, renameat_with, syncfs, unlinkat,
};
use rustix::io::Errno;

use crate::btrfs::is_btrfs;
use crate::layout::{Layout, vps_directory};
use crate::replace::{self, Rename};
use crate::{
    Abilities, BlockDevices, DiskLimits, Driver, PoolError, PoolObservation, Volume, VolumeError,
    VolumeUsage, device,
};

use copy::copy_tree;
use note::{Note, unique};
use owner::{read_owner, remove_owner, write_owner};
use remove::remove_tree;
use shift::IdShift;

const TREE: &str = "tree";
/// The directory for the hard links of a volume that is being copied: [`copy_tree`].
const LINKS: &str = "links";

const UNFINISHED: &str = "unfinished";
const REMOVED: &str = "removed";
const OWNERS: &str = "owners";
const OWN: [&str; 3] = [UNFINISHED, REMOVED, OWNERS];

/// The [`Driver`] on a directory of any file system.
#[derive(Debug)]
pub struct DirDriver {
    layout: Layout,
    shared_files: bool,
    /// Held for writing while directories of VPSes without volumes are removed, so that none is removed that is about to be used.
    reclaiming: RwLock<()>,
}

impl DirDriver {
    /// Opens the pool at `path`, locks it, and removes what a dead agent has left. [`PoolError::InUse`] if another agent has it.
    pub fn open(path: &Path) -> Result<Self, PoolError> {
        let layout = Layout::open(path).map_err(PoolError::io("open the pool", path))?;
        match flock(layout.pool(), FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(PoolError::InUse(path.to_owned())),
            result => result.map_err(PoolError::io("lock", path))?,
        }
        layout.ensure_directories(&OWN).map_err(PoolError::io("make the directories of the pool", path))?;
        let mut driver = Self { layout, shared_files: false, reclaiming: RwLock::default() };
        driver.clean_up().map_err(PoolError::io("clean up", path))?;
        driver.shared_files = driver.observe_shared_files().map_err(PoolError::io("write to", path))?;
        Ok(driver)
    }

    /// Removes what a dead agent has left.
    fn clean_up(&self) -> io::Result<()> {
        for name in [UNFINISHED, REMOVED] {
            let directory = self.own(name)?;
            for left in names(&directory)? {
                remove_tree(directory.as_fd(), &left)?;
            }
        }
        let owners = self.own(OWNERS)?;
        for name in names(&owners)? {
            let vps = name.to_str().ok().and_then(|name| name.parse::<VpsId>().ok());
            if vps.is_none_or(|vps| self.layout.directory(&vps_directory(vps)).ok().flatten().is_none()) {
                unlinkat(&owners, &name, AtFlags::empty())?;
            }
        }
        self.reclaim()
    }

    /// Finds out by trying whether files can share their blocks.
    fn observe_shared_files(&self) -> io::Result<bool> {
        let unfinished = self.own(UNFINISHED)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
        let open = |name| openat(&unfinished, name, flags, Mode::RUSR | Mode::WUSR);
        let (one, other) = (File::from(open("one")?), open("other")?);
        (&one).write_all(&[1; 4096])?;
        let is_shared = ioctl_ficlone(&other, &one).is_ok();
        unlinkat(&unfinished, "one", AtFlags::empty())?;
        unlinkat(&unfinished, "other", AtFlags::empty())?;
        Ok(is_shared)
    }

    /// Opens one of the driver's own directories.
    fn own(&self, name: &str) -> io::Result<OwnedFd> {
        self.layout.directory(Path::new(name))?.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens the directory that holds the note and the tree of a volume. `None` if the volume doesn't exist.
    fn holder(&self, volume: &Volume, action: &'static str) -> Result<Option<OwnedFd>, VolumeError> {
        let path = volume.directory().join(volume.file_name());
        let not_a_volume = || VolumeError::NotAVolume(self.layout.path().join(&path));
        let is_other = |error: &io::Error| {
            error.kind() == io::ErrorKind::NotADirectory
                || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
        };
        match self.layout.directory(&path) {
            Err(error) if is_other(&error) => Err(not_a_volume()),
            Ok(Some(holder)) => match open_directory(&holder, TREE) {
                Ok(_) => Ok(Some(holder)),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(not_a_volume()),
                Err(errno) => Err(VolumeError::io(action, volume)(errno.into())),
            },
            result => result.map_err(VolumeError::io(action, volume)),
        }
    }

    /// Makes a volume, whole or not at all. `fill` gets its empty tree, and an empty directory for hard links.
    fn make(
        &self,
        volume: &Volume,
        origin: &str,
        fill: impl FnOnce(OwnedFd, &OwnedFd) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        let failed = VolumeError::io("make", volume);
        let name = unfinished_name(volume);
        let begin = || -> io::Result<_> {
            let unfinished = self.own(UNFINISHED)?;
            remove_tree(unfinished.as_fd(), &name)?; // of an interrupted attempt
            mkdirat(&unfinished, &name, Mode::RWXU)?;
            let holder = open_directory(&unfinished, &name)?;
            Note::new(origin)?.write(&holder)?;
            mkdirat(&holder, TREE, Mode::RWXU)?;
            mkdirat(&holder, LINKS, Mode::RWXU)?;
            Ok((unfinished, open_directory(&holder, TREE)?, open_directory(&holder, LINKS)?, holder))
        };
        let (unfinished, tree, links, holder) = begin().map_err(&failed)?;
        let publish = || -> io::Result<()> {
            unlinkat(&holder, LINKS, AtFlags::REMOVEDIR)?;
            syncfs(&holder)?;
            self.put(&unfinished, &name, volume)
        };
        let made = fill(tree, &links).and_then(|()| publish().map_err(&failed));
        if made.is_err() {
            // The other error matters more. The next attempt removes what is left.
            let _ = remove_tree(unfinished.as_fd(), &name);
        }
        made
    }

    /// Moves the directory that holds a volume to its place. The move is on disk when this returns.
    fn put(&self, from: &OwnedFd, name: &CString, volume: &Volume) -> io::Result<()> {
        let _shared = self.reclaiming.read().unwrap_or_else(PoisonError::into_inner);
        let parent = self.layout.ensure_parent(volume)?;
        renameat_with(from, name, &parent, volume.file_name(), RenameFlags::NOREPLACE)?;
        Ok(fsync(&parent)?)
    }

    /// Removes the directories of VPSes without volumes, and the notes of their ids.
    fn reclaim(&self) -> io::Result<()> {
        let _alone = self.reclaiming.write().unwrap_or_else(PoisonError::into_inner);
        for vps in self.layout.vpses_without_volumes()? {
            remove_owner(&self.own(OWNERS)?, vps)?;
            self.layout.remove_if_empty(&vps_directory(vps))?;
        }
        Ok(())
    }

    fn remove(&self, volume: &Volume) -> io::Result<()> {
        let (parent, removed) = (self.layout.ensure_parent(volume)?, self.own(REMOVED)?);
        let name = CString::new(unique()?)?;
        renameat(&parent, volume.file_name(), &removed, &name)?;
        remove_tree(removed.as_fd(), &name)
    }

    /// The ids that the files of a volume have on disk. `None` if they are the guest's own.
    fn owner_of(&self, volume: &Volume) -> io::Result<Option<IdRange>> {
        volume.vps().map_or(Ok(None), |vps| read_owner(&self.own(OWNERS)?, vps))
    }

    fn not_observed(&self, source: io::Error) -> VolumeError {
        VolumeError::Observe { pool: self.layout.path().to_owned(), source }
    }

    fn observe_pool(&self) -> io::Result<PoolObservation> {
        self.reclaim()?;
        let (volumes, strays) = self.layout.list(&OWN)?;
        let statistics = fstatvfs(self.layout.pool())?;
        let size = |blocks: u64| ByteSize(blocks.saturating_mul(statistics.f_frsize));
        Ok(PoolObservation {
            volumes,
            strays,
            reclaiming: vec![],
            total: size(statistics.f_blocks),
            used: size(statistics.f_blocks.saturating_sub(statistics.f_bfree)),
            available: size(statistics.f_bavail),
        })
    }
}

impl Driver for DirDriver {
    fn abilities(&self) -> Abilities {
        Abilities {
            instant_copies: false,
            limits: DiskLimits::None,
            mechanism: "none",
            shared_files: self.shared_files,
            read_only: false,
        }
    }

    fn block_devices(&self) -> Result<BlockDevices, VolumeError> {
        let devices = match is_btrfs(self.layout.pool()) {
            Ok(true) => device::of_btrfs(self.layout.pool()),
            Ok(false) => device::of_directory(self.layout.pool()),
            Err(error) => Err(error),
        };
        devices.map_err(|source| self.not_observed(source))
    }

    fn open(&self, volume: &Volume) -> Result<OwnedFd, VolumeError> {
        let holder = self.holder(volume, "open")?.ok_or_else(|| VolumeError::Missing(volume.clone()))?;
        open_directory(&holder, TREE).map_err(|errno| VolumeError::io("open", volume)(errno.into()))
    }

    fn lasting_path(&self, volume: &Volume) -> PathBuf {
        self.layout.path().join(volume.directory()).join(volume.file_name()).join(TREE)
    }

    fn ensure_empty(&self, volume: &Volume) -> Result<bool, VolumeError> {
        if self.holder(volume, "make")?.is_some() {
            return Ok(false);
        }
        self.make(volume, "", |tree, _| {
            let finish = || -> io::Result<()> {
                let start = self.owner_of(volume)?.map_or(0, |ids| ids.start);
                let (uid, gid) = (Uid::from_raw(start), Gid::from_raw(start));
                chownat(&tree, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
                Ok(chmodat(&tree, ".", Mode::from_raw_mode(0o755), AtFlags::empty())?)
            };
            finish().map_err(VolumeError::io("make", volume))
        })
        .map(|()| true)
    }

    fn ensure_clone(&self, from: &Volume, to: &Volume) -> Result<bool, VolumeError> {
        const ACTION: &str = "clone";
        let note = |holder: &OwnedFd, volume| {
            Note::read(holder).map_err(VolumeError::io("read the note of", volume))
        };
        match (self.holder(from, ACTION)?, self.holder(to, ACTION)?) {
            (Some(source), Some(target)) => match note(&target, to)?.origin == note(&source, from)?.name {
                true => Ok(false),
                false => Err(VolumeError::OtherOrigin { from: from.clone(), to: to.clone() }),
            },
            (None, Some(_)) => Ok(false),
            (None, None) => Err(VolumeError::Missing(from.clone())),
            (Some(source), None) => {
                let failed = VolumeError::io("read", from);
                let tree = open_directory(&source, TREE).map_err(|errno| failed(errno.into()))?;
                let shift = IdShift::between(
                    self.owner_of(from).map_err(&failed)?,
                    self.owner_of(to).map_err(&failed)?,
                );
                self.make(to, &note(&source, from)?.name, |target, links| {
                    copy_tree(tree, target, links.as_fd(), shift).map_err(|error| VolumeError::Copy {
                        from: from.clone(),
                        to: to.clone(),
                        path: error.path,
                        source: error.source,
                    })
                })?;
                Ok(true)
            }
        }
    }

    fn ensure_absent(&self, volume: &Volume) -> Result<bool, VolumeError> {
        const ACTION: &str = "remove";
        let is_there = self.holder(volume, ACTION)?.is_some();
        let remove = || {
            if is_there {
                self.remove(volume)?;
            }
            if let Volume::Snapshot(..) = volume {
                self.layout.remove_if_empty(&volume.directory())?;
            }
            self.reclaim()
        };
        remove().map_err(VolumeError::io(ACTION, volume))?;
        Ok(is_there)
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
        match limit {
            None => Ok(()),
            Some(_) => Err(VolumeError::NoQuota(vps)),
        }
    }

    fn usage(&self, _vps: VpsId) -> Result<VolumeUsage, VolumeError> {
        Ok(VolumeUsage::default())
    }

    fn observe(&self) -> Result<PoolObservation, VolumeError> {
        self.observe_pool().map_err(|source| self.not_observed(source))
    }

    fn seal(&self, staging: &Volume, image: &Volume) -> Result<(), VolumeError> {
        let failed = VolumeError::io("publish", image);
        let Some(holder) = self.holder(staging, "publish")? else {
            let is_there = self.holder(image, "publish")?.is_some();
            return is_there.then_some(()).ok_or_else(|| VolumeError::Missing(staging.clone()));
        };
        if self.holder(image, "publish")?.is_none() {
            syncfs(&holder).map_err(|errno| failed(errno.into()))?;
            drop(holder);
            return self.rename(staging, image);
        }
        self.ensure_absent(staging).map(drop)
    }

    fn set_owner(&self, vps: VpsId, ids: IdRange) -> Result<(), VolumeError> {
        let root = Volume::Root(vps);
        let failed = VolumeError::io("note the owner of", &root);
        if self.owner_of(&root).map_err(&failed)? == Some(ids) {
            return Ok(());
        }
        if self.holder(&root, "look for")?.is_some() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let write = || write_owner(&self.own(OWNERS)?, &self.own(UNFINISHED)?, vps, ids);
        write().map_err(failed)
    }

    fn owner(&self, vps: VpsId) -> Result<Option<IdRange>, VolumeError> {
        let root = Volume::Root(vps);
        self.owner_of(&root).map_err(VolumeError::io("read the owner of", &root))
    }
}

impl Rename for DirDriver {
    fn has(&self, volume: &Volume) -> Result<bool, VolumeError> {
        Ok(self.holder(volume, "look for")?.is_some())
    }

    fn rename(&self, from: &Volume, to: &Volume) -> Result<(), VolumeError> {
        let rename = || {
            let parent = self.layout.ensure_parent(from)?;
            self.put(&parent, &CString::new(from.file_name())?, to)?;
            Ok(fsync(&parent)?)
        };
        rename().map_err(VolumeError::io("rename", from))
    }
}

fn open_directory(parent: &OwnedFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// The name of a volume that is being made. Each volume has one, so that a second attempt finds what the first has left.
fn unfinished_name(volume: &Volume) -> CString {
    let path = volume.directory().join(volume.file_name());
    CString::new(path.to_string_lossy().replace('/', "+")).unwrap_or_default() // ids and names have no zero byte
}
