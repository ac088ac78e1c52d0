//! The check that an image has nothing that its clones must not share.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use insula_sys::beneath::{self, Reach};
use insula_sys::walk::Position;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, statat};

/// Files that must exist and be empty, since the guest's first boot fills them. Without `/etc/machine-id`, systemd would
/// take it for the first boot of a new machine, and ask questions on the console: machine-id(5).
const EMPTY: [&str; 2] = ["/etc/machine-id", "/etc/resolv.conf"];

/// Files that must not exist: each guest makes its own, or they belong to the host that built the image.
const ABSENT: [&str; 4] = [
    "/etc/hostname",
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
];

/// Finds what clones of a tree must not share: machine id, host keys, seeds, logs, and what came from the host that built it.
/// Returns a line for people for each finding, and one for each file that can't be read. Empty if the tree is clean.
pub fn clean_check(root: &Path) -> Vec<String> {
    let root = match rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    {
        Ok(root) => root,
        Err(errno) => return vec![format!("{} can't be read: {errno}", root.display())],
    };
    let empty = EMPTY.into_iter().filter_map(|path| match stat(&root, path) {
        Ok(stat) if is_file(&stat) && stat.st_size == 0 => None,
        Ok(_) => Some(format!("{path} is not an empty file")),
        Err(error) => Some(format!("{path} can't be read: {error}")),
    });
    let absent = ABSENT.into_iter().filter_map(|path| match stat(&root, path) {
        Ok(_) => Some(format!("{path} exists")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("{path} can't be read: {error}")),
    });
    let mut findings: Vec<String> = empty.chain(absent).collect();
    look_below(&root, "/etc/ssh", &mut findings, &|name, _| name.starts_with("ssh_host_"));
    look_below(&root, "/var/log", &mut findings, &|_, stat| is_file(stat) && stat.st_size > 0);
    findings
}

/// Looks at the file at `path`. If it is a link, looks at the link itself. Links on the way stay inside the root.
fn stat(root: &OwnedFd, path: &str) -> io::Result<Stat> {
    let file = open(root, path, OFlags::PATH | OFlags::NOFOLLOW)?;
    Ok(rustix::fs::fstat(file)?)
}

fn open(root: &OwnedFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(beneath::open(root, path, Reach::InRoot, flags)?)
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Adds a finding for each unwanted file below `path`, and for each that can't be looked at. There may be nothing at `path`.
fn look_below(root: &OwnedFd, path: &str, findings: &mut Vec<String>, is_unwanted: &IsUnwanted<'_>) {
    match open(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW) {
        Ok(top) => {
            let (position, path) = (Position::at(top), path.to_owned());
            Search { position, levels: vec![], path, findings, is_unwanted }.run();
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => findings.push(unreadable(path, &error)),
    }
}

fn unreadable(path: &str, error: &io::Error) -> String {
    format!("{path} can't be read: {error}")
}

/// Says by its name and its kind whether a file is unwanted.
type IsUnwanted<'a> = dyn Fn(&str, &Stat) -> bool + 'a;

/// A walk that looks for unwanted files.
struct Search<'a> {
    position: Position,
    /// The directories that are being looked through, the top first.
    levels: Vec<Level>,
    /// The path of the file that is being looked at, in the image.
    path: String,
    findings: &'a mut Vec<String>,
    is_unwanted: &'a IsUnwanted<'a>,
}

/// A directory that is being looked through.
struct Level {
    /// The files that are still to be looked at, in descending order: the next one is the last.
    names: Vec<CString>,
    /// The length of the directory's own path in bytes.
    path_length: usize,
}

impl Search<'_> {
    fn run(&mut self) {
        self.enter();
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            if let Some(name) = level.names.pop() {
                self.look_at(&name);
                continue;
            }
            self.levels.pop();
            if let Err(error) = self.position.ascend() {
                return self.add_unreadable(&error);
            }
        }
    }

    /// Reads the names in the directory that the walk has come to.
    fn enter(&mut self) {
        let mut names = self.position.names().unwrap_or_else(|error| {
            self.add_unreadable(&error);
            vec![]
        });
        names.sort_unstable_by(|one, other| other.cmp(one));
        self.levels.push(Level { names, path_length: self.path.len() });
    }

    fn look_at(&mut self, name: &CStr) {
        let text = name.to_string_lossy();
        self.path.extend(["/", &text]);
        let stat = match statat(&self.position.here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) => return self.add_unreadable(&errno.into()),
        };
        if (self.is_unwanted)(&text, &stat) {
            self.findings.push(format!("{} must not be part of an image", self.path));
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match self.position.descend(name) {
                Ok(()) => self.enter(),
                Err(error) => self.add_unreadable(&error),
            }
        }
    }

    fn add_unreadable(&mut self, error: &io::Error) {
        self.findings.push(unreadable(&self.path, error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_thing_that_clones_must_not_share_is_found() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path.trim_start_matches('/'));
        for directory in ["/etc/ssh", "/var/log/apt", "/var/lib/dbus", "/var/lib/systemd"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        for file in ["/etc/machine-id", "/etc/resolv.conf", "/var/log/lastlog", "/etc/ssh/sshd_config"] {
            fs::write(path(file), "").unwrap();
        }
        assert_eq!(clean_check(root.path()), [""; 0]);

        let unclean = [
            "/etc/machine-id",
            "/etc/resolv.conf",
            "/etc/hostname",
            "/var/lib/dbus/machine-id",
            "/var/lib/systemd/random-seed",
            "/var/lib/systemd/credential.secret",
            "/etc/ssh/ssh_host_rsa_key",
            "/etc/ssh/ssh_host_rsa_key.pub",
            "/var/log/apt/history.log",
        ];
        for file in unclean {
            let before = fs::read(path(file)).ok();
            fs::write(path(file), "x").unwrap();
            let findings = clean_check(root.path());
            assert!(matches!(&*findings, [finding] if finding.starts_with(file)), "{file}: {findings:?}");
            match before {
                Some(content) => fs::write(path(file), content).unwrap(),
                None => fs::remove_file(path(file)).unwrap(),
            }
        }
        fs::remove_file(path("/etc/machine-id")).unwrap();
        assert_eq!(clean_check(root.path()).len(), 1);
    }

    #[test]
    fn links_do_not_lead_out_of_the_image() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("etc")).unwrap();
        let findings = clean_check(root.path()).join("\n");
        assert!(!findings.contains("/etc/hostname exists"), "{findings}");
    }

    #[test]
    fn all_that_lies_below_is_looked_at_in_order_and_by_its_own_path() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("var/log");
        for directory in ["b/deep/deeper", "b/empty", "a"] {
            fs::create_dir_all(log.join(directory)).unwrap();
        }
        for file in ["z", "b/deep/deeper/1", "b/deep/2", "b/3", "a/4", "a.5"] {
            fs::write(log.join(file), "x").unwrap();
        }
        std::os::unix::fs::symlink("b", log.join("link")).unwrap();
        let findings = clean_check(root.path());
        let found: Vec<&str> =
            findings.iter().filter_map(|line| line.strip_suffix(" must not be part of an image")).collect();
        let expected = ["a/4", "a.5", "b/3", "b/deep/2", "b/deep/deeper/1", "z"];
        assert_eq!(found, expected.map(|file| format!("/var/log/{file}")));
    }
}
