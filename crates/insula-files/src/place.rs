//! A directory and what is in it, and descriptors opened anew.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use insula_sys::beneath::{self, Reach};
use rustix::fs::{Mode, OFlags, open, openat};

/// `/proc/self/fd` of the host's proc(5): the way to open what is known by an `O_PATH` descriptor, and to give a name to what
/// has none. To be opened before a process leaves the host's mounts.
#[derive(Debug)]
pub struct OpenDescriptors(OwnedFd);

impl OpenDescriptors {
    /// Opens it, for the calling process only.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open("/proc/self/fd", flags, Mode::empty())?))
    }

    /// The path of a descriptor, which must be open for as long as that is used.
    pub(crate) fn name_of(fd: &impl AsFd) -> String {
        fd.as_fd().as_raw_fd().to_string()
    }

    /// Opens anew what a descriptor refers to.
    pub(crate) fn reopen(&self, fd: &impl AsFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat(&self.0, Self::name_of(fd), flags | OFlags::CLOEXEC, Mode::empty())
    }
}

impl AsFd for OpenDescriptors {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A directory that nothing leads out of.
#[derive(Debug)]
pub struct Place {
    root: OwnedFd,
    pub(crate) descriptors: OpenDescriptors,
    /// The id on disk of the place's own user 0.
    pub(crate) first_id: u32,
}

impl Place {
    /// A directory, as a descriptor of it.
    pub fn new(root: OwnedFd, descriptors: OpenDescriptors) -> Self {
        Self { root, descriptors, first_id: 0 }
    }

    /// The same, where files belong to ids from this on instead of from 0.
    #[must_use]
    pub fn with_first_id(self, first_id: u32) -> Self {
        Self { first_id, ..self }
    }

    /// What is at a path as processes in the place see it: absolute links begin at the place. An `O_PATH` descriptor; of
    /// a link itself, where the last name is one and it is not followed.
    pub(crate) fn find(&self, path: &[u8], follows_last: bool) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = if follows_last { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        beneath::open(&self.root, path, Reach::InRoot, flags)
    }
}

/// What is beneath a directory at a path without links. An `O_PATH` descriptor, of a link itself where the last name is one.
pub(crate) fn find_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    beneath::open(directory, path, Reach::Beneath, OFlags::PATH | OFlags::NOFOLLOW)
}
