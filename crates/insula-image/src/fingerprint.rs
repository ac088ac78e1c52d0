//! The fingerprint of a directory tree: the name of an image.
//!
//! It is the SHA-256 of this stream. Numbers are little-endian. A *text* is its length in bytes as `u32`, followed by the bytes.
//!
//! ```text
//! "insula-tree-1\n", then for every file, the root itself first:
//!   text  path from the root, without a slash in front; empty for the root
//!   u8    d directory, f regular file, l symbolic link, c, b devices, p FIFO, s socket
//!   u32   permission bits, 07777 of st_mode
//!   u32   user id
//!   u32   group id
//!   u32   number of extended attributes, then for each, sorted by name:
//!     text  name
//!     text  value
//!   by type:
//!     f     u64 size, then the content
//!     l     text, where it points to
//!     c, b  u32 major, u32 minor
//! ```
//!
//! A directory comes before its entries, which are sorted by the bytes of their names. Only extended attributes that are part
//! of the content count: `user.*`, `security.capability` and POSIX ACLs. Others, such as labels, integrity hashes and those of
//! a file system itself, belong to the host. Times and inode numbers don't count, nor whether two names share an inode.

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use insula_sys::walk::Position;
use insula_types::{ByteSize, Fingerprint};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use sha2::{Digest, Sha256};

/// The result of reading a whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeDigest {
    /// The SHA-256 of the tree, in the form that this module describes.
    pub fingerprint: Fingerprint,
    /// The sizes of all regular files together, in bytes. An inode with several names counts once.
    pub size: ByteSize,
    /// The number of files of every type, the root included.
    pub files: u64,
}

/// The fingerprint of a tree could not be computed.
#[derive(Debug, thiserror::Error)]
#[error("failed to take the fingerprint of the tree: /{} can't be read", path.display())]
pub struct FingerprintError {
    /// The file that could not be read, relative to the tree.
    pub path: PathBuf,
    /// The kernel's error.
    #[source]
    pub source: io::Error,
}

/// Reads the whole tree below a directory, and names it. Nobody may change it meanwhile. `on_progress` gets the number of
/// bytes read so far, once per regular file. The tree may be of any depth.
///
/// # Errors
/// A file can't be read, changed meanwhile, or is a directory that something is mounted on (`EXDEV`): such a tree would be
/// another one at another time.
pub fn fingerprint(root: OwnedFd, on_progress: &mut dyn FnMut(u64)) -> Result<TreeDigest, FingerprintError> {
    let mut tree = Tree {
        position: Position::at(root),
        levels: vec![],
        hash: Sha256::new_with_prefix(b"insula-tree-1\n"),
        path: vec![],
        buffer: vec![0; 1 << 18],
        linked: HashSet::new(),
        size: 0,
        files: 0,
        on_progress,
    };
    tree.read()
        .map_err(|source| FingerprintError { path: PathBuf::from(OsStr::from_bytes(&tree.path)), source })?;
    Ok(TreeDigest {
        fingerprint: Fingerprint::from_bytes(tree.hash.finalize().into()),
        size: ByteSize(tree.size),
        files: tree.files,
    })
}

const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const UNOPENED: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Tree<'a> {
    position: Position,
    /// The directories that are being read, the top first.
    levels: Vec<Level>,
    hash: Sha256,
    /// The path of the file that is being read, from the root on. After an error, that of the file that caused it.
    path: Vec<u8>,
    buffer: Vec<u8>,
    /// Device and inode of the files with more than one name that were read.
    linked: HashSet<(u64, u64)>,
    size: u64,
    files: u64,
    on_progress: &'a mut dyn FnMut(u64),
}

/// A directory that is being read.
struct Level {
    /// The files that are still to be read, in descending order: the next one is the last.
    names: Vec<CString>,
    /// The length of the directory's own path in bytes.
    path_length: usize,
}

