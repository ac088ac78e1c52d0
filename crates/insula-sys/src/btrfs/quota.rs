//! Quotas: qgroups, their numbers and limits (btrfs-quota(5)).

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::search::{Key, item_word, search};
use super::wire::{self, LIMIT_EXCLUSIVE, QUOTA_ENABLE, QUOTA_ENABLE_SIMPLE};

const QUOTA_TREE: u64 = 8;
const STATUS_KEY: u8 = 240;
const INFO_KEY: u8 = 242;
const LIMIT_KEY: u8 = 244;

/// The name of a qgroup. A qgroup of level 0 belongs to the subvolume with the same id; one of a higher level has qgroups of
/// lower levels as members.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QgroupId(u64);

impl QgroupId {
    /// Qgroup `level/id`. Only the lower 48 bits of the id count.
    pub const fn new(level: u16, id: u64) -> Self {
        Self((level as u64) << 48 | id & 0xffff_ffff_ffff)
    }

    /// The level.
    pub const fn level(self) -> u64 {
        self.0 >> 48
    }

    /// The id within the level. In level 0, this is the id of the subvolume.
    pub const fn id(self) -> u64 {
        self.0 & 0xffff_ffff_ffff
    }

    pub(super) const fn as_raw(self) -> u64 {
        self.0
    }
}

impl fmt::Display for QgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.level(), self.id())
    }
}

impl fmt::Debug for QgroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How the file system counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaStatus {
    /// Simple quotas: an extent belongs to the subvolume that wrote it first, for good.
    pub simple: bool,
    /// Whether the numbers are right. If not, [`rescan_qgroups`] makes them so.
    pub consistent: bool,
}

/// What a qgroup uses and may use, as of the last commit of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qgroup {
    /// Its name.
    pub id: QgroupId,
    /// The bytes that would become free with all subvolumes of the group. With simple quotas: the bytes that they wrote.
    pub exclusive_bytes: u64,
    /// The limit of the exclusive bytes.
    pub max_exclusive_bytes: Option<u64>,
}

/// Reads how the file system counts. `None` if quotas are off.
pub fn quota_status(filesystem: BorrowedFd<'_>) -> io::Result<Option<QuotaStatus>> {
    let key = Key { objectid: 0, kind: STATUS_KEY, offset: 0 };
    let mut flags = Ok(0);
    match search(filesystem, QUOTA_TREE, key, key, |_, item| flags = item_word(item, 2)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    }
    let flags = flags?; // BTRFS_QGROUP_STATUS_FLAG_ON 1, _INCONSISTENT 4, _SIMPLE_MODE 8
    Ok((flags & 1 != 0).then_some(QuotaStatus { simple: flags & 8 != 0, consistent: flags & 4 == 0 }))
}

/// Switches simple quotas on. They count what is written from now on. `InvalidInput` before Linux 6.7.
pub fn enable_simple_quota(filesystem: BorrowedFd<'_>) -> io::Result<()> {
    control(filesystem, QUOTA_ENABLE_SIMPLE)
}

/// Switches classic qgroups on, which count by backreferences. The kernel counts what is there in the background.
pub fn enable_qgroups(filesystem: BorrowedFd<'_>) -> io::Result<()> {
    control(filesystem, QUOTA_ENABLE)
}

fn control(filesystem: BorrowedFd<'_>, command: u64) -> io::Result<()> {
    let mut arguments = wire::QuotaControlArgs { command, status: 0 };
    // SAFETY: the kernel reads and writes one structure of this type.
    unsafe { wire::quota_control(filesystem.as_raw_fd(), &mut arguments) }?;
    Ok(())
}

/// Counts everything anew, and waits until that is done. If a count is under way, waits for that one. `InvalidInput` with
/// simple quotas.
pub fn rescan_qgroups(filesystem: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the kernel reads one structure of this type.
    match unsafe { wire::quota_rescan(filesystem.as_raw_fd(), &wire::QuotaRescanArgs::default()) } {
        Err(nix::Error::EINPROGRESS) => {}
        result => drop(result?),
    }
    // SAFETY: there is no argument.
    unsafe { wire::quota_rescan_wait(filesystem.as_raw_fd()) }?;
    Ok(())
}

