//! A file that is being written. It appears under its name whole or not at all.
//!
//! ```text
//! create ──> write … ──> give_name ──> the file is there, in place of another of this name
//!               └─ dropped ──────────> nothing is left
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, linkat, openat, renameat, unlinkat};
use rustix::io::{Errno, pwrite};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::place::OpenDescriptors;

/// How new files are opened.
const FLAGS: OFlags = OFlags::WRONLY.union(OFlags::CLOEXEC);

/// The permissions of a file that is not complete.
const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A file without a name, or, on file systems where it needs one, with a temporary name.
#[derive(Debug)]
pub(super) struct NewFile {
    parent: OwnedFd,
    file: OwnedFd,
    temporary: Option<String>,
    /// The offset at which the file's data ends so far.
    end: u64,
}

impl NewFile {
    /// Creates a file in a directory, for its owner alone.
    pub(super) fn create(parent: OwnedFd) -> rustix::io::Result<Self> {
        match openat(&parent, ".", FLAGS | OFlags::TMPFILE, MODE) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => Self::create_with_name(parent),
            result => Ok(Self { file: result?, parent, temporary: None, end: 0 }),
        }
    }

    fn create_with_name(parent: OwnedFd) -> rustix::io::Result<Self> {
        let temporary = temporary_name()?;
        let flags = FLAGS | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let file = openat(&parent, &*temporary, flags, MODE)?;
        Ok(Self { parent, file, temporary: Some(temporary), end: 0 })
    }

    /// The offset at which the file's data ends so far.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Writes data. What lies between the end so far and its offset becomes a hole.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) -> rustix::io::Result<()> {
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            match pwrite(&self.file, rest, at) {
                Ok(count) => (at, rest) = (at + count as u64, &rest[count..]),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.end = at;
        Ok(())
    }

    /// Extends the file to its length by a hole. A length that is less than what was written is
    /// refused.
    pub(super) fn extend(&self, length: u64) -> rustix::io::Result<()> {
        match length.cmp(&self.end) {
            std::cmp::Ordering::Less => Err(Errno::INVAL),
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => ftruncate(&self.file, length),
        }
    }

    /// Gives the file its name. At this moment it appears, and replaces another one of this name.
    pub(super) fn give_name(mut self, name: &[u8], descriptors: &OpenDescriptors) -> rustix::io::Result<()> {
        if self.temporary.is_none() {
            let temporary = match self.link(name, descriptors) {
                Err(Errno::EXIST) => temporary_name()?,
                result => return result,
            };
            self.link(temporary.as_bytes(), descriptors)?;
            self.temporary = Some(temporary);
        }
        if let Some(temporary) = &self.temporary {
            renameat(&self.parent, &**temporary, &self.parent, name)?;
        }
        self.temporary = None;
        Ok(())
    }

    fn link(&self, name: &[u8], descriptors: &OpenDescriptors) -> rustix::io::Result<()> {
        let file = OpenDescriptors::name_of(&self.file);
        linkat(descriptors, file, &self.parent, name, AtFlags::SYMLINK_FOLLOW)
    }
}

impl AsFd for NewFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(&self.parent, &**temporary, AtFlags::empty()); // what made us give up is the error to tell
        }
    }
}

/// A name that nothing else has.
pub(super) fn temporary_name() -> rustix::io::Result<String> {
    let mut random = [0_u8; 8];
    getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(format!(".insula-{:016x}", u64::from_ne_bytes(random)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Each way of creating a file, whichever of them the file system needs.
    type Create = fn(OwnedFd) -> rustix::io::Result<NewFile>;
    const WAYS: [Create; 2] = [NewFile::create, NewFile::create_with_name];

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn begun(directory: &tempfile::TempDir, create: Create) -> NewFile {
        let mut file = create(fs::File::open(directory).unwrap().into()).unwrap();
        file.write(2, b"new").unwrap();
        file
    }

    #[test]
    fn a_file_appears_whole_and_replaces_another() {
        let descriptors = OpenDescriptors::open().unwrap();
        for create in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("name");
            for before in [None, Some(b"old".to_vec())] {
                let file = begun(&directory, create);
                file.extend(7).unwrap();
                assert_eq!(fs::read(&path).ok(), before);
                file.give_name(b"name", &descriptors).unwrap();
                assert_eq!(names(&directory), ["name"]);
                assert_eq!(fs::read(&path).unwrap(), b"\0\0new\0\0");
                fs::write(&path, "old").unwrap();
            }
        }
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let descriptors = OpenDescriptors::open().unwrap();
        for create in WAYS {
            let directory = tempfile::tempdir().unwrap();
            drop(begun(&directory, create));
            assert_eq!(names(&directory), [""; 0]);
            fs::create_dir(directory.path().join("name")).unwrap();
            assert!(begun(&directory, create).give_name(b"name", &descriptors).is_err());
            assert_eq!(names(&directory), ["name"]);
        }
    }

    #[test]
    fn a_length_below_what_was_written_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = begun(&directory, NewFile::create);
        assert_eq!(file.end(), 5);
        assert_eq!(file.extend(4), Err(Errno::INVAL));
    }
}
