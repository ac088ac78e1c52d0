//! Writes a stream into a tree.

mod new_file;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, fstat, mkdirat, renameat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{FileError, FileErrorKind};
use crate::item::{Entry, EntryKind, Item, MAX_CHUNK, MAX_PATH, Totals, check_relative};
use crate::place::{OpenDescriptors, Place, find_beneath};
use crate::show::show;

use new_file::{NewFile, temporary_name};

/// The destination of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A directory that receives the entries; otherwise the path of the one file that is written.
    pub path: Vec<u8>,
    /// Whether the path must be a directory.
    pub is_directory: bool,
    /// Whether missing directories are created, owned by root.
    pub creates_directories: bool,
}

/// How owners and permissions are set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteOptions {
    /// Whether files keep the owner from the stream. Otherwise they belong to the writing user.
    pub keeps_owner: bool,
    /// The user id to set instead of the one in the stream.
    pub uid: Option<u32>,
    /// The group id to set instead of the one in the stream.
    pub gid: Option<u32>,
    /// The permissions of regular files to set instead of those in the stream.
    pub mode: Option<u32>,
    /// The bits of permissions that may be set.
    pub mode_mask: u32,
    /// How many ids the place has. `None` if it has all.
    pub ids: Option<u32>,
}

/// Writes a stream beneath a directory. If it is dropped before it has finished, it leaves no part
/// of a file.
#[derive(Debug)]
pub struct TreeWriter<'a> {
    descriptors: &'a OpenDescriptors,
    base: OwnedFd,
    /// The name of the one file, which replaces the one in the stream.
    name: Option<Vec<u8>>,
    options: WriteOptions,
    /// The host id of user 0.
    first_id: u32,
    current: Option<Current>,
    /// Directories that get their permissions last, because with them nothing could be put into the
    /// directories.
    late: Vec<(Vec<u8>, Mode)>,
    totals: Totals,
}

/// The file that is being written.
#[derive(Debug)]
struct Current {
    path: Vec<u8>,
    file: NewFile,
    mode: u32,
    uid: u32,
    gid: u32,
}

impl<'a> TreeWriter<'a> {
    /// Opens a target.
    pub fn open(place: &'a Place, target: &Target, options: WriteOptions) -> Result<Self, FileError> {
        let path = trim_end(&target.path);
        if target.path.len() > MAX_PATH || target.path.contains(&0) {
            let message = format!("{} is not a path", show(&target.path));
            return Err(FileError::new(FileErrorKind::Invalid, message));
        }
        let must_be_directory = target.is_directory || path.len() < target.path.len() || path.is_empty();
        let refused = FileError::refused("open the directory", path);
        let (base, name) = match place.find(path, true) {
            Ok(found) if is_directory(&found) => (found, None),
            Ok(_) if must_be_directory => return Err(refused(Errno::NOTDIR)),
            Err(errno) if errno != Errno::NOENT => return Err(refused(errno)),
            Err(errno) if must_be_directory => match target.creates_directories {
                true => (make_directories(place, path, &options)?, None),
                false => return Err(refused(errno)),
            },
            // A file, a link that leads nowhere, or nothing. It is replaced, or created.
            Ok(_) | Err(_) => {
                let (parent, name) = split(path);
                let found = match place.find(parent, true) {
                    Err(Errno::NOENT) if target.creates_directories => {
                        make_directories(place, parent, &options)?
                    }
                    result => result.map_err(FileError::refused("open the directory", parent))?,
                };
                if !is_directory(&found) {
                    return Err(FileError::refused("open the directory", parent)(Errno::NOTDIR));
                }
                (found, Some(name.to_vec()))
            }
        };
        let mut writer = Self::in_directory(&place.descriptors, base, name, options);
        writer.first_id = place.first_id;
        Ok(writer)
    }

    /// Writes into a directory, given by an `O_PATH` descriptor. With `name`, only one file is
    /// expected, and gets this name.
    pub fn in_directory(
        descriptors: &'a OpenDescriptors,
        base: OwnedFd,
        name: Option<Vec<u8>>,
        options: WriteOptions,
    ) -> Self {
        let (current, late, totals) = (None, vec![], Totals::default());
        Self { descriptors, base, name, options, first_id: 0, current, late, totals }
    }

    /// Writes the next item.
    pub fn take(&mut self, item: Item) -> Result<(), FileError> {
        match item {
            Item::Entry(entry) => self.begin(entry),
            Item::Data { offset, bytes } => self.write(offset, &bytes),
            Item::End { length } => self.end(length),
            Item::Skipped { path, .. } => {
                self.discard_if(&path);
                Ok(())
            }
        }
    }

