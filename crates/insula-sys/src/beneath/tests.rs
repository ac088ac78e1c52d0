//! Tests of how far a path may lead, against the kernel.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;

const REACHES: [Reach; 5] =
    [Reach::InRoot, Reach::Beneath, Reach::BeneathInMount, Reach::Anywhere, Reach::AnywhereUnlinked];

/// What opening a path ends with, for each reach.
fn ends(directory: &Path, path: &str, flags: OFlags) -> [Option<Errno>; 5] {
    let directory = fs::File::open(directory).unwrap();
    REACHES.map(|reach| open(&directory, path, reach, flags).err())
}

#[test]
fn a_path_leads_no_further_than_its_reach() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    for (directory, file) in [(&*root.join("in"), "file"), (&*scratch.path().join("outside"), "file")] {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join(file), "").unwrap();
    }
    symlink("/in", root.join("absolute")).unwrap();
    symlink("in", root.join("relative")).unwrap();
    symlink("../outside", root.join("out")).unwrap();
    const LOOP: Option<Errno> = Some(Errno::LOOP);
    const XDEV: Option<Errno> = Some(Errno::XDEV);
    const NOENT: Option<Errno> = Some(Errno::NOENT);
    for (path, expected) in [
        ("in/file", [None; 5]),
        ("in/../in/file", [None; 5]),
        ("relative/file", [None, LOOP, LOOP, None, LOOP]),
        ("relative", [None, LOOP, LOOP, None, LOOP]),
        ("absolute/file", [None, LOOP, LOOP, NOENT, LOOP]),
        ("out/file", [NOENT, LOOP, LOOP, None, LOOP]),
        ("../outside/file", [NOENT, XDEV, XDEV, None, None]),
        ("../in/file", [None, XDEV, XDEV, NOENT, NOENT]),
        ("/in/file", [None, XDEV, XDEV, NOENT, NOENT]),
        ("none", [NOENT; 5]),
    ] {
        assert_eq!(ends(&root, path, OFlags::PATH), expected, "{path}");
    }
    let itself = OFlags::PATH | OFlags::NOFOLLOW;
    assert_eq!(ends(&root, "out", itself), [None; 5], "the link itself");
    assert_eq!(ends(&root, "out", OFlags::RDONLY | OFlags::NOFOLLOW), [LOOP; 5]);
}

#[test]
fn mounts_end_one_reach_and_links_of_proc_all() {
    let mounted = ends(Path::new("/"), "proc/version", OFlags::RDONLY);
    assert_eq!(mounted, [None, None, Some(Errno::XDEV), None, None]);
    let path = format!("{}/cwd", std::process::id());
    assert_eq!(ends(Path::new("/proc"), &path, OFlags::PATH), [Some(Errno::LOOP); 5]);
}

#[test]
fn what_is_opened_is_not_inherited() {
    let opened = open(rustix::fs::CWD, ".", Reach::Beneath, OFlags::PATH).unwrap();
    assert!(rustix::io::fcntl_getfd(opened).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

/// The kernel gives `EAGAIN` for a `..` while anything is renamed, anywhere.
#[test]
#[expect(clippy::disallowed_methods, reason = "to see that the kernel refuses what the module repeats")]
fn renames_do_not_disturb_a_look_up() {
    let scratch = tempfile::tempdir().unwrap();
    let [root, one, other] = ["root", "one", "other"].map(|name| scratch.path().join(name));
    fs::create_dir_all(root.join("in")).unwrap();
    fs::create_dir(&one).unwrap();
    let (root, path) = (fs::File::open(root).unwrap(), "in/../".repeat(8));
    let (is_over, deadline) = (AtomicBool::new(false), Instant::now() + Duration::from_secs(60));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fs::rename(&one, &other).unwrap();
                fs::rename(&other, &one).unwrap();
            }
        });
        let mut disturbed = 0;
        let mut results = vec![];
        while disturbed < 20 && Instant::now() < deadline {
            let resolve = Reach::InRoot.resolve_flags();
            let once = openat2(&root, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
            disturbed += usize::from(once.is_err_and(|errno| errno == Errno::AGAIN));
            results.extend(open(&root, &*path, Reach::InRoot, OFlags::PATH).err());
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!((disturbed, results), (20, vec![]));
    });
}
