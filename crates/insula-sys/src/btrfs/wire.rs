//! The structures and numbers of the ioctls, as in `linux/btrfs.h` and `linux/btrfs_tree.h`.

use std::mem::size_of;

use nix::{ioctl_none, ioctl_read, ioctl_readwrite, ioctl_write_ptr};

/// Creates the copy read-only (`BTRFS_SUBVOL_RDONLY`).
pub const SUBVOLUME_READONLY: u64 = 1 << 1;
/// Makes the new subvolume a member of the qgroups of `size` and `inherit` (`BTRFS_SUBVOL_QGROUP_INHERIT`).
pub const QGROUP_INHERIT: u64 = 1 << 2;
/// `name` is a subvolume id (`BTRFS_SUBVOL_SPEC_BY_ID`).
pub const SPEC_BY_ID: u64 = 1 << 4;

/// `BTRFS_QUOTA_CTL_ENABLE`.
pub const QUOTA_ENABLE: u64 = 1;
/// `BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA`, Linux 6.7.
pub const QUOTA_ENABLE_SIMPLE: u64 = 4;

/// `BTRFS_QGROUP_LIMIT_MAX_EXCL`.
pub const LIMIT_EXCLUSIVE: u64 = 1 << 1;

/// Waits for the subvolume with this id (`BTRFS_SUBVOL_SYNC_WAIT_FOR_ONE`).
pub const WAIT_FOR_ONE: u32 = 0;

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
pub struct VolumeArgs {
    pub fd: i64,
    pub transid: u64,
    pub flags: u64,
    /// The size in bytes of what `inherit` points to.
    pub size: u64,
    /// The address of a [`QgroupInherit`].
    pub inherit: u64,
    pub unused: [u64; 2],
    /// A NUL-terminated name, or a subvolume id in its first eight bytes.
    pub name: [u8; 4040],
}

/// `struct btrfs_qgroup_limit`.
#[repr(C)]
#[derive(Default)]
pub struct QgroupLimit {
    pub flags: u64,
    pub max_referenced: u64,
    pub max_exclusive: u64,
    pub reserved: [u64; 2],
}

/// `struct btrfs_qgroup_inherit` with one qgroup.
#[repr(C)]
#[derive(Default)]
pub struct QgroupInherit {
    pub flags: u64,
    pub qgroup_count: u64,
    pub copies: [u64; 2],
    pub limit: QgroupLimit,
    pub qgroup: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
pub struct QgroupLimitArgs {
    pub qgroup: u64,
    pub limit: QgroupLimit,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
pub struct QgroupCreateArgs {
    /// 1 creates, 0 removes.
    pub create: u64,
    pub qgroup: u64,
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
pub struct QuotaControlArgs {
    pub command: u64,
    pub status: u64,
}

/// `struct btrfs_ioctl_quota_rescan_args`.
#[repr(C)]
#[derive(Default)]
pub struct QuotaRescanArgs {
    pub flags: u64,
    pub progress: u64,
    pub reserved: [u64; 6],
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
pub struct SubvolumeInfoArgs {
    pub id: u64,
    pub name: [u8; 256],
    pub parent_id: u64,
    pub directory_id: u64,
    pub generation: u64,
    /// Bit 0 is `BTRFS_ROOT_SUBVOL_RDONLY`.
    pub flags: u64,
    pub uuid: [u8; 16],
    pub parent_uuid: [u8; 16],
    pub received_uuid: [u8; 16],
    pub times: [u64; 12],
    pub reserved: [u64; 8],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
pub struct FilesystemInfoArgs {
    pub max_id: u64,
    pub device_count: u64,
    pub uuid: [u8; 16],
    pub rest: [u8; 992],
}

/// `struct btrfs_ioctl_subvol_wait`, Linux 6.13.
#[repr(C)]
pub struct SubvolumeWaitArgs {
    pub id: u64,
    pub mode: u32,
    pub count: u32,
}

/// `struct btrfs_ioctl_search_key`.
#[repr(C)]
#[derive(Default)]
pub struct SearchKey {
    pub tree: u64,
    pub min_objectid: u64,
    pub max_objectid: u64,
    pub min_offset: u64,
    pub max_offset: u64,
    pub min_transid: u64,
    pub max_transid: u64,
    pub min_kind: u32,
    pub max_kind: u32,
    /// Before the call: how many items are wanted. After it: how many are in the buffer.
    pub item_count: u32,
    pub unused: u32,
    pub unused_more: [u64; 4],
}

/// `struct btrfs_ioctl_search_args_v2`, without the buffer that follows it.
#[repr(C)]
#[derive(Default)]
pub struct SearchArgs {
    pub key: SearchKey,
    pub buffer_bytes: u64,
}

/// The size of `struct btrfs_ioctl_search_header`: transid, objectid, offset (u64), kind, length (u32).
pub const SEARCH_HEADER_BYTES: usize = 32;

const _: () = {
    assert!(size_of::<VolumeArgs>() == 4096);
    assert!(size_of::<QgroupLimit>() == 40);
    assert!(size_of::<QgroupInherit>() == 72 + 8);
    assert!(size_of::<QgroupLimitArgs>() == 48);
    assert!(size_of::<QgroupCreateArgs>() == 16);
    assert!(size_of::<QuotaControlArgs>() == 16);
    assert!(size_of::<QuotaRescanArgs>() == 64);
    assert!(size_of::<SubvolumeInfoArgs>() == 504);
    assert!(size_of::<FilesystemInfoArgs>() == 1024);
    assert!(size_of::<SubvolumeWaitArgs>() == 16);
    assert!(size_of::<SearchKey>() == 104);
    assert!(size_of::<SearchArgs>() == 112);
};

const MAGIC: u8 = 0x94;

ioctl_readwrite!(tree_search_v2, MAGIC, 17, SearchArgs);
ioctl_write_ptr!(wait_sync, MAGIC, 22, u64);
ioctl_write_ptr!(snapshot_create_v2, MAGIC, 23, VolumeArgs);
ioctl_write_ptr!(subvolume_create_v2, MAGIC, 24, VolumeArgs);
ioctl_read!(start_sync, MAGIC, 24, u64);
ioctl_read!(subvolume_get_flags, MAGIC, 25, u64);
ioctl_write_ptr!(subvolume_set_flags, MAGIC, 26, u64);
ioctl_read!(filesystem_info, MAGIC, 31, FilesystemInfoArgs);
ioctl_readwrite!(quota_control, MAGIC, 40, QuotaControlArgs);
ioctl_write_ptr!(qgroup_create, MAGIC, 42, QgroupCreateArgs);
// The header says "read", though the kernel reads from user space.
ioctl_read!(qgroup_limit, MAGIC, 43, QgroupLimitArgs);
ioctl_write_ptr!(quota_rescan, MAGIC, 44, QuotaRescanArgs);
ioctl_none!(quota_rescan_wait, MAGIC, 46);
ioctl_read!(get_subvolume_info, MAGIC, 60, SubvolumeInfoArgs);
ioctl_write_ptr!(snapshot_destroy_v2, MAGIC, 63, VolumeArgs);
ioctl_write_ptr!(subvolume_sync_wait, MAGIC, 65, SubvolumeWaitArgs);