/// Creates a qgroup without members. `AlreadyExists` if there is one.
pub fn create_qgroup(filesystem: BorrowedFd<'_>, id: QgroupId) -> io::Result<()> {
    let arguments = wire::QgroupCreateArgs { create: 1, qgroup: id.0 };
    // SAFETY: the kernel reads one structure of this type.
    unsafe { wire::qgroup_create(filesystem.as_raw_fd(), &arguments) }?;
    Ok(())
}

/// Removes a qgroup. `NotFound` if there is none, `ResourceBusy` while it has members or bytes.
pub fn remove_qgroup(filesystem: BorrowedFd<'_>, id: QgroupId) -> io::Result<()> {
    let arguments = wire::QgroupCreateArgs { create: 0, qgroup: id.0 };
    // SAFETY: the kernel reads one structure of this type.
    unsafe { wire::qgroup_create(filesystem.as_raw_fd(), &arguments) }?;
    Ok(())
}

/// Limits the exclusive bytes of a qgroup, or lifts the limit with `None`. `NotFound` if there is no such qgroup.
pub fn limit_qgroup(
    filesystem: BorrowedFd<'_>,
    id: QgroupId,
    max_exclusive_bytes: Option<u64>,
) -> io::Result<()> {
    const NO_LIMIT: u64 = u64::MAX; // "CLEAR_VALUE" of the kernel
    let max_exclusive = max_exclusive_bytes.unwrap_or(NO_LIMIT);
    let limit = wire::QgroupLimit { flags: LIMIT_EXCLUSIVE, max_exclusive, ..Default::default() };
    let mut arguments = wire::QgroupLimitArgs { qgroup: id.0, limit };
    // SAFETY: the kernel reads one structure of this type.
    unsafe { wire::qgroup_limit(filesystem.as_raw_fd(), &mut arguments) }?;
    Ok(())
}

/// Reads one qgroup. `None` if it doesn't exist.
pub fn qgroup(filesystem: BorrowedFd<'_>, id: QgroupId) -> io::Result<Option<Qgroup>> {
    let mut groups = vec![];
    for kind in [INFO_KEY, LIMIT_KEY] {
        let key = Key { objectid: 0, kind, offset: id.0 };
        read_qgroups(filesystem, key, key, &mut groups)?;
    }
    Ok(groups.pop())
}

/// Reads all qgroups, sorted by level and id.
pub fn qgroups(filesystem: BorrowedFd<'_>) -> io::Result<Vec<Qgroup>> {
    let mut groups = vec![];
    let first = Key { objectid: 0, kind: INFO_KEY, offset: 0 };
    let last = Key { objectid: 0, kind: LIMIT_KEY, offset: u64::MAX };
    read_qgroups(filesystem, first, last, &mut groups)?;
    Ok(groups)
}

/// Adds the groups of the info items to `groups`, which stay sorted, and fills in their limits.
fn read_qgroups(
    filesystem: BorrowedFd<'_>,
    first: Key,
    last: Key,
    groups: &mut Vec<Qgroup>,
) -> io::Result<()> {
    let mut result = Ok(());
    search(filesystem, QUOTA_TREE, first, last, |key, item| {
        if let Err(error) = read_item(key, item, groups) {
            result = Err(error);
        }
    })?;
    result
}

fn read_item(key: Key, item: &[u8], groups: &mut Vec<Qgroup>) -> io::Result<()> {
    let id = QgroupId(key.offset);
    match (key.kind, groups.binary_search_by_key(&id, |group| group.id)) {
        (INFO_KEY, Err(at)) => {
            let exclusive_bytes = item_word(item, 3)?;
            groups.insert(at, Qgroup { id, exclusive_bytes, max_exclusive_bytes: None });
        }
        (LIMIT_KEY, Ok(at)) if item_word(item, 0)? & LIMIT_EXCLUSIVE != 0 => {
            groups[at].max_exclusive_bytes = Some(item_word(item, 2)?);
        }
        _ => {}
    }
    Ok(())
}
