//! Looks up paths that somebody else has chosen, or may change meanwhile: from a directory, by openat2(2).
//!
//! This is the one place that says what becomes of links, `..` and mounts on the way. A caller names its [`Reach`]. The flags
//! are those of open(2), including `O_NOFOLLOW` for the last name.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// How often a look-up is tried. Renames of directories can disturb it: openat2(2), `EAGAIN`.
const ATTEMPTS: usize = 64;

/// Where a path may lead.
///
/// | reach | `/` and absolute links | `..` at the directory | symbolic links | mounts |
/// |---|---|---|---|---|
/// | `InRoot` | begin at the directory | stays there | followed | crossed |
/// | `Beneath` | `EXDEV` | `EXDEV` | `ELOOP` | crossed |
/// | `BeneathInMount` | `EXDEV` | `EXDEV` | `ELOOP` | `EXDEV` |
/// | `Anywhere` | begin at the process's root | goes up | followed | crossed |
/// | `AnywhereUnlinked` | begin at the process's root | goes up | `ELOOP` | crossed |
///
/// Links of proc(5) that lead where no path leads, such as `/proc/1/root`, are `ELOOP` with every reach. The column of links
/// applies to the last name, too. Only with both `O_PATH` and `O_NOFOLLOW` is a link itself opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What a process would see that has the directory as its root.
    InRoot,
    /// What is below the directory, through no link.
    Beneath,
    /// What is below the directory, through no link, but nothing that is mounted there.
    BeneathInMount,
    /// All that the calling process sees. For a process that has entered a guest's mounts.
    Anywhere,
    /// All that the calling process sees, through no link.
    AnywhereUnlinked,
}

impl Reach {
    fn resolve_flags(self) -> ResolveFlags {
        let unlinked = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        match self {
            Self::InRoot => ResolveFlags::NO_MAGICLINKS | ResolveFlags::IN_ROOT,
            Self::Beneath => unlinked | ResolveFlags::BENEATH,
            Self::BeneathInMount => unlinked | ResolveFlags::BENEATH | ResolveFlags::NO_XDEV,
            Self::Anywhere => ResolveFlags::NO_MAGICLINKS,
            Self::AnywhereUnlinked => unlinked,
        }
    }
}

/// Opens the file at a path that starts at a directory. The descriptor is closed on execve(2) (`O_CLOEXEC`). No file is
/// created: a caller that wants a new file opens its directory, and creates the file there.
///
/// # Errors
/// Those of openat2(2); `EAGAIN` if directories were renamed during each of 64 attempts.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn open(
    directory: impl AsFd,
    path: impl Arg + Copy,
    reach: Reach,
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let (directory, flags, resolve) = (directory.as_fd(), flags | OFlags::CLOEXEC, reach.resolve_flags());
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = openat2(directory, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

#[cfg(test)]
mod tests;
