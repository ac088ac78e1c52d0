//! What is particular to plain directories: copies of all that a tree may hold, owners, crashes.

mod fixture;

use std::ffi::CString;
use std::fs::{self, File, FileTimes};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use insula_storage::{BlockDevices, DiskLimits, Pool, PoolError, Volume, VolumeError};
use insula_types::{ByteSize, IdRange, SnapshotName, VpsId};
use rustix::fs::{Mode, OFlags, XattrFlags, getxattr, lsetxattr, mkdirat, open, openat, setxattr};

use fixture::{TestPool, write};

const MIB: u64 = 1 << 20;
const ONE: IdRange = IdRange { start: 700_000, length: 65_536 };
const OTHER: IdRange = IdRange { start: 900_000, length: 65_536 };

/// `cap_net_raw+ep` for the user namespace of the reader: `struct vfs_ns_cap_data`, version 2.
const CAPABILITIES: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn snapshot(vps: VpsId, name: &str) -> Volume {
    Volume::Snapshot(vps, name.parse::<SnapshotName>().unwrap())
}

/// Puts one of everything into a tree.
fn furnish(root: &Path, owner: u32) {
    let path = |name: &str| root.join(name);
    fs::create_dir(path("directory")).unwrap();
    fs::set_permissions(path("directory"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs::write(path("program"), "#!").unwrap();
    chown(path("program"), Some(owner + 33), Some(owner + 34)).unwrap();
    fs::set_permissions(path("program"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::write(path("ping"), "ping").unwrap();
    setxattr(path("ping"), "security.capability", &CAPABILITIES, XattrFlags::empty()).unwrap();
    fs::write(path("secret"), "").unwrap();
    fs::set_permissions(path("secret"), PermissionsExt::from_mode(0o000)).unwrap();
    setxattr(path("directory"), "user.note", b"mine", XattrFlags::empty()).unwrap();
    lsetxattr(path("ping"), "trusted.note", b"the host's", XattrFlags::empty()).unwrap();
    for name in ["directory/one", "two", "three"] {
        fs::hard_link(path("program"), path(name)).unwrap();
    }
    symlink("/etc/passwd", path("link")).unwrap();
    std::os::unix::fs::lchown(path("link"), Some(owner + 7), Some(owner + 7)).unwrap();
    symlink("nowhere", path("dangling")).unwrap();
    nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    UnixListener::bind(path("socket")).unwrap();
    fs::write(path("new\nline \u{fffd} -rf"), "x").unwrap();
    let mut sparse = File::create(path("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(64 * MIB)).unwrap();
    sparse.write_all(b"in the middle").unwrap();
    sparse.set_len(128 * MIB + 5).unwrap();
    let then = UNIX_EPOCH + Duration::new(1_000_000_000, 123_000_000);
    let times = FileTimes::new().set_modified(then).set_accessed(then);
    File::open(path("ping")).unwrap().set_times(times).unwrap();
    File::open(path("directory")).unwrap().set_times(times).unwrap();
}

/// All that is to be the same in a copy, but for owners.
fn describe(root: &Path) -> Vec<String> {
    let mut lines = vec![];
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let kind = stat.file_type();
            let content = match (kind.is_file(), kind.is_symlink()) {
                (true, _) => format!("{:?}", fs::read(&path).map(|bytes| bytes.len()).unwrap()),
                (_, true) => fs::read_link(&path).unwrap().display().to_string(),
                _ => format!("{}{}", kind.is_fifo(), kind.is_socket()),
            };
            let time = if kind.is_symlink() { 0 } else { stat.mtime_nsec() };
            lines.push(format!(
                "{:?} {:o} {} {} {content} {time}",
                path.strip_prefix(root).unwrap(),
                stat.mode(),
                if kind.is_dir() { 0 } else { stat.size() },
                if kind.is_dir() { 0 } else { stat.nlink() },
            ));
            if kind.is_dir() {
                open.push(path);
            }
        }
    }
    lines.sort();
    lines
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 256];
    let length = getxattr(path, name, &mut value).unwrap();
    value.truncate(length);
    value
}

fn pools() -> [TestPool; 2] {
    [TestPool::directory_with_reflinks(), TestPool::directory_without_reflinks()]
}

#[test]
fn abilities_say_what_it_lacks() {
    let [with, without] = pools();
    assert_eq!(
        (with.driver.abilities().shared_files, without.driver.abilities().shared_files),
        (true, false)
    );
    for pool in [with, without] {
        let abilities = pool.driver.abilities();
        assert!(!abilities.instant_copies && !abilities.read_only && abilities.limits == DiskLimits::None);
        let vps = VpsId::new();
        pool.driver.ensure_empty(&Volume::Root(vps)).unwrap();
        assert!(matches!(pool.driver.set_limit(vps, Some(ByteSize::gib(1))), Err(VolumeError::NoQuota(_))));
        pool.driver.set_limit(vps, None).unwrap();
        assert_eq!(pool.driver.usage(vps).unwrap().used, None);
    }
}

#[test]
fn a_pool_is_on_the_devices_of_its_file_system_or_says_why_on_none() {
    let [on_btrfs, in_memory] = pools();
    assert!(matches!(on_btrfs.driver.block_devices().unwrap(), BlockDevices::Below(_)));
    let BlockDevices::None { why } = in_memory.driver.block_devices().unwrap() else { panic!("no disk") };
    assert!(why.contains("not on a block device (0:"), "{why}");
}

#[test]
fn a_copy_has_all_that_the_original_has() {
    for pool in pools() {
        let (vps, root) = pool.vps(&pool.image(MIB), None);
        furnish(&root, 0);
        let kept = snapshot(vps, "kept");
        pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
        let copy = pool.driver.lasting_path(&kept);
        assert_eq!(describe(&copy), describe(&root));
        let inode = |name: &str| copy.join(name).symlink_metadata().unwrap().ino();
        assert_eq!([inode("two"), inode("three"), inode("directory/one")], [inode("program"); 3]);
        let stat = copy.join("program").metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid()), (33, 34));
        assert_eq!(copy.join("link").symlink_metadata().unwrap().uid(), 7);
        assert_eq!(attribute(&copy.join("ping"), "security.capability"), CAPABILITIES);
        assert_eq!(attribute(&copy.join("ping"), "trusted.note"), b"the host's");
        assert_eq!(attribute(&copy.join("directory"), "user.note"), b"mine");
        let sparse = copy.join("sparse").metadata().unwrap();
        assert!(sparse.blocks() * 512 < MIB, "{} of {} bytes are there", sparse.blocks() * 512, sparse.len());
        assert!(fs::read(copy.join("sparse")).unwrap()[64 << 20..].starts_with(b"in the middle"));
        // It is a copy: what happens to one does not happen to the other.
        fs::write(root.join("ping"), "another").unwrap();
        assert_eq!(fs::read(copy.join("ping")).unwrap(), b"ping");
    }
}

#[test]
fn copies_have_the_ids_of_their_owner() {
    for pool in pools() {
        let image = pool.image(1);
        furnish(&pool.driver.lasting_path(&image), 0);
        let (one, other) = (VpsId::new(), VpsId::new());
        pool.driver.set_owner(one, ONE).unwrap();
        pool.driver.set_owner(one, ONE).unwrap();
        pool.driver.set_owner(other, OTHER).unwrap();
        pool.driver.ensure_clone(&image, &Volume::Root(one)).unwrap();
        let kept = snapshot(one, "kept");
        pool.driver.ensure_clone(&Volume::Root(one), &kept).unwrap();
        pool.driver.ensure_clone(&kept, &Volume::Root(other)).unwrap();
        pool.driver.ensure_empty(&Volume::Incoming(other)).unwrap();
        assert_eq!(
            fs::metadata(pool.driver.lasting_path(&Volume::Incoming(other))).unwrap().uid(),
            OTHER.start
        );
        for (volume, ids) in [(Volume::Root(one), ONE), (kept, ONE), (Volume::Root(other), OTHER)] {
            let root = pool.driver.lasting_path(&volume);
            assert_eq!(describe(&root), describe(&pool.driver.lasting_path(&image)), "{volume}");
            let owner = |name: &str| {
                let stat = root.join(name).symlink_metadata().unwrap();
                (stat.uid() - ids.start, stat.gid() - ids.start)
            };
            let owners = ["", "program", "directory/one", "link", "pipe"].map(owner);
            assert_eq!(owners, [(0, 0), (33, 34), (33, 34), (7, 7), (0, 0)], "{volume}");
            // For the root of that user namespace, and no other.
            let mut capabilities = CAPABILITIES.to_vec();
            capabilities[3] = 3;
            capabilities.extend(ids.start.to_le_bytes());
            assert_eq!(attribute(&root.join("ping"), "security.capability"), capabilities);
        }
        assert_eq!(pool.driver.owner(one).unwrap(), Some(ONE));
        assert!(pool.driver.set_owner(one, OTHER).is_err(), "its files have the others already");
        // What is forgotten is forgotten whole.
        for volume in pool.driver.observe().unwrap().volumes {
            pool.driver.ensure_absent(&volume).unwrap();
        }
        assert_eq!(pool.driver.owner(one).unwrap(), None);
        assert_eq!(fs::read_dir(pool.root().join("owners")).unwrap().count(), 0);
    }
}

#[test]
fn a_file_of_nobodys_is_named_and_nothing_is_left() {
    let pool = TestPool::directory_without_reflinks();
    let image = pool.image(1);
    let vps = VpsId::new();
    let there = pool.driver.lasting_path(&image).join("etc");
    fs::create_dir(&there).unwrap();
    fs::write(there.join("odd"), "").unwrap();
    chown(there.join("odd"), Some(1_000_000), None).unwrap();
    pool.driver.set_owner(vps, ONE).unwrap();
    let error = pool.driver.ensure_clone(&image, &Volume::Root(vps)).unwrap_err();
    assert!(matches!(&error, VolumeError::Copy { path, .. } if path == Path::new("etc/odd")), "{error}");
    assert_eq!(pool.driver.observe().unwrap().volumes, [image]);
    assert_eq!(fs::read_dir(pool.root().join("unfinished")).unwrap().count(), 0);
}

#[test]
fn a_tree_deeper_than_paths_and_descriptors_is_copied_and_removed() {
    const DEPTH: usize = 3000;
    let pool = TestPool::directory_without_reflinks();
    let (vps, root) = pool.vps(&pool.image(1), None);
    let mut here = open(&root, OFlags::PATH, Mode::empty()).unwrap();
    let name = CString::new("d".repeat(200)).unwrap();
    for _ in 0..DEPTH {
        mkdirat(&here, &name, Mode::RWXU).unwrap();
        here = openat(&here, &name, OFlags::PATH, Mode::empty()).unwrap();
    }
    drop(openat(here.as_fd(), "deep", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap());
    let kept = snapshot(vps, "kept");
    pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
    let mut here = open(pool.driver.lasting_path(&kept), OFlags::PATH, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        here = openat(&here, &name, OFlags::PATH, Mode::empty()).unwrap();
    }
    openat(&here, "deep", OFlags::PATH, Mode::empty()).unwrap();
    drop(here);
    for volume in [kept, Volume::Root(vps)] {
        assert!(pool.driver.ensure_absent(&volume).unwrap());
    }
    assert_eq!(fs::read_dir(pool.root().join("removed")).unwrap().count(), 0);
}

#[test]
fn links_lead_nowhere_out_of_a_volume() {
    let pool = TestPool::directory_without_reflinks();
    let (vps, root) = pool.vps(&pool.image(1), None);
    let precious = pool.root().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    symlink(&precious, root.join("there")).unwrap();
    symlink("../../../../precious", root.join("up")).unwrap();
    let kept = snapshot(vps, "kept");
    pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
    assert!(pool.driver.lasting_path(&kept).join("there").is_symlink());
    for volume in [kept, Volume::Root(vps)] {
        pool.driver.ensure_absent(&volume).unwrap();
    }
    assert_eq!(fs::read(precious.join("file")).unwrap(), b"kept");
}

#[test]
fn what_a_crash_has_left_goes_when_the_pool_is_opened() {
    let pool = TestPool::directory_with_reflinks();
    let image = pool.image(1);
    let (vps, root) = pool.vps(&image, None);
    write(&root.join("mine"), 1);
    let path = pool.root();
    let (driver, scratch) = pool.into_parts();
    let error = Pool::open_directory(&path).unwrap_err();
    assert!(matches!(error, PoolError::InUse(_)), "{error}");
    drop(driver);
    // Half a copy, half a removal, and an owner whose VPS was never made.
    let half = path.join(format!("unfinished/snapshots+{vps}+half/tree/etc"));
    fs::create_dir_all(&half).unwrap();
    fs::create_dir_all(path.join("removed/1234/tree/etc")).unwrap();
    fs::write(path.join("owners").join(VpsId::new().to_string()), "700000 65536\n").unwrap();
    let pool = Pool::open_directory(&path).unwrap();
    assert_eq!(pool.driver().observe().unwrap().volumes, [image, Volume::Root(vps)]);
    for name in ["unfinished", "removed", "owners"] {
        assert_eq!(fs::read_dir(path.join(name)).unwrap().count(), 0, "{name}");
    }
    // The same copy again, after one that was cut off in this very agent.
    fs::create_dir_all(&half).unwrap();
    pool.driver().ensure_clone(&Volume::Root(vps), &snapshot(vps, "half")).unwrap();
    assert!(!pool.driver().lasting_path(&snapshot(vps, "half")).join("etc").exists());
    drop(scratch);
}
