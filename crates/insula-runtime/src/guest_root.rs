//! Files in the root volume of a guest. Tenant data is hostile, and may change at any moment while the guest runs: no path is
//! looked up but inside it, and nothing there is waited for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use insula_sys::beneath::{self, Reach};
use insula_types::IdRange;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchmod, fchown, fstat, mkdirat, open, openat,
    renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// The root directory of a guest's volume.
#[derive(Debug)]
pub struct GuestRoot {
    directory: OwnedFd,
    path: PathBuf,
    /// What the ids of the guest's root are on disk.
    root: (Uid, Gid),
}

/// A file as it was read, to be replaced by another with the same owner and permissions.
#[derive(Debug)]
pub(crate) struct ReadFile {
    /// The whole content of the file.
    pub contents: Vec<u8>,
    attributes: Attributes,
}

/// The owner and permissions of a file. The ids are those on disk.
#[derive(Debug, Clone, Copy)]
struct Attributes {
    mode: Mode,
    uid: Uid,
    gid: Gid,
}

/// Why a file of a guest can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum GuestRootError {
    /// The kernel refused.
    #[error("failed to {what} {path} of the guest root {root}")]
    Refused {
        /// What was being done.
        what: &'static str,
        /// The path in the guest.
        path: String,
        /// The root volume.
        root: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A directory, a pipe, a device.
    #[error("{path} of the guest root {root} is not a regular file")]
    NotAFile {
        /// The path in the guest.
        path: String,
        /// The root volume.
        root: PathBuf,
    },
    /// More than the caller takes.
    #[error("{path} of the guest root {root} is larger than {limit} bytes")]
    TooLarge {
        /// The path in the guest.
        path: String,
        /// The root volume.
        root: PathBuf,
        /// What the caller takes.
        limit: u64,
    },
}

impl GuestRoot {
    /// Opens a root volume on the host.
    pub fn open(path: &Path) -> Result<Self, GuestRootError> {
        let directory = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let error = |errno: Errno| GuestRootError::Refused {
            what: "open",
            path: "/".into(),
            root: path.to_owned(),
            source: errno.into(),
        };
        directory.map(|directory| Self::at(directory, path.to_owned())).map_err(error)
    }

    /// A root volume that is open already. Errors call it by its path.
    pub fn at(directory: OwnedFd, path: PathBuf) -> Self {
        Self { directory, path, root: (Uid::ROOT, Gid::ROOT) }
    }

    /// The same where files have these ids on disk, and not the guest's own.
    pub fn with_owner(self, ids: Option<IdRange>) -> Self {
        let start = ids.map_or(0, |ids| ids.start);
        Self { root: (Uid::from_raw(start), Gid::from_raw(start)), ..self }
    }

    /// Makes a file hold exactly `contents`, with these permissions, owned by root. Directories are made where they are
    /// missing; another file of the name is replaced as a whole, a symbolic link itself and not what it points to.
    /// Returns whether anything was changed.
    pub fn ensure_file(&self, path: &str, mode: u32, contents: &[u8]) -> Result<bool, GuestRootError> {
        if self.holds(path, mode, contents) {
            return Ok(false);
        }
        let (uid, gid) = self.root;
        let attributes = Attributes { mode: Mode::from_raw_mode(mode), uid, gid };
        self.replace(path, attributes, contents)
            .map(|()| true)
            .map_err(|source| self.refused("write", path, source))
    }

    /// Reads a file of at most `limit` bytes; `None` if there is none.
    pub fn read_file(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, GuestRootError> {
        Ok(self.read(path, OFlags::empty(), limit)?.map(|file| file.contents))
    }

    /// Reads a file of at most `limit` bytes that is there itself, not a symbolic link to one; `None` if there is none.
    pub(crate) fn read_to_replace(&self, path: &str, limit: u64) -> Result<Option<ReadFile>, GuestRootError> {
        self.read(path, OFlags::NOFOLLOW, limit)
    }

    /// Puts other contents at the place of a file: whole or not at all.
    pub(crate) fn replace_file(
        &self,
        path: &str,
        file: &ReadFile,
        contents: &[u8],
    ) -> Result<(), GuestRootError> {
        self.replace(path, file.attributes, contents).map_err(|source| self.refused("write", path, source))
    }

    /// Removes a regular file. What else is at the path stays.
    pub fn ensure_file_absent(&self, path: &str) -> Result<(), GuestRootError> {
        let path = path.trim_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let remove = || {
            let parent = self.open_below(parent, OFlags::PATH | OFlags::DIRECTORY)?;
            let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => unlinkat(&parent, name, AtFlags::empty()),
                _ => Ok(()),
            }
        };
        absent_is_well(remove()).map_err(|errno| self.refused("remove", path, errno.into()))
    }

