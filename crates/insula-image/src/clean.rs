//! What clones of one image must not share.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use insula_sys::beneath::{self, Reach};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, statat};

/// Files that a guest's first boot fills: they exist and are empty. Without `/etc/machine-id` systemd would take
/// the boot for that of a factory-fresh machine and ask questions on the console: machine-id(5).
const EMPTY: [&str; 2] = ["/etc/machine-id", "/etc/resolv.conf"];

/// Files that a guest makes for itself, or that belong to the host that built the image.
const ABSENT: [&str; 4] = [
    "/etc/hostname",
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
];

/// What makes the tree unclean for cloning: machine id, host keys, seeds, logs, and what came from the host that
/// built it. A line for people each; none when it is clean.
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
    walk(&root, "/etc/ssh", &mut findings, &|name, _| name.starts_with("ssh_host_"));
    walk(&root, "/var/log", &mut findings, &|_, stat| is_file(stat) && stat.st_size > 0);
    findings
}

/// The file at `path`, not what it points to. Links on the way stay inside the root.
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

/// Adds what is below `path` and unwanted. There may be nothing at all.
fn walk(root: &OwnedFd, path: &str, findings: &mut Vec<String>, is_unwanted: &dyn Fn(&str, &Stat) -> bool) {
    let mut visit = || -> io::Result<()> {
        let directory = open(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if name == "." || name == ".." {
                continue;
            }
            let stat = statat(directory.as_fd(), entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            let path = format!("{path}/{name}");
            if is_unwanted(&name, &stat) {
                findings.push(format!("{path} must not be part of an image"));
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                walk(root, &path, findings, is_unwanted);
            }
        }
        Ok(())
    };
    match visit() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            findings.push(format!("{path} can't be read: {error}"));
        }
        _ => {}
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
}
