//! btrfs by ioctl (btrfs-ioctl(2), `linux/btrfs.h`): subvolumes, snapshots, quotas.
//!
//! Most functions take a descriptor of *any* directory of the file system (`filesystem`). Where it must be the top of a
//! subvolume, the parameter is called `subvolume`. A descriptor that was opened with `O_PATH` is refused with `EBADF`. All
//! functions need `CAP_SYS_ADMIN`, and return the errno of the ioctl as their error.

mod quota;
mod search;
mod subvolume;
mod wire;

pub use quota::{
    Qgroup, QgroupId, QuotaStatus, create_qgroup, enable_qgroups, enable_simple_quota, limit_qgroup, qgroup,
    qgroups, quota_status, remove_qgroup, rescan_qgroups,
};
pub use subvolume::{
    SUBVOLUME_INODE, SubvolumeInfo, child_subvolumes, create_snapshot, create_subvolume, delete_subvolume,
    deleted_subvolumes, filesystem_uuid, open_subvolume, set_readonly, start_commit, subvolume_exists,
    subvolume_info, wait_for_commit, wait_for_deleted,
};

/// The ioctls that make subvolumes: `BTRFS_IOC_SNAP_CREATE`, `_SUBVOL_CREATE`, `_SNAP_CREATE_V2`, `_SUBVOL_CREATE_V2`.
///
/// They require no capability. The latter two let the caller choose which qgroups the new subvolume is charged to: none, or
/// even a neighbour's (seen on Linux 6.18). So a guest must not reach them, or no limit holds. Refuse them with `ENOTTY`,
/// which tells a program that this is no btrfs: systemd then makes a directory.
pub const SUBVOLUME_CREATION_IOCTLS: [u32; 4] = [0x5000_9401, 0x5000_940e, 0x5000_9417, 0x5000_9418];
