//! Subvolumes and snapshots (btrfs-subvolume(8)).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::quota::QgroupId;
use super::search::{Key, search};
use super::wire::{self, QGROUP_INHERIT, SPEC_BY_ID, SUBVOLUME_READONLY, VolumeArgs};

/// The inode number of the top directory of every subvolume (`BTRFS_FIRST_FREE_OBJECTID`).
pub const SUBVOLUME_INODE: u64 = 256;

const ROOT_TREE: u64 = 1;
const ROOT_ITEM_KEY: u8 = 132;
const ROOT_REF_KEY: u8 = 156;
/// `BTRFS_ORPHAN_OBJECTID`.
const ORPHANS: u64 = (-5_i64).cast_unsigned();
const ORPHAN_ITEM_KEY: u8 = 48;

/// What the kernel knows of a subvolume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubvolumeInfo {
    /// Its id, which no other subvolume of the file system has or had.
    pub id: u64,
    /// Whether nothing in it can be changed.
    pub readonly: bool,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// The UUID of the subvolume that it is a snapshot of. Zeros if it is no snapshot.
    pub parent_uuid: [u8; 16],
}

/// Creates an empty subvolume `name` in the directory `parent`.
pub fn create_subvolume(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let arguments = volume_args(name)?;
    // SAFETY: the kernel reads one structure of this type.
    unsafe { wire::subvolume_create_v2(parent.as_raw_fd(), &*arguments) }?;
    Ok(())
}

/// Creates the snapshot `name` of `subvolume` in the directory `parent`, as a member of `qgroup`.
///
/// The snapshot appears whole or not at all, and is on disk when this returns. Subvolumes inside `subvolume` are empty
/// directories in the snapshot.
pub fn create_snapshot(
    subvolume: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &str,
    readonly: bool,
    qgroup: Option<QgroupId>,
) -> io::Result<()> {
    let inherit = qgroup.map(|qgroup| wire::QgroupInherit {
        qgroup_count: 1,
        qgroup: qgroup.as_raw(),
        ..Default::default()
    });
    let mut arguments = volume_args(name)?;
    arguments.fd = i64::from(subvolume.as_raw_fd());
    if readonly {
        arguments.flags |= SUBVOLUME_READONLY;
    }
    if let Some(inherit) = &inherit {
        arguments.flags |= QGROUP_INHERIT;
        arguments.size = size_of_val(inherit) as u64;
        arguments.inherit = std::ptr::from_ref(inherit) as u64;
    }
    // SAFETY: the kernel reads one structure of this type, and `size` bytes where `inherit` points to, which lives.
    unsafe { wire::snapshot_create_v2(parent.as_raw_fd(), &*arguments) }?;
    Ok(())
}

/// Deletes the subvolume with this id, wherever it is. `DirectoryNotEmpty` while there are subvolumes inside it.
///
/// The kernel's cleaner frees its space after the next commit.
pub fn delete_subvolume(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let mut arguments = volume_args("")?;
    arguments.flags = SPEC_BY_ID;
    arguments.name[..8].copy_from_slice(&id.to_ne_bytes());
    // SAFETY: the kernel reads one structure of this type.
    unsafe { wire::snapshot_destroy_v2(filesystem.as_raw_fd(), &*arguments) }?;
    Ok(())
}

