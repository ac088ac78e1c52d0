//! Fingerprints of real files.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use insula_image::{TreeDigest, fingerprint};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, makedev, mkdirat, mknodat, openat, setxattr};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

/// A tree with one file of every kind.
fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(path("a")).unwrap();
    fs::set_permissions(path("a"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(path("a/file"), "content").unwrap();
    fs::set_permissions(path("a/file"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path("a.b"), "").unwrap(); // sorts before "a/" as a text, and after "a" as a name
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

/// The fingerprint of this tree was computed by the recursive code that `insula_sys::walk` has replaced.
#[test]
fn files_are_read_in_the_order_that_they_always_were() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| root.path().join(OsStr::from_bytes(name));
    // Neighbours of "/" in ASCII, bytes above it, and siblings that come after a directory with much in it.
    let directories: [&[u8]; 7] = [b"b", b"b/b", b"b/b/b", b"b/b.c", b"b0", b"\xc3\xa4", b"empty"];
    let files: [&[u8]; 10] = [
        b"b/b/b/z",
        b"b/b/b/a",
        b"b/b/c",
        b"b/b.c/x",
        b"b/a",
        b"b-",
        b"b.",
        b"b0/x",
        b"\xff",
        b"\xc3\xa4/\n",
    ];
    for name in directories {
        fs::create_dir(path(name)).unwrap();
    }
    for name in files {
        fs::write(path(name), name).unwrap();
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    for name in directories.into_iter().chain([&b""[..]]) {
        fs::set_permissions(path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let digest = digest(root.path());
    assert_eq!(
        digest.fingerprint.to_string(),
        "97f9eaf0217ef98c10375191c74c573a0fe544aafebfa7794c918cc6b1caef45"
    );
    assert_eq!((digest.size.bytes(), digest.files), (42, 18));
}

#[test]
fn a_tree_deeper_than_paths_and_descriptors_is_read() {
    const DEPTH: usize = 3000;
    let root = tempfile::tempdir().unwrap();
    let mut here: OwnedFd = fs::File::open(root.path()).unwrap().into();
    for _ in 0..DEPTH {
        mkdirat(&here, "dd", Mode::RWXU).unwrap();
        here = openat(&here, "dd", OFlags::PATH, Mode::empty()).unwrap();
    }
    drop(openat(&here, "deep", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
    drop(here);
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (before, mut at_the_bottom) = (open_files(), 0);
    let read =
        fingerprint(fs::File::open(root.path()).unwrap().into(), &mut |_| at_the_bottom = open_files());
    assert_eq!(read.unwrap().files, DEPTH as u64 + 2);
    // Other tests may have some files open, too.
    assert!((1..before + 50).contains(&at_the_bottom), "{at_the_bottom} files were open, {before} before");
    flatten(root.path());
}

/// Makes a deep tree shallow, so that it can be removed by its path.
fn flatten(root: &Path) {
    let (top, below, apart) = (root.join("dd"), root.join("dd/dd"), root.join("apart"));
    while below.exists() {
        fs::rename(&below, &apart).unwrap();
        fs::remove_dir(&top).unwrap();
        fs::rename(&apart, &top).unwrap();
    }
}

#[test]
fn a_tree_with_another_one_mounted_in_it_has_no_fingerprint() {
    let root = tree();
    let read = || fingerprint(fs::File::open(root.path()).unwrap().into(), &mut |_| ());
    // The mount is in a mount namespace of this thread, and ends with it.
    let error = std::thread::scope(|scope| {
        let mounted = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount("tmpfs", root.path().join("a"), "tmpfs", MountFlags::empty(), None).unwrap();
            read().unwrap_err()
        });
        mounted.join().unwrap()
    });
    assert_eq!((error.path.to_str(), error.source.kind()), (Some("a"), ErrorKind::CrossesDevices));
    read().unwrap();
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