impl Tree<'_> {
    fn read(&mut self) -> io::Result<()> {
        self.enter()?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            match level.names.pop() {
                Some(name) => {
                    if !self.path.is_empty() {
                        self.path.push(b'/');
                    }
                    self.path.extend(name.to_bytes());
                    self.entry(&name)?;
                }
                None => {
                    self.levels.pop();
                    self.position.ascend()?;
                }
            }
        }
        Ok(())
    }

    /// Reads the directory that the walk has come to, and the names in it.
    fn enter(&mut self) -> io::Result<()> {
        let directory = self.position.here.try_clone()?;
        self.head(b'd', &self.position.stat()?, directory.as_fd())?;
        let mut names = self.position.names()?;
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.levels.push(Level { names, path_length: self.path.len() });
        Ok(())
    }

    fn entry(&mut self, name: &CStr) -> io::Result<()> {
        let parent = &self.position.here;
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let open = |flags| openat(parent, name, flags, Mode::empty());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.position.descend(name)?;
                self.enter()
            }
            FileType::RegularFile => self.regular_file(open(FILE)?, &stat),
            FileType::Symlink => {
                let target = readlinkat(parent, name, vec![])?;
                self.head(b'l', &stat, open(UNOPENED)?.as_fd())?;
                self.text(target.to_bytes())
            }
            FileType::CharacterDevice => self.device(b'c', &stat, &open(UNOPENED)?),
            FileType::BlockDevice => self.device(b'b', &stat, &open(UNOPENED)?),
            FileType::Fifo => self.head(b'p', &stat, open(UNOPENED)?.as_fd()),
            FileType::Socket => self.head(b's', &stat, open(UNOPENED)?.as_fd()),
            FileType::Unknown => Err(io::Error::other("a file of unknown type")),
        }
    }

    fn regular_file(&mut self, file: OwnedFd, stat: &Stat) -> io::Result<()> {
        self.head(b'f', stat, file.as_fd())?;
        let size = u64::try_from(stat.st_size).map_err(io::Error::other)?;
        self.hash.update(size.to_le_bytes());
        let mut content = std::fs::File::from(file).take(size + 1);
        let mut read = 0;
        loop {
            match content.read(&mut self.buffer)? {
                0 => break,
                count => {
                    self.hash.update(&self.buffer[..count]);
                    read += count as u64;
                }
            }
        }
        if read != size {
            return Err(io::Error::other("the file changed while it was read"));
        }
        if stat.st_nlink == 1 || self.linked.insert((stat.st_dev, stat.st_ino)) {
            self.size += size;
        }
        (self.on_progress)(self.size);
        Ok(())
    }

    fn device(&mut self, kind: u8, stat: &Stat, file: &OwnedFd) -> io::Result<()> {
        self.head(kind, stat, file.as_fd())?;
        self.number(rustix::fs::major(stat.st_rdev));
        self.number(rustix::fs::minor(stat.st_rdev));
        Ok(())
    }

    /// Adds what the stream has of every file, whatever its type.
    fn head(&mut self, kind: u8, stat: &Stat, file: BorrowedFd<'_>) -> io::Result<()> {
        self.files += 1;
        let path = std::mem::take(&mut self.path);
        self.text(&path)?;
        self.path = path;
        self.hash.update([kind]);
        self.number(stat.st_mode & 0o7777);
        self.number(stat.st_uid);
        self.number(stat.st_gid);
        let attributes = content_attributes(file)?;
        self.number(u32::try_from(attributes.len()).map_err(io::Error::other)?);
        for (name, value) in attributes {
            self.text(name.to_bytes())?;
            self.text(&value)?;
        }
        Ok(())
    }

    fn number(&mut self, number: u32) {
        self.hash.update(number.to_le_bytes());
    }

    fn text(&mut self, text: &[u8]) -> io::Result<()> {
        self.number(u32::try_from(text.len()).map_err(io::Error::other)?);
        self.hash.update(text);
        Ok(())
    }
}

/// The extended attributes that are part of the content, sorted by name.
///
/// Links and devices are not opened for reading. The kernel gives the attributes of such a descriptor only by its path.
fn content_attributes(file: BorrowedFd<'_>) -> io::Result<Vec<(CString, Vec<u8>)>> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut names = vec![0; rustix::fs::listxattr_query(&path)?];
    if names.is_empty() {
        return Ok(vec![]); // nearly all files
    }
    rustix::fs::listxattr(&path, &mut names)?;
    let mut attributes = vec![];
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        if is_content(name.to_bytes()) {
            let mut value = vec![0; rustix::fs::getxattr_query(&path, name)?];
            rustix::fs::getxattr(&path, name, &mut value)?;
            attributes.push((name.to_owned(), value));
        }
    }
    attributes.sort();
    Ok(attributes)
}

fn is_content(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}
