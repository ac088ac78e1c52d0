//! Attributes of mounts: the part of the new mount API that rustix lacks.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

pub use rustix::mount::MountAttrFlags;

/// Sets attributes of the mount whose root is `mount`. With `ids`, the mount also gets the id map of that user namespace
/// (mount_setattr(2), `MOUNT_ATTR_IDMAP`).
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    set: MountAttrFlags,
    ids: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    change(
        mount,
        &libc::mount_attr {
            attr_set: set.bits().into(),
            attr_clr: 0,
            propagation: 0,
            userns_fd: ids.map_or(0, |ids| u64::from(ids.as_raw_fd().unsigned_abs())),
        },
    )
}

/// Takes a mount out of its peer group. From now on, what is mounted below it is not seen elsewhere, and what is mounted
/// elsewhere is not seen below it (mount_namespaces(7)).
pub fn make_private(mount: BorrowedFd<'_>) -> io::Result<()> {
    change(mount, &libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 })
}

fn change(mount: BorrowedFd<'_>, attributes: &libc::mount_attr) -> io::Result<()> {
    // SAFETY: the path is an empty C string, and the attributes outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of_val(attributes),
        )
    };
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
