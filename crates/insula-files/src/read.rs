//! Reads a tree and turns it into a stream.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use insula_sys::beneath::{self, Reach};
use rustix::fs::{AtFlags, Dir, FileType, OFlags, SeekFrom, Stat, fstat, readlinkat, seek, statat};
use rustix::io::{Errno, pread};

use crate::error::{FileError, FileErrorKind};
use crate::item::{Entry, EntryKind, Item, MAX_CHUNK, MAX_PATH, Skip};
use crate::place::Place;
use crate::show::show;

/// The maximum depth of a tree. Each directory on the way down takes a descriptor.
const MAX_DEPTH: usize = 200;

/// Files of the kernel, as in `/proc`, report a length of 0. More than this is not read from one.
const MAX_UNKNOWN_LENGTH: u64 = 64 << 20;

/// A function that takes items. An error ends the reading.
pub type Sink<'a> = dyn FnMut(Item) -> Result<(), FileError> + 'a;

/// Reads a file or, if `recursive`, a file, link or directory with all that is in it. The entries'
/// paths begin with `name`. Without `recursive`, a link is followed to its file.
///
/// # Errors
/// The path itself can't be read. Anything in a directory that can't be read becomes
/// [`Item::Skipped`].
pub fn read(
    place: &Place,
    path: &[u8],
    name: &[u8],
    recursive: bool,
    sink: &mut Sink<'_>,
) -> Result<(), FileError> {
    let follows = !recursive || path.ends_with(b"/");
    let found = place.find(path, follows).map_err(FileError::refused("open", path))?;
    let stat = fstat(&found).map_err(FileError::refused("look at", path))?;
    let wrong =
        |what: &str| Err(FileError::new(FileErrorKind::WrongKind, format!("{} is {what}", show(path))));
    match kind_of(&stat) {
        EntryKind::Directory if !recursive => return wrong("a directory"),
        EntryKind::File | EntryKind::Directory | EntryKind::Link => {}
        EntryKind::Fifo => return wrong("a named pipe"),
        EntryKind::Socket => return wrong("a socket"),
        EntryKind::Device => return wrong("a device"),
    }
    let mut reader = Reader { place, sink, levels: vec![], buffer: vec![0; MAX_CHUNK] };
    match reader.visit(&found, &stat, name)? {
        Some(why) if !recursive => Err(FileError::new(FileErrorKind::Other, why.reason())),
        Some(why) => (reader.sink)(Item::Skipped { path: name.to_vec(), why }),
        None => reader.walk(),
    }
}

/// Lists a directory, or a single file or link. Each entry's path is only its name.
pub fn list(place: &Place, path: &[u8], sink: &mut Sink<'_>) -> Result<(), FileError> {
    let found = place.find(path, path.ends_with(b"/")).map_err(FileError::refused("open", path))?;
    let stat = fstat(&found).map_err(FileError::refused("look at", path))?;
    let name = path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty()).unwrap_or(b".");
    // A link to a directory is listed as that directory, as by ls(1).
    let (found, stat) = match kind_of(&stat) {
        EntryKind::Link => match place.find(path, true).and_then(|fd| fstat(&fd).map(|stat| (fd, stat))) {
            Ok((target, stat)) if kind_of(&stat) == EntryKind::Directory => (target, stat),
            _ => (found, stat),
        },
        _ => (found, stat),
    };
    if kind_of(&stat) != EntryKind::Directory {
        return sink(Item::Entry(entry(place, name.to_vec(), &stat, link_target(&found, &stat))));
    }
    let mut directory = open_directory(place, &found).map_err(FileError::refused("open", path))?;
    while let Some(next) = directory.read() {
        let next = next.map_err(FileError::refused("list", path))?;
        let name = next.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let directory = directory.fd().map_err(FileError::refused("list", path))?;
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let is_link = kind_of(&stat) == EntryKind::Link;
                let target = is_link.then(|| readlinkat(directory, name, vec![]).ok()).flatten();
                let target = target.map(std::ffi::CString::into_bytes).unwrap_or_default();
                sink(Item::Entry(entry(place, name.to_vec(), &stat, target)))?;
            }
            Err(Errno::NOENT) => {} // it has just gone
            Err(errno) => {
                let why = Skip::Failed(std::io::Error::from(errno).to_string());
                sink(Item::Skipped { path: name.to_vec(), why })?;
            }
        }
    }
    Ok(())
}