fn volume_args(name: &str) -> io::Result<Box<VolumeArgs>> {
    let mut arguments = Box::new(VolumeArgs {
        fd: 0,
        transid: 0,
        flags: 0,
        size: 0,
        inherit: 0,
        unused: [0; 2],
        name: [0; 4040],
    });
    if name.len() > 255 || name.contains(['/', '\0']) {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    arguments.name[..name.len()].copy_from_slice(name.as_bytes());
    Ok(arguments)
}

/// Makes a subvolume read-only or writable.
pub fn set_readonly(subvolume: BorrowedFd<'_>, readonly: bool) -> io::Result<()> {
    let mut flags = 0;
    // SAFETY: the kernel writes one u64.
    unsafe { wire::subvolume_get_flags(subvolume.as_raw_fd(), &mut flags) }?;
    match readonly {
        true => flags |= SUBVOLUME_READONLY,
        false => flags &= !SUBVOLUME_READONLY,
    }
    // SAFETY: the kernel reads one u64.
    unsafe { wire::subvolume_set_flags(subvolume.as_raw_fd(), &flags) }?;
    Ok(())
}

/// Reads what the kernel knows of the subvolume that a directory is in.
pub fn subvolume_info(directory: BorrowedFd<'_>) -> io::Result<SubvolumeInfo> {
    let mut arguments = Box::new(wire::SubvolumeInfoArgs {
        id: 0,
        name: [0; 256],
        parent_id: 0,
        directory_id: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        times: [0; 12],
        reserved: [0; 8],
    });
    // SAFETY: the kernel writes one structure of this type.
    unsafe { wire::get_subvolume_info(directory.as_raw_fd(), &mut *arguments) }?;
    Ok(SubvolumeInfo {
        id: arguments.id,
        readonly: arguments.flags & 1 != 0,
        uuid: arguments.uuid,
        parent_uuid: arguments.parent_uuid,
    })
}

/// The ids of the subvolumes directly inside the subvolume with this id. They are read from the tree of roots; no path is
/// looked up.
pub fn child_subvolumes(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<Vec<u64>> {
    let first = Key { objectid: id, kind: ROOT_REF_KEY, offset: 0 };
    let mut children = vec![];
    search(filesystem, ROOT_TREE, first, Key { offset: u64::MAX, ..first }, |key, _| {
        children.push(key.offset)
    })?;
    Ok(children)
}

/// Whether there is a subvolume with this id. One that was deleted counts until the kernel's cleaner has removed it.
pub fn subvolume_exists(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<bool> {
    let first = Key { objectid: id, kind: ROOT_ITEM_KEY, offset: 0 };
    let mut exists = false;
    search(filesystem, ROOT_TREE, first, Key { offset: u64::MAX, ..first }, |_, _| exists = true)?;
    Ok(exists)
}

/// Opens the top directory of the subvolume with this id by its file handle (open_by_handle_at(2)), through no path.
pub fn open_subvolume(filesystem: BorrowedFd<'_>, id: u64) -> io::Result<OwnedFd> {
    /// `struct file_handle` with the first 20 bytes of the kernel's `struct btrfs_fid`.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        inode: u64,
        subvolume: u64,
        generation: u32,
    }
    const WITHOUT_PARENT: i32 = 0x4d; // FILEID_BTRFS_WITHOUT_PARENT
    let mut handle = Handle {
        bytes: 20,
        kind: WITHOUT_PARENT,
        inode: SUBVOLUME_INODE,
        subvolume: id,
        generation: 0, // any
    };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the handle has `bytes` bytes after its head, all of which are set.
    let fd = unsafe {
        libc::open_by_handle_at(filesystem.as_raw_fd(), std::ptr::from_mut(&mut handle).cast(), flags)
    };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel has just made this descriptor for us.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// The UUID of the file system.
pub fn filesystem_uuid(filesystem: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
    let mut arguments =
        Box::new(wire::FilesystemInfoArgs { max_id: 0, device_count: 0, uuid: [0; 16], rest: [0; 992] });
    // SAFETY: the kernel writes one structure of this type.
    unsafe { wire::filesystem_info(filesystem.as_raw_fd(), &mut *arguments) }?;
    Ok(arguments.uuid)
}

/// Asks the kernel to commit soon, and to clean up deleted subvolumes after that. Returns the transaction for
/// [`wait_for_commit`].
pub fn start_commit(filesystem: BorrowedFd<'_>) -> io::Result<u64> {
    let mut transaction = 0;
    // SAFETY: the kernel writes one u64.
    unsafe { wire::start_sync(filesystem.as_raw_fd(), &mut transaction) }?;
    Ok(transaction)
}

/// Waits until a transaction is on disk.
pub fn wait_for_commit(filesystem: BorrowedFd<'_>, transaction: u64) -> io::Result<()> {
    // SAFETY: the kernel reads one u64.
    unsafe { wire::wait_sync(filesystem.as_raw_fd(), &transaction) }?;
    Ok(())
}

/// The ids of the subvolumes that were deleted, and that the cleaner has not removed yet: the orphans in the tree of roots.
pub fn deleted_subvolumes(filesystem: BorrowedFd<'_>) -> io::Result<Vec<u64>> {
    let first = Key { objectid: ORPHANS, kind: ORPHAN_ITEM_KEY, offset: 0 };
    let mut deleted = vec![];
    search(filesystem, ROOT_TREE, first, Key { offset: u64::MAX, ..first }, |key, _| {
        deleted.push(key.offset);
    })?;
    Ok(deleted)
}

/// Waits until the kernel's cleaner has removed all subvolumes that are deleted now. The next commit frees their space. Needs
/// Linux 6.13.
///
/// It waits for one after another. If the kernel were asked to wait for all that are queued, it would miss the one that is
/// being cleaned, which is no longer in the queue.
pub fn wait_for_deleted(filesystem: BorrowedFd<'_>) -> io::Result<()> {
    for id in deleted_subvolumes(filesystem)? {
        let arguments = wire::SubvolumeWaitArgs { id, mode: wire::WAIT_FOR_ONE, count: 0 };
        // SAFETY: the kernel reads one structure of this type.
        match unsafe { wire::subvolume_sync_wait(filesystem.as_raw_fd(), &arguments) } {
            Ok(_) | Err(nix::Error::ENOENT) => {} // it has just gone
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
