//! Copies a tree file by file. Contents share their blocks with the source if the file system supports that, and holes remain
//! holes. Owners, permissions, times and extended attributes are copied, and hard links remain hard links.
//!
//! Nobody may change the source meanwhile. What it holds may be hostile even so: [`insula_sys::walk`].

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use insula_sys::walk::Position;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, copy_file_range, ftruncate, ioctl_ficlone, linkat, mkdirat, mknodat, openat,
    readlinkat, seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::shift::{IdShift, shift_attribute};

/// Why a tree was not copied.
#[derive(Debug)]
pub struct CopyError {
    /// The path of the file that could not be copied, relative to the tree.
    pub path: PathBuf,
    /// The kernel's error.
    pub source: io::Error,
}

/// Copies all that is in the directory `source`, and the attributes of the directory itself, to the empty directory `target`.
/// `links` is an empty directory on the file system of `target`, which is empty again in the end. With `shift`, the copy has
/// other ids.
pub fn copy_tree(
    source: OwnedFd,
    target: OwnedFd,
    links: BorrowedFd<'_>,
    shift: Option<IdShift>,
) -> Result<(), CopyError> {
    let mut copy = Copy {
        source: Position::at(source),
        target: Position::at(target),
        levels: vec![],
        links,
        linked: HashSet::new(),
        shift,
    };
    copy.run().map_err(|source| {
        let names = copy.levels.iter().filter_map(|level| level.at.as_ref());
        CopyError { path: names.map(|name| OsStr::from_bytes(name.to_bytes())).collect(), source }
    })
}

struct Copy<'a> {
    source: Position,
    target: Position,
    /// The directories that are being copied, the top first.
    levels: Vec<Level>,
    /// The directory that has one more name for each copied file with several names, until all is copied.
    links: BorrowedFd<'a>,
    linked: HashSet<(u64, u64)>,
    shift: Option<IdShift>,
}

/// A directory that is being copied.
struct Level {
    names: Vec<CString>,
    /// The name of the file that is being copied.
    at: Option<CString>,
}

const NEW_FILE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);
const UNOPENED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PRIVATE: Mode = Mode::RWXU;