struct Reader<'a, 'b> {
    place: &'a Place,
    sink: &'a mut Sink<'b>,
    /// The directories on the way down to the current one.
    levels: Vec<Level>,
    buffer: Vec<u8>,
}

struct Level {
    directory: Dir,
    path: Vec<u8>,
}

impl Reader<'_, '_> {
    /// Reads the directories on the way down until none is left.
    fn walk(&mut self) -> Result<(), FileError> {
        while let Some(level) = self.levels.last_mut() {
            let next = match level.directory.read() {
                None => {
                    self.levels.pop();
                    continue;
                }
                Some(Err(errno)) => {
                    let path = level.path.clone();
                    self.levels.pop();
                    self.skip(path, failed(errno))?;
                    continue;
                }
                Some(Ok(next)) => next,
            };
            let name = next.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = match &*level.path {
                b"." => name.to_vec(),
                above => [above, b"/", name].concat(),
            };
            let found = find_in(&level.directory, name);
            let skipped = match found {
                Ok((fd, stat)) => self.visit(&fd, &stat, &path)?,
                Err(Errno::NOENT) => None, // it has just gone
                Err(Errno::XDEV) => Some(Skip::OtherFileSystem),
                Err(errno) => Some(failed(errno)),
            };
            if let Some(why) = skipped {
                self.skip(path, why)?;
            }
        }
        Ok(())
    }

    fn skip(&mut self, path: Vec<u8>, why: Skip) -> Result<(), FileError> {
        (self.sink)(Item::Skipped { path, why })
    }

    /// Sends one file, directory or link. If it can't be sent, says why in the stream.
    fn visit(&mut self, found: &OwnedFd, stat: &Stat, path: &[u8]) -> Result<Option<Skip>, FileError> {
        if path.len() > MAX_PATH || self.levels.len() >= MAX_DEPTH {
            return Ok(Some(Skip::TooDeep));
        }
        match kind_of(stat) {
            EntryKind::File => self.read_file(found, path),
            EntryKind::Directory => match open_directory(self.place, found) {
                Err(errno) => Ok(Some(failed(errno))),
                Ok(directory) => {
                    (self.sink)(Item::Entry(entry(self.place, path.to_vec(), stat, vec![])))?;
                    self.levels.push(Level { directory, path: path.to_vec() });
                    Ok(None)
                }
            },
            EntryKind::Link => {
                (self.sink)(Item::Entry(entry(self.place, path.to_vec(), stat, link_target(found, stat))))
                    .map(|()| None)
            }
            kind => Ok(Some(Skip::Kind(kind))),
        }
    }

