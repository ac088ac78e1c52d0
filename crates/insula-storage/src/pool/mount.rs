//! Binds the file of a pool to a loop device, and mounts the device.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use insula_sys::btrfs::filesystem_uuid;
use insula_sys::loopdev::{self, LoopDevice};
use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, flock, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::file::read_uuid;
use crate::PoolError;
use crate::btrfs::is_btrfs;

/// Mounts the file on the mount point, unless it is mounted there already.
pub fn ensure_mounted(file: &Path, mount_point: &Path) -> Result<bool, PoolError> {
    let handle = OpenOptions::new().read(true).write(true).open(file).map_err(PoolError::io("open", file))?;
    let uuid = read_uuid(&handle).map_err(PoolError::io("read", file))?;
    let uuid = uuid.ok_or_else(|| PoolError::NotBtrfsFile(file.to_owned()))?;
    flock(&handle, FlockOperation::LockExclusive).map_err(PoolError::io("lock", file))?;
    if let Some(mounted) = observe_mounted(mount_point).map_err(PoolError::io("examine", mount_point))? {
        return match mounted == uuid {
            true => Ok(false),
            false => Err(PoolError::MountPointTaken(mount_point.to_owned())),
        };
    }
    let device = loop_device(file, &handle, uuid)
        .map_err(|source| PoolError::LoopDevice { file: file.to_owned(), source })?;
    // With this option, the file shrinks again when volumes are deleted.
    mount(device.path(), mount_point, "btrfs", MountFlags::NOATIME, c"discard=async")
        .map_err(PoolError::io("mount the pool on", mount_point))?;
    Ok(true)
}

/// The UUID of the btrfs that is mounted on a directory. Zeros if another file system is; `None` if nothing is mounted there.
fn observe_mounted(mount_point: &Path) -> io::Result<Option<[u8; 16]>> {
    let attributes = statx(CWD, mount_point, AtFlags::empty(), StatxFlags::empty())?.stx_attributes;
    if !attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Ok(None);
    }
    let directory = File::open(mount_point)?;
    match is_btrfs(directory.as_fd())? {
        true => filesystem_uuid(directory.as_fd()).map(Some),
        false => Ok(Some([0; 16])),
    }
}

/// The loop device that is bound to the file, or a new one if there is none. It may be mounted elsewhere, or about to become
/// free.
fn loop_device(file: &Path, handle: &File, uuid: [u8; 16]) -> io::Result<LoopDevice> {
    let inode = handle.metadata()?.ino();
    for device in loopdev::bound()? {
        if device.backing_inode().ok() == Some(inode) && read_uuid(device.file()).ok().flatten() == Some(uuid)
        {
            return Ok(device);
        }
    }
    // The device keeps this handle for as long as it is bound. So it gets one of its own, without our lock.
    loopdev::attach(OpenOptions::new().read(true).write(true).open(file)?.as_fd())
}

/// Unmounts what is mounted on a directory. `false` if nothing is.
pub fn ensure_unmounted(mount_point: &Path) -> Result<bool, PoolError> {
    match unmount(mount_point, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(errno) => Err(PoolError::io("unmount", mount_point)(errno)),
    }
}