impl Copy<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.enter()?;
        while let Some(level) = self.levels.last_mut() {
            level.at = level.names.pop();
            match level.at.clone() {
                Some(name) => self.entry(&name)?,
                None => self.leave()?,
            }
        }
        for (device, inode) in std::mem::take(&mut self.linked) {
            rustix::fs::unlinkat(self.links, link_name(device, inode), AtFlags::empty())?;
        }
        Ok(())
    }

    fn enter(&mut self) -> io::Result<()> {
        let names = self.source.names()?;
        self.levels.push(Level { names, at: None });
        Ok(())
    }

    /// Finishes the directory and goes up, when all of its files are copied: each new file in it would change its times.
    fn leave(&mut self) -> io::Result<()> {
        self.finish(self.source.here.as_fd(), self.target.here.as_fd(), &self.source.stat()?)?;
        self.levels.pop();
        self.source.ascend()?;
        self.target.ascend().map(drop)
    }

    fn entry(&mut self, name: &CStr) -> io::Result<()> {
        let stat = statat(&self.source.here, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            mkdirat(&self.target.here, name, PRIVATE)?;
            self.source.descend(name)?;
            self.target.descend(name)?;
            return self.enter();
        }
        let inode = (stat.st_dev, stat.st_ino);
        if self.linked.contains(&inode) {
            let known = link_name(inode.0, inode.1);
            return Ok(linkat(self.links, known, &self.target.here, name, AtFlags::empty())?);
        }
        match kind {
            FileType::RegularFile => self.regular_file(name, &stat)?,
            FileType::Symlink => {
                let target = readlinkat(&self.source.here, name, vec![])?;
                symlinkat(&target, &self.target.here, name)?;
                self.finish_unopened(name, &stat)?;
            }
            _ => {
                mknodat(&self.target.here, name, kind, PRIVATE, stat.st_rdev)?;
                self.finish_unopened(name, &stat)?;
            }
        }
        if stat.st_nlink > 1 {
            let known = link_name(inode.0, inode.1);
            linkat(&self.target.here, name, self.links, known, AtFlags::empty())?;
            self.linked.insert(inode);
        }
        Ok(())
    }

    fn regular_file(&self, name: &CStr, stat: &Stat) -> io::Result<()> {
        let source = openat(&self.source.here, name, FILE, Mode::empty())?;
        let target = openat(&self.target.here, name, NEW_FILE, Mode::RUSR | Mode::WUSR)?;
        if stat.st_size > 0 && ioctl_ficlone(&target, &source).is_err() {
            copy_content(&source, &target, u64::try_from(stat.st_size).map_err(io::Error::other)?)?;
        }
        self.finish(source.as_fd(), target.as_fd(), stat)
    }

    fn finish_unopened(&self, name: &CStr, stat: &Stat) -> io::Result<()> {
        let open = |directory| openat(directory, name, UNOPENED, Mode::empty());
        self.finish(open(&self.source.here)?.as_fd(), open(&self.target.here)?.as_fd(), stat)
    }

    /// Copies what a file has besides contents. The order matters: a change of the owner clears set-user-id bits and
    /// capabilities, and every change but the last one changes times.
    fn finish(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>, stat: &Stat) -> io::Result<()> {
        let shifted = |id| self.shift.map_or(Ok(id), |shift| shift.apply(id));
        let (uid, gid) = (Uid::from_raw(shifted(stat.st_uid)?), Gid::from_raw(shifted(stat.st_gid)?));
        chownat(target, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            chmodat(CWD, path_of(target), Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
            self.copy_attributes(source, target)?;
        }
        let time =
            |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() };
        let times = Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        };
        Ok(utimensat(target, "", &times, AtFlags::EMPTY_PATH)?)
    }

    /// Copies extended attributes, except those that belong to the host: labels of its security policy, and those of a file
    /// system itself.
    fn copy_attributes(&self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
        let (from, to) = (path_of(source), path_of(target));
        let mut names = vec![0; rustix::fs::listxattr_query(&from).or_else(none_supported)?];
        if names.is_empty() {
            return Ok(()); // nearly all files
        }
        rustix::fs::listxattr(&from, &mut names)?;
        for name in names.split_inclusive(|byte| *byte == 0) {
            let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
            if is_content(name.to_bytes()) {
                let mut value = vec![0; rustix::fs::getxattr_query(&from, name)?];
                rustix::fs::getxattr(&from, name, &mut value)?;
                let value = match &self.shift {
                    Some(shift) => shift_attribute(name.to_bytes(), value, shift)?,
                    None => value,
                };
                rustix::fs::setxattr(&to, name, &value, XattrFlags::empty())?;
            }
        }
        Ok(())
    }
}

fn none_supported(errno: Errno) -> rustix::io::Result<usize> {
    if errno == Errno::OPNOTSUPP { Ok(0) } else { Err(errno) }
}

fn is_content(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn link_name(device: u64, inode: u64) -> String {
    format!("{device:x}-{inode:x}")
}

/// A path of the file that a descriptor refers to, for system calls that refuse a descriptor opened with `O_PATH`.
fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Copies the content of a file. Its holes remain holes.
fn copy_content(source: &OwnedFd, target: &OwnedFd, size: u64) -> io::Result<()> {
    ftruncate(target, size)?;
    let mut at = 0;
    while at < size {
        let data = match seek(source, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(()), // a hole up to the end
            Err(errno) => return Err(errno.into()),
        };
        at = seek(source, SeekFrom::Hole(data))?.min(size);
        copy_range(source, target, data, at)?;
    }
    Ok(())
}

fn copy_range(source: &OwnedFd, target: &OwnedFd, mut from: u64, end: u64) -> io::Result<()> {
    while from < end {
        let (mut here, mut there) = (from, from);
        let length = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(source, Some(&mut here), target, Some(&mut there), length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => from += count as u64,
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return copy_by_hand(source, target, from, end);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Copies bytes through a buffer, where the kernel can't copy between two files by itself.
fn copy_by_hand(source: &OwnedFd, target: &OwnedFd, mut from: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let (source, target) = (File::from(source.try_clone()?), File::from(target.try_clone()?));
    let mut buffer = vec![0; 1 << 17];
    while from < end {
        let most = usize::try_from(end - from).unwrap_or(usize::MAX).min(buffer.len());
        match source.read_at(&mut buffer[..most], from)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                target.write_all_at(&buffer[..count], from)?;
                from += count as u64;
            }
        }
    }
    Ok(())
}
