//! Whether the kernel maps ids of a file system when it mounts it: mount_setattr(2).

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use insula_sys::mount::{MountAttrFlags, set_attributes};
use insula_sys::user_namespace;
use insula_types::IdRange;

use crate::monitor::clone_mount_at;

/// Tries it with a mount that nobody sees. `false` where the file system does not know how, or belongs to another user
/// namespace than this process, such as the disk of the machine that a container is on.
pub fn observe_id_mapping(directory: &Path, ids: IdRange) -> io::Result<bool> {
    let mount = clone_mount_at(directory)?;
    let namespace = user_namespace::with_ids(ids.start, IdRange::DEFAULT_LENGTH)?;
    let mapped = set_attributes(mount.as_fd(), MountAttrFlags::MOUNT_ATTR_IDMAP, Some(namespace.as_fd()));
    match mapped.map_err(|error| error.raw_os_error()) {
        Ok(()) => Ok(true),
        Err(Some(libc::EPERM | libc::EINVAL | libc::EOPNOTSUPP)) => Ok(false),
        Err(errno) => Err(io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_by_trying() {
        let ids = IdRange { start: 100_000, length: 65_536 };
        // The kernel's own file systems have no use for it.
        assert!(
            !observe_id_mapping(Path::new("/proc"), ids)
                .expect("the tests make namespaces: run them as root")
        );
        assert!(observe_id_mapping(Path::new("/"), ids).unwrap());
    }
}
