//! Fingerprints of real files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use insula_image::{TreeDigest, fingerprint};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};

/// A tree with one file of every kind.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path("a")).unwrap();
    fs::set_permissions(path("a"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(path("a/file"), "content").unwrap();
    fs::set_permissions(path("a/file"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path("a.b"), "").unwrap(); // sorts before "a/" as a text, and behind "a" as a name
    fs::set_permissions(path("a.b"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("/etc/passwd", path("link")).unwrap();
    let node = |name, kind, device| mknodat(CWD, path(name), kind, Mode::from(0o600), device);
    node("null", FileType::CharacterDevice, makedev(1, 3)).expect("making a device needs root");
    node("pipe", FileType::Fifo, 0).unwrap();
    for name in ["null", "pipe"] {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    root
}

fn digest(root: &Path) -> TreeDigest {
    fingerprint(fs::File::open(root).unwrap().into(), &mut |_| ()).unwrap()
}

#[test]
fn the_format_never_changes() {
    let root = tree();
    let digest = digest(root.path());
    assert_eq!(
        digest.fingerprint.to_string(),
        "de780f1d256bd3c3ec3d210768df2d348ff5eb83c8c4179af911d683c2d04f0d"
    );
    assert_eq!((digest.size.bytes(), digest.files), (7, 7));
}

#[test]
fn every_difference_is_seen() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 9] = [
        ("content", |root| fs::write(root.join("a/file"), "CONTENT").unwrap()),
        ("name", |root| fs::rename(root.join("a.b"), root.join("a.c")).unwrap()),
        ("place", |root| fs::rename(root.join("a.b"), root.join("a/b")).unwrap()),
        ("mode", |root| fs::set_permissions(root.join("a.b"), fs::Permissions::from_mode(0o711)).unwrap()),
        ("owner", |root| chown(root.join("a.b"), Some(1), None).unwrap()),
        ("group", |root| chown(root.join("a"), None, Some(1)).unwrap()),
        ("target", |root| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("/etc/group", root.join("link")).unwrap();
        }),
        ("capability", |root| {
            // CAP_NET_RAW, permitted and effective: struct vfs_cap_data, revision 2
            let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            setxattr(root.join("a/file"), "security.capability", &capability, XattrFlags::CREATE).unwrap();
        }),
        ("root", |root| fs::set_permissions(root, fs::Permissions::from_mode(0o700)).unwrap()),
    ];
    for (what, change) in changes {
        let root = tree();
        let before = digest(root.path());
        change(root.path());
        assert_ne!(digest(root.path()).fingerprint, before.fingerprint, "{what}");
    }
}

#[test]
fn times_and_hard_links_make_no_difference() {
    let (one, two) = (tree(), tree());
    let (name, other) = (one.path().join("a/file"), one.path().join("z"));
    fs::hard_link(name, other).unwrap();
    fs::copy(two.path().join("a/file"), two.path().join("z")).unwrap();
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    fs::File::open(two.path().join("a/file")).unwrap().set_times(times).unwrap();
    let (one, two) = (digest(one.path()), digest(two.path()));
    assert_eq!(one.fingerprint, two.fingerprint);
    assert_eq!((one.size.bytes(), two.size.bytes()), (7, 14), "an inode counts once");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let file = fs::File::open("/proc/self/environ").unwrap();
    let error = fingerprint(file.into(), &mut |_| ()).unwrap_err();
    assert_eq!(error.to_string(), "failed to take the fingerprint of the tree: / can't be read");
}
