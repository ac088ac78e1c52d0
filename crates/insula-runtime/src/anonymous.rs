//! What a copy of a guest must not share with the original.

use crate::guest_root::{GuestRoot, GuestRootError};

/// Files that a guest makes for itself when they are missing. A link at their place is none of them: dbus has one to
/// `/etc/machine-id`.
const SEEDS: [&str; 3] =
    ["/var/lib/dbus/machine-id", "/var/lib/systemd/random-seed", "/var/lib/systemd/credential.secret"];

/// Makes a copy of a guest a machine of its own, before its first boot: without the machine id (machine-id(5)), the SSH host
/// keys, the random seed and the key for credentials of the original. It makes its own when it boots.
pub fn make_anonymous(root: &GuestRoot) -> Result<(), GuestRootError> {
    // Empty, not absent: systemd takes a boot without the file for that of a factory-fresh machine.
    root.ensure_file("/etc/machine-id", 0o644, b"")?;
    for path in SEEDS {
        root.ensure_file_absent(path)?;
    }
    root.ensure_files_absent("/etc/ssh", |name| name.starts_with(b"ssh_host_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_copy_loses_what_makes_it_the_original() {
        let root = tempfile::tempdir().unwrap();
        let path = |path: &str| root.path().join(path);
        for directory in ["etc/ssh/ssh_host_directory", "var/lib/dbus", "var/lib/systemd"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        let keys = ["etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub"];
        let seeds = SEEDS.map(|path| &path[1..]);
        let kept = ["etc/ssh/sshd_config", "etc/ssh/not_ssh_host_key", "var/lib/systemd/timers"];
        for file in keys.into_iter().chain(seeds).chain(kept).chain(["etc/machine-id"]) {
            fs::write(path(file), "original").unwrap();
        }
        symlink("/etc/ssh/sshd_config", path("etc/ssh/ssh_host_link")).unwrap();
        let guest = GuestRoot::open(root.path()).unwrap();
        for _ in 0..2 {
            make_anonymous(&guest).unwrap();
            assert_eq!(fs::read(path("etc/machine-id")).unwrap(), b"");
            for gone in keys.into_iter().chain(seeds).chain(["etc/ssh/ssh_host_link"]) {
                assert!(path(gone).symlink_metadata().is_err(), "{gone}");
            }
            for file in kept {
                assert_eq!(fs::read(path(file)).unwrap(), b"original", "{file}");
            }
        }
    }

    #[test]
    fn a_root_without_any_of_it_is_as_good() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/dbus")).unwrap();
        symlink("/etc/machine-id", root.path().join("var/lib/dbus/machine-id")).unwrap();
        make_anonymous(&GuestRoot::open(root.path()).unwrap()).unwrap();
        assert_eq!(fs::read(root.path().join("etc/machine-id")).unwrap(), b"");
        assert!(root.path().join("var/lib/dbus/machine-id").symlink_metadata().is_ok());
    }

    #[test]
    fn links_lead_to_no_file_of_the_host() {
        let scratch = tempfile::tempdir().unwrap();
        let (root, host) = (scratch.path().join("root"), scratch.path().join("host"));
        for directory in [&root.join("etc"), &root.join("var/lib"), &host] {
            fs::create_dir_all(directory).unwrap();
        }
        for file in ["ssh_host_rsa_key", "random-seed"] {
            fs::write(host.join(file), "host").unwrap();
        }
        symlink(&host, root.join("etc/ssh")).unwrap();
        symlink("../../../host", root.join("var/lib/systemd")).unwrap();
        make_anonymous(&GuestRoot::open(&root).unwrap()).unwrap();
        assert_eq!(fs::read_dir(&host).unwrap().count(), 2);
    }
}
