//! A way through a tree of any depth, with one descriptor for it: down by name, up by `..`.
//!
//! What a tenant has made is hostile: names of any bytes, directories deeper than a path can say or a process may have
//! descriptors, links that lead elsewhere. A name is looked up in the directory that has it, through no link, and the way up
//! is checked to lead to where the way down came from.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;

use insula_sys::beneath::{self, Reach};
use rustix::fs::{Dir, Mode, OFlags, Stat, fstat, openat};

/// A directory that stands open while the walk is somewhere in its tree.
#[derive(Debug)]
pub struct Position {
    /// The directory that the walk is in.
    pub here: OwnedFd,
    /// Those above, the top first.
    above: Vec<Identity>,
}

/// What makes a directory itself: its device and its inode.
type Identity = (u64, u64);

impl Position {
    /// Begins at the top of a tree.
    pub fn at(top: OwnedFd) -> Self {
        Self { here: top, above: vec![] }
    }

    /// Goes into a directory.
    pub fn descend(&mut self, name: &CStr) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let below = beneath::open(&self.here, name, Reach::BeneathInMount, flags)?;
        self.above.push(identity(&self.stat()?));
        self.here = below;
        Ok(())
    }

    /// Goes back to the directory above. `false` at the top.
    pub fn ascend(&mut self) -> io::Result<bool> {
        let Some(expected) = self.above.pop() else { return Ok(false) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.here = openat(&self.here, "..", flags, Mode::empty())?;
        match identity(&self.stat()?) == expected {
            true => Ok(true),
            false => Err(io::Error::other("a directory was moved meanwhile")),
        }
    }

    /// The names in the directory.
    pub fn names(&self) -> io::Result<Vec<CString>> {
        let mut names = vec![];
        for entry in Dir::read_from(&self.here)? {
            let entry = entry?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                names.push(entry.file_name().to_owned());
            }
        }
        Ok(names)
    }

    /// What is known of the directory.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.here)?)
    }
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}
