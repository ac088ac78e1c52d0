//! Paths that somebody else has chosen, or may change meanwhile: looked up from a directory, by openat2(2).
//!
//! The one place that says what becomes of links, of `..` and of mounts on the way. A caller names its [`Reach`]; the flags are
//! those of open(2), `O_NOFOLLOW` for the last name included.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// How often a look-up is repeated that somebody has disturbed by renaming directories: openat2(2), `EAGAIN`.
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
/// Links of proc(5) that lead where no path leads, such as `/proc/1/root`, are `ELOOP` with each of them. The last name is no
/// exception to the column of links, unless the flags have both `O_PATH` and `O_NOFOLLOW`: then the link itself is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// What a process sees that has the directory as its root.
    InRoot,
    /// What is below the directory, through no link.
    Beneath,
    /// The same, but nothing that is mounted there.
    BeneathInMount,
    /// All that the process sees. For one that has entered a guest's mounts.
    Anywhere,
    /// The same, through no link.
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

/// Opens what is at a path, from a directory on; for this process only (`O_CLOEXEC`). Makes nothing: what is to be new is made
/// in the directory that this has opened.
///
/// # Errors
/// Those of openat2(2). `EAGAIN` if directories were renamed during each of many attempts.
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