    /// Removes what is directly in a directory and has such a name, but for directories.
    pub fn ensure_files_absent(
        &self,
        directory: &str,
        is_unwanted: impl Fn(&[u8]) -> bool,
    ) -> Result<(), GuestRootError> {
        let remove = || -> rustix::io::Result<()> {
            let opened = self.open_below(directory, OFlags::RDONLY | OFlags::DIRECTORY)?;
            for entry in Dir::read_from(&opened)? {
                let entry = entry?;
                if is_unwanted(entry.file_name().to_bytes()) {
                    match unlinkat(&opened, entry.file_name(), AtFlags::empty()) {
                        Err(Errno::ISDIR) => {}
                        result => absent_is_well(result)?,
                    }
                }
            }
            Ok(())
        };
        absent_is_well(remove()).map_err(|errno| self.refused("remove files of", directory, errno.into()))
    }

    fn read(&self, path: &str, flags: OFlags, limit: u64) -> Result<Option<ReadFile>, GuestRootError> {
        let not_a_file = || GuestRootError::NotAFile { path: path.to_owned(), root: self.path.clone() };
        let refused = |what| move |source| self.refused(what, path, source);
        let file = match self.open_below(path, flags | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) if flags.contains(OFlags::NOFOLLOW) => return Err(not_a_file()),
            Err(errno) => return Err(refused("open")(errno.into())),
        };
        let stat = fstat(&file).map_err(|errno| refused("look at")(errno.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_a_file());
        }
        let mut contents = vec![];
        file.take(limit + 1).read_to_end(&mut contents).map_err(refused("read"))?;
        if contents.len() as u64 > limit {
            return Err(GuestRootError::TooLarge { path: path.to_owned(), root: self.path.clone(), limit });
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let attributes =
            Attributes { mode, uid: Uid::from_raw(stat.st_uid), gid: Gid::from_raw(stat.st_gid) };
        Ok(Some(ReadFile { contents, attributes }))
    }

    fn refused(&self, what: &'static str, path: &str, source: io::Error) -> GuestRootError {
        GuestRootError::Refused { what, path: path.to_owned(), root: self.path.clone(), source }
    }

    /// Opens what is at the path as the guest sees it: no link leads out of the root.
    fn open_below(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        beneath::open(&self.directory, path, Reach::InRoot, flags)
    }

    fn holds(&self, path: &str, mode: u32, contents: &[u8]) -> bool {
        let Ok(fd) =
            self.open_below(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW)
        else {
            return false;
        };
        let is_same = fstat(&fd).is_ok_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
                && stat.st_mode & 0o7777 == mode
                && (stat.st_uid, stat.st_gid) == (self.root.0.as_raw(), self.root.1.as_raw())
                && u64::try_from(stat.st_size).is_ok_and(|size| size == contents.len() as u64)
        });
        let mut present = vec![];
        let limit = contents.len() as u64 + 1;
        is_same && File::from(fd).take(limit).read_to_end(&mut present).is_ok() && present == contents
    }

    fn replace(&self, path: &str, attributes: Attributes, contents: &[u8]) -> io::Result<()> {
        let path = path.trim_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        if matches!(name, "" | "." | "..") {
            return Err(Errno::ISDIR.into());
        }
        let parent = self.ensure_directory(parent)?;
        let new = format!(".{name}.insula-new");
        match unlinkat(&parent, &*new, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {} // of a write that was cut off
            Err(errno) => return Err(errno.into()),
        }
        let write = || -> io::Result<()> {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(&parent, &*new, flags, Mode::empty())?);
            file.write_all(contents)?;
            fchown(&file, Some(attributes.uid), Some(attributes.gid))?;
            fchmod(&file, attributes.mode)?;
            Ok(renameat(&parent, &*new, &parent, name)?)
        };
        write().inspect_err(|_| {
            let _ = unlinkat(&parent, &*new, AtFlags::empty()); // the first error is the one to tell
        })
    }

    fn ensure_directory(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        match self.open_below(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
                let parent = self.ensure_directory(parent)?;
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                chownat(&parent, name, Some(self.root.0), Some(self.root.1), AtFlags::SYMLINK_NOFOLLOW)?;
                self.open_below(path, OFlags::PATH | OFlags::DIRECTORY)
            }
            result => result,
        }
    }
}

