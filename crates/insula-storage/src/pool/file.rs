//! Makes the file of a pool, and reads which file system is in it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use insula_sys::program::Program;
use insula_types::ByteSize;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, fstatvfs, renameat_with};
use rustix::io::Errno;

use crate::PoolError;

/// The smallest file that a useful btrfs fits into.
pub const LEAST: ByteSize = ByteSize::mib(256);

/// Makes the file, with an empty btrfs in it, unless it exists. The file has another name until it is complete.
pub fn ensure_file(file: &Path, size: ByteSize) -> Result<bool, PoolError> {
    if exists(file)? {
        return Ok(false);
    }
    if size < LEAST {
        return Err(PoolError::TooSmall { size, least: LEAST });
    }
    let unfinished = unfinished_name(file);
    let failed = PoolError::io::<io::Error>("make", &unfinished);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).clone();
    let handle = options.open(&unfinished).map_err(&failed)?;
    flock(&handle, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    if exists(file)? {
        return Ok(false); // another opener was faster: `handle` is now its file
    }
    let made = format(&handle, &unfinished, file, size);
    if made.is_err() {
        // The other error matters more. The next attempt truncates what is left.
        let _ = std::fs::remove_file(&unfinished);
    }
    made.map(|()| true)
}

fn exists(file: &Path) -> Result<bool, PoolError> {
    file.try_exists().map_err(PoolError::io("examine", file))
}

fn format(handle: &File, unfinished: &Path, file: &Path, size: ByteSize) -> Result<(), PoolError> {
    let failed = PoolError::io::<io::Error>("make", unfinished);
    let statistics = fstatvfs(handle).map_err(|errno| failed(errno.into()))?;
    let available = ByteSize(statistics.f_bavail.saturating_mul(statistics.f_frsize));
    if size > available {
        return Err(PoolError::HostDiskTooSmall { file: file.to_owned(), size, available });
    }
    // The first call drops what an interrupted attempt has written.
    handle.set_len(0).and_then(|()| handle.set_len(size.bytes())).map_err(&failed)?;
    Program::new("mkfs.btrfs")
        .args(["--quiet", "--label", "insula"])
        .arg(unfinished)
        .output()
        .map_err(|source| PoolError::Format { file: unfinished.to_owned(), source })?;
    handle.sync_all().map_err(&failed)?;
    match renameat_with(CWD, unfinished, CWD, file, RenameFlags::NOREPLACE) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(PoolError::io("make", file)(errno)),
    }
}

fn unfinished_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".unfinished");
    name.into()
}

/// The UUID of the btrfs in a file or block device, from its superblock. `None` if there is no btrfs.
///
/// The format: (<https://btrfs.readthedocs.io/en/latest/dev/On-disk-format.html>).
pub fn read_uuid(device: &File) -> io::Result<Option<[u8; 16]>> {
    const SUPERBLOCK: u64 = 0x1_0000;
    let mut head = [0; 0x48];
    match device.read_exact_at(&mut head, SUPERBLOCK) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let uuid = head[0x20..0x30].try_into().expect("16 bytes");
    Ok((&head[0x40..] == b"_BHRfS_M").then_some(uuid))
}
