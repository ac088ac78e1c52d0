//! The one way through a tree of files that may be hostile.
//!
//! A tenant may have given it names of any bytes, links that lead elsewhere, and directories nested deeper than a path can
//! say or a process may have descriptors. So a walk does not recurse, and holds one descriptor at any depth. It goes down by
//! a name, looked up in the directory that has it, and up by `..`:
//!
//! * A symbolic link, and a file system mounted in the tree, are never entered.
//! * The directory that `..` leads to must be the one that the walk came from. It is not if somebody moved a directory
//!   meanwhile, and then the walk ends with an error.
//!
//! The caller keeps the names that are still to be visited, a list for each directory on the way, and decides their order.
//! Memory grows with these names and with the depth. Paths of all levels side by side would grow with its square: keep one.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, Mode, OFlags, Stat, fstat, openat};

use crate::beneath::{self, Reach};

/// The directory that a walk is in.
#[derive(Debug)]
pub struct Position {
    /// The directory, open for reading.
    pub here: OwnedFd,
    /// The directories above, the top first.
    above: Vec<Identity>,
}

/// What makes a directory itself: its device and its inode.
type Identity = (u64, u64);

impl Position {
    /// Begins at the top of a tree: a directory that is open for reading.
    pub fn at(top: OwnedFd) -> Self {
        Self { here: top, above: vec![] }
    }

    /// Goes into a directory of this one. After an error the position is as before.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` for a link, `ENOTDIR` for another file, `EXDEV` for a mount; else those of openat2(2).
    pub fn descend(&mut self, name: &CStr) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
        let below = beneath::open(&self.here, name, Reach::BeneathInMount, flags)?;
        self.above.push(identity(&self.stat()?));
        self.here = below;
        Ok(())
    }

    /// Goes back to the directory above. `false` at the top, where there is none.
    ///
    /// # Errors
    /// The directory was moved since the walk went into it, or can no longer be opened. The walk can't go on then.
    pub fn ascend(&mut self) -> io::Result<bool> {
        let Some(expected) = self.above.pop() else { return Ok(false) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.here = openat(&self.here, "..", flags, Mode::empty())?;
        match identity(&self.stat()?) == expected {
            true => Ok(true),
            false => Err(io::Error::other("a directory was moved meanwhile")),
        }
    }

    /// The names of all files in the directory: [`names`].
    ///
    /// # Errors
    /// Those of open(2) and getdents(2).
    pub fn names(&self) -> io::Result<Vec<CString>> {
        names(&self.here)
    }

    /// Type, mode, owner and times of the directory.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.here)?)
    }
}

/// The names of all files in a directory, without `.` and `..`, in the order of the file system: in any. The directory may
/// be open for reading or with `O_PATH`; its offset stays.
///
/// # Errors
/// Those of open(2) and getdents(2).
pub fn names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = vec![];
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::fs::{self, File};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn at(path: &Path) -> Position {
        Position::at(File::open(path).unwrap().into())
    }

    #[test]
    fn it_goes_down_by_names_of_any_bytes_and_up_to_where_it_came_from() {
        let top = tempfile::tempdir().unwrap();
        let name = c"new\nline \xff -rf";
        let below = top.path().join(OsStr::from_bytes(name.to_bytes()));
        fs::create_dir(&below).unwrap();
        fs::write(below.join("file"), "").unwrap();
        let mut position = at(top.path());
        for _ in 0..2 {
            assert_eq!(position.names().unwrap(), [name.to_owned()]);
            position.descend(name).unwrap();
            assert_eq!(position.names().unwrap(), [c"file".to_owned()]);
            assert!(position.ascend().unwrap());
        }
        assert!(!position.ascend().unwrap(), "it is at the top");
        assert_eq!(position.names().unwrap(), [name.to_owned()]);
    }

    #[test]
    fn it_enters_neither_links_nor_mounts_and_stays_where_it_is() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("directory")).unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        symlink("directory", top.path().join("link")).unwrap();
        symlink("/", top.path().join("away")).unwrap();
        let mut position = at(top.path());
        for name in [c"link", c"away", c"file", c"..", c"missing"] {
            assert!(position.descend(name).is_err(), "{name:?}");
        }
        position.descend(c"directory").unwrap();
        assert!(position.ascend().unwrap() && !position.ascend().unwrap(), "one directory was entered");
        let mut root = at(Path::new("/"));
        assert_eq!(root.descend(c"proc").unwrap_err().kind(), io::ErrorKind::CrossesDevices);
        assert!(!root.ascend().unwrap(), "it is where it was");
    }

    #[test]
    fn it_does_not_go_up_to_another_place() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        fs::create_dir_all(path("one/two")).unwrap();
        fs::create_dir(path("other")).unwrap();
        let mut position = at(&path("one"));
        position.descend(c"two").unwrap();
        fs::rename(path("one/two"), path("other/two")).unwrap();
        assert_eq!(position.ascend().unwrap_err().to_string(), "a directory was moved meanwhile");
    }
}