    /// How much has been written so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Ends the stream. Returns how much was written.
    pub fn finish(mut self) -> Result<Totals, FileError> {
        if self.current.is_some() {
            return Err(broken("the stream ends within a file"));
        }
        while let Some((path, mode)) = self.late.pop() {
            let refused = || FileError::refused("set the permissions of", &path);
            let found = find_beneath(self.base.as_fd(), &path).map_err(refused())?;
            let opened = self.descriptors.reopen(&found, OFlags::RDONLY | OFlags::DIRECTORY);
            opened.and_then(|directory| fchmod(directory, mode)).map_err(refused())?;
        }
        Ok(self.totals)
    }

    fn begin(&mut self, mut entry: Entry) -> Result<(), FileError> {
        if self.current.is_some() {
            return Err(broken("a file begins within another"));
        }
        check_relative(&entry.path)?;
        if let Some(name) = &self.name {
            if entry.path.contains(&b'/') || self.totals.entries > 0 || entry.kind == EntryKind::Directory {
                let message = format!("{} is not a directory to put files into", show(name));
                return Err(FileError::new(FileErrorKind::WrongKind, message));
            }
            entry.path.clone_from(name);
        }
        if entry.path == b"." && entry.kind != EntryKind::Directory {
            let message = "the target is a directory, and the file that comes has no name of its own";
            return Err(FileError::new(FileErrorKind::WrongKind, message));
        }
        entry.uid = self.options.uid.unwrap_or(entry.uid);
        entry.gid = self.options.gid.unwrap_or(entry.gid);
        self.check_ids(&entry)?;
        match entry.kind {
            EntryKind::Directory => self.make_directory(&entry)?,
            EntryKind::Link => self.make_link(&entry)?,
            EntryKind::File => self.begin_file(entry)?,
            EntryKind::Fifo | EntryKind::Socket | EntryKind::Device => {
                return Err(broken("only files, directories and links can be written"));
            }
        }
        self.totals.entries += 1;
        Ok(())
    }

    fn check_ids(&self, entry: &Entry) -> Result<(), FileError> {
        let Some(ids) = self.options.ids.filter(|_| self.options.keeps_owner) else { return Ok(()) };
        match entry.uid.max(entry.gid) < ids {
            true => Ok(()),
            false => Err(FileError::new(
                FileErrorKind::Invalid,
                format!(
                    "{} belongs to user {} and group {}, but only the ids 0 to {} exist",
                    show(&entry.path),
                    entry.uid,
                    entry.gid,
                    ids.saturating_sub(1)
                ),
            )),
        }
    }

    fn parent_of(&self, path: &[u8]) -> Result<OwnedFd, FileError> {
        let (parent, _) = split(path);
        find_beneath(self.base.as_fd(), parent).map_err(FileError::refused("open the directory", parent))
    }

