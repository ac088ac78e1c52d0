//! A directory as a place to work in, and descriptors that are opened anew.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use insula_sys::beneath::{self, Reach};
use rustix::fs::{Mode, OFlags, open, openat};

/// `/proc/self/fd` of the host's proc(5). It serves to open what an `O_PATH` descriptor refers to,
/// and to give a name to a file that has none. It must be opened before a process leaves the host's
/// mounts.
#[derive(Debug)]
pub struct OpenDescriptors(OwnedFd);

impl OpenDescriptors {
    /// Opens it, for use by the calling process only.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(open("/proc/self/fd", flags, Mode::empty())?))
    }

    /// The path of a descriptor. The descriptor must stay open for as long as the path is used.
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

/// A directory that no path leads out of.
#[derive(Debug)]
pub struct Place {
    root: OwnedFd,
    pub(crate) descriptors: OpenDescriptors,
    /// The host id of user 0 in the place.
    pub(crate) first_id: u32,
}

impl Place {
    /// Makes a place from a descriptor of its directory.
    pub fn new(root: OwnedFd, descriptors: OpenDescriptors) -> Self {
        Self { root, descriptors, first_id: 0 }
    }

    /// The same place, with files that belong to ids from `first_id` on instead of from 0.
    #[must_use]
    pub fn with_first_id(self, first_id: u32) -> Self {
        Self { first_id, ..self }
    }

    /// Finds what is at a path as seen from inside the place, where absolute links start at its
    /// root. Returns an `O_PATH` descriptor, which is that of a link itself if the path ends in one
    /// and `follows_last` is false.
    pub(crate) fn find(&self, path: &[u8], follows_last: bool) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = if follows_last { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        beneath::open(&self.root, path, Reach::InRoot, flags)
    }
}

/// Finds what is at a path without links beneath a directory. Returns an `O_PATH` descriptor, which
/// may be that of a link at the end of the path.
pub(crate) fn find_beneath(directory: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    beneath::open(directory, path, Reach::Beneath, OFlags::PATH | OFlags::NOFOLLOW)
}