fn absent_is_well(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A guest root beside a directory of the host, which nothing may touch.
    fn scratch() -> (tempfile::TempDir, GuestRoot, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let (root, host) = (scratch.path().join("root"), scratch.path().join("host"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&host).unwrap();
        fs::write(host.join("secret"), "secret").unwrap();
        let guest = GuestRoot::open(&root).unwrap();
        (scratch, guest, host)
    }

    #[test]
    fn a_file_is_made_once_and_changed_when_it_differs() {
        let (scratch, guest, _) = scratch();
        let path = scratch.path().join("root/etc/ssh/keys");
        assert!(guest.ensure_file("/etc/ssh/keys", 0o600, b"one").unwrap());
        assert!(!guest.ensure_file("/etc/ssh/keys", 0o600, b"one").unwrap());
        assert!(guest.ensure_file("/etc/ssh/keys", 0o640, b"one").unwrap());
        assert!(guest.ensure_file("/etc/ssh/keys", 0o640, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(guest.read_file("/etc/ssh/keys", 10).unwrap().unwrap(), b"two");
        assert_eq!(guest.read_file("/etc/none", 10).unwrap(), None);
        assert!(matches!(guest.read_file("/etc/ssh/keys", 2), Err(GuestRootError::TooLarge { .. })));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn files_belong_to_the_guests_root_whatever_its_id_is() {
        use std::os::unix::fs::MetadataExt;
        let (scratch, guest, _) = scratch();
        let guest = guest.with_owner(Some(IdRange { start: 700_000, length: 65_536 }));
        assert!(guest.ensure_file("/root/.ssh/authorized_keys", 0o600, b"key").unwrap());
        assert!(!guest.ensure_file("/root/.ssh/authorized_keys", 0o600, b"key").unwrap());
        for path in ["root/root", "root/root/.ssh", "root/root/.ssh/authorized_keys"] {
            let stat = fs::metadata(scratch.path().join(path)).unwrap();
            assert_eq!((stat.uid(), stat.gid()), (700_000, 700_000), "{path}");
        }
        let guest = guest.with_owner(None);
        assert!(guest.ensure_file("/root/.ssh/authorized_keys", 0o600, b"key").unwrap(), "another owner");
    }

    #[test]
    fn links_lead_nowhere_out_of_the_root() {
        let (scratch, guest, host) = scratch();
        let root = scratch.path().join("root");
        symlink(&host, root.join("absolute")).unwrap();
        symlink("../host", root.join("relative")).unwrap();
        symlink("/proc/self/root", root.join("magic")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        symlink(host.join("secret"), root.join("etc/file")).unwrap();
        for directory in ["absolute", "relative", "magic"] {
            assert!(
                guest.ensure_file(&format!("/{directory}/secret"), 0o600, b"changed").is_err(),
                "{directory}"
            );
            assert!(
                !matches!(guest.read_file(&format!("/{directory}/secret"), 100), Ok(Some(_))),
                "{directory}"
            );
        }
        assert_eq!(guest.read_file("/etc/file", 100).unwrap(), None);
        guest.ensure_file("/../../etc/file", 0o600, b"changed").unwrap();
        assert_eq!(fs::read(host.join("secret")).unwrap(), b"secret");
        assert_eq!(fs::read(root.join("etc/file")).unwrap(), b"changed");
    }

    #[test]
    fn what_is_no_file_is_not_read() {
        let (scratch, guest, _) = scratch();
        let root = scratch.path().join("root");
        nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::create_dir(root.join("directory")).unwrap();
        for name in ["fifo", "directory"] {
            assert!(matches!(guest.read_file(name, 10), Err(GuestRootError::NotAFile { .. })), "{name}");
        }
        assert!(guest.ensure_file("fifo", 0o644, b"now a file").unwrap());
        assert!(guest.ensure_file("directory", 0o644, b"").is_err());
        assert!(guest.ensure_file("/", 0o644, b"").is_err());
    }
}