    fn read_file(&mut self, found: &OwnedFd, path: &[u8]) -> Result<Option<Skip>, FileError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = self
            .place
            .descriptors
            .reopen(found, flags)
            .and_then(|file| fstat(&file).map(|stat| (file, stat)));
        let (file, stat) = match opened {
            Ok(opened) => opened,
            Err(errno) => return Ok(Some(failed(errno))),
        };
        (self.sink)(Item::Entry(entry(self.place, path.to_vec(), &stat, vec![])))?;
        let length = u64::try_from(stat.st_size).unwrap_or(0);
        let has_holes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < length;
        let limit = if length == 0 { MAX_UNKNOWN_LENGTH } else { length };
        match self.read_data(file.as_fd(), has_holes, limit)? {
            Ok(read) => (self.sink)(Item::End { length: read }).map(|()| None),
            Err(why) => Ok(Some(why)),
        }
    }

    /// Sends all data up to the limit. Returns the file's length.
    fn read_data(
        &mut self,
        file: BorrowedFd<'_>,
        has_holes: bool,
        limit: u64,
    ) -> Result<Result<u64, Skip>, FileError> {
        let (mut at, mut data_until) = (0, if has_holes { 0 } else { limit });
        while at < limit {
            if at >= data_until {
                match next_data(file, at) {
                    Ok(Some((start, end))) => (at, data_until) = (start, end.min(limit)),
                    // There is a hole up to the end, wherever the end is by now.
                    Ok(None) => return Ok(end_of(file).map(|end| end.min(limit)).map_err(failed)),
                    Err(errno) => return Ok(Err(failed(errno))),
                }
                continue;
            }
            let wanted = usize::try_from(data_until - at).unwrap_or(MAX_CHUNK).min(MAX_CHUNK);
            match pread(file, &mut self.buffer[..wanted], at) {
                Ok(0) => return Ok(Ok(at)), // shorter than it was
                Ok(count) => {
                    let bytes = self.buffer[..count].to_vec();
                    (self.sink)(Item::Data { offset: at, bytes })?;
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Ok(Err(failed(errno))),
            }
        }
        Ok(Ok(at))
    }
}

/// The offset of the next data: lseek(2), `SEEK_DATA`. `None` if there is a hole up to the end.
fn next_data(file: BorrowedFd<'_>, from: u64) -> rustix::io::Result<Option<(u64, u64)>> {
    let start = match seek(file, SeekFrom::Data(from)) {
        Err(Errno::NXIO) => return Ok(None),
        result => result?,
    };
    Ok(Some((start, seek(file, SeekFrom::Hole(start))?)))
}

fn end_of(file: BorrowedFd<'_>) -> rustix::io::Result<u64> {
    seek(file, SeekFrom::End(0))
}

/// Opens an entry of a directory, unless another file system is mounted on it.
fn find_in(directory: &Dir, name: &[u8]) -> rustix::io::Result<(OwnedFd, Stat)> {
    let found = beneath::open(directory.fd()?, name, Reach::BeneathInMount, OFlags::PATH | OFlags::NOFOLLOW)?;
    let stat = fstat(&found)?;
    Ok((found, stat))
}

fn open_directory(place: &Place, found: &OwnedFd) -> rustix::io::Result<Dir> {
    Dir::new(place.descriptors.reopen(found, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

fn link_target(found: &OwnedFd, stat: &Stat) -> Vec<u8> {
    match kind_of(stat) {
        EntryKind::Link => {
            readlinkat(found, "", vec![]).map(std::ffi::CString::into_bytes).unwrap_or_default()
        }
        _ => vec![],
    }
}

fn failed(errno: Errno) -> Skip {
    Skip::Failed(std::io::Error::from(errno).to_string())
}

fn kind_of(stat: &Stat) -> EntryKind {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Link,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        _ => EntryKind::Device,
    }
}

fn entry(place: &Place, path: Vec<u8>, stat: &Stat, target: Vec<u8>) -> Entry {
    let modified_at_ms =
        stat.st_mtime.saturating_mul(1000).saturating_add(stat.st_mtime_nsec.cast_signed() / 1_000_000);
    Entry {
        path,
        kind: kind_of(stat),
        mode: stat.st_mode & 0o7777,
        uid: id_in(place, stat.st_uid),
        gid: id_in(place, stat.st_gid),
        length: u64::try_from(stat.st_size).unwrap_or(0),
        modified_at_ms,
        target,
    }
}

/// The id as seen from inside the place: 65534, nobody, for ids that do not belong to it.
fn id_in(place: &Place, id: u32) -> u32 {
    id.checked_sub(place.first_id).unwrap_or(65534)
}