    /// Creates a directory. One that exists keeps its owner and permissions.
    fn make_directory(&mut self, entry: &Entry) -> Result<(), FileError> {
        let refused = || FileError::refused("make the directory", &entry.path);
        if entry.path == b"." {
            return Ok(());
        }
        let parent = self.parent_of(&entry.path)?;
        let (_, name) = split(&entry.path);
        match mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = find_beneath(parent.as_fd(), name).map_err(refused())?;
                return if is_directory(&there) { Ok(()) } else { Err(refused()(Errno::NOTDIR)) };
            }
            Err(errno) => return Err(refused()(errno)),
        }
        let mode = Mode::from_raw_mode(entry.mode & self.options.mode_mask);
        let settle = || -> rustix::io::Result<()> {
            let made = find_beneath(parent.as_fd(), name)?;
            let made = self.descriptors.reopen(&made, OFlags::RDONLY | OFlags::DIRECTORY)?;
            self.give(made.as_fd(), entry.uid, entry.gid)?;
            fchmod(made, mode | Mode::RWXU)
        };
        settle().map_err(refused())?;
        if !mode.contains(Mode::RWXU) {
            self.late.push((entry.path.clone(), mode));
        }
        Ok(())
    }

    fn give(&self, file: BorrowedFd<'_>, uid: u32, gid: u32) -> rustix::io::Result<()> {
        match self.options.keeps_owner {
            true => {
                let (uid, gid) = self.stored(uid, gid);
                fchown(file, Some(uid), Some(gid))
            }
            false => Ok(()),
        }
    }

    /// The ids as they are stored on disk.
    fn stored(&self, uid: u32, gid: u32) -> (Uid, Gid) {
        let stored = |id: u32| id.wrapping_add(self.first_id);
        (Uid::from_raw(stored(uid)), Gid::from_raw(stored(gid)))
    }

    fn make_link(&mut self, entry: &Entry) -> Result<(), FileError> {
        let parent = self.parent_of(&entry.path)?;
        let (_, name) = split(&entry.path);
        let make = || -> rustix::io::Result<()> {
            let temporary = temporary_name()?;
            symlinkat(&*entry.target, &parent, &*temporary)?;
            let (uid, gid) = self.stored(entry.uid, entry.gid);
            let owned = match self.options.keeps_owner {
                true => chownat(&parent, &*temporary, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW),
                false => Ok(()),
            };
            owned.and_then(|()| renameat(&parent, &*temporary, &parent, name)).inspect_err(|_| {
                let _ = unlinkat(&parent, &*temporary, AtFlags::empty()); // the first error is the one to tell
            })
        };
        make().map_err(FileError::refused("make the link", &entry.path))
    }

    fn begin_file(&mut self, entry: Entry) -> Result<(), FileError> {
        let parent = self.parent_of(&entry.path)?;
        let file = NewFile::create(parent).map_err(FileError::refused("make the file", &entry.path))?;
        let mode = self.options.mode.unwrap_or(entry.mode) & self.options.mode_mask;
        let Entry { path, uid, gid, .. } = entry;
        self.current = Some(Current { path, file, mode, uid, gid });
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), FileError> {
        let Current { path, file, .. } =
            self.current.as_mut().ok_or_else(|| broken("there is data that belongs to no file"))?;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| i64::try_from(*end).is_ok());
        if end.is_none() || offset < file.end() || bytes.len() > MAX_CHUNK {
            return Err(broken("the data of a file is out of order"));
        }
        file.write(offset, bytes).map_err(FileError::refused("write", path))?;
        self.totals.bytes += bytes.len() as u64;
        Ok(())
    }

    fn end(&mut self, length: u64) -> Result<(), FileError> {
        let Current { path, file, mode, uid, gid } =
            self.current.take().ok_or_else(|| broken("a file ends that has not begun"))?;
        let complete = || -> rustix::io::Result<()> {
            file.extend(length)?;
            // In this order, because a change of the owner clears set-user-ID.
            self.give(file.as_fd(), uid, gid)?;
            fchmod(&file, Mode::from_raw_mode(mode))?;
            let (_, name) = split(&path);
            file.give_name(name, self.descriptors)
        };
        complete().map_err(FileError::refused("write", &path))
    }

    fn discard_if(&mut self, path: &[u8]) {
        let is_it = |current: &Current| current.path == path || self.name.is_some();
        if self.current.as_ref().is_some_and(is_it) {
            self.current = None;
            self.totals.entries -= 1;
        }
    }
}

/// Opens the directory of a path. Missing ones are created, for root or for the owner that files
/// are given to.
fn make_directories(place: &Place, path: &[u8], options: &WriteOptions) -> Result<OwnedFd, FileError> {
    let refused = || FileError::refused("make the directory", path);
    match place.find(path, true) {
        Err(Errno::NOENT) if !path.is_empty() => {}
        result => return result.map_err(refused()),
    }
    let (parent, name) = split(path);
    let parent = make_directories(place, parent, options)?;
    mkdirat(&parent, name, Mode::from_raw_mode(0o755)).map_err(refused())?;
    let made = find_beneath(parent.as_fd(), name).map_err(refused())?;
    let settle = || -> rustix::io::Result<()> {
        let opened = place.descriptors.reopen(&made, OFlags::RDONLY | OFlags::DIRECTORY)?;
        if options.keeps_owner {
            let stored = |id: Option<u32>| id.unwrap_or(0).saturating_add(place.first_id);
            let (uid, gid) = (Uid::from_raw(stored(options.uid)), Gid::from_raw(stored(options.gid)));
            fchown(&opened, Some(uid), Some(gid))?;
        }
        fchmod(&opened, Mode::from_raw_mode(0o755)) // whatever the umask
    };
    settle().map_err(refused())?;
    Ok(made)
}

fn is_directory(found: &OwnedFd) -> bool {
    fstat(found).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn trim_end(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    &path[..end]
}

/// Splits a path into its directory and its name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(slash) => (trim_end(&path[..slash]), &path[slash + 1..]),
        None => (b".", path),
    }
}

fn broken(what: &str) -> FileError {
    FileError::new(FileErrorKind::Invalid, format!("the stream of files is broken: {what}"))
}
