//! What is particular to btrfs: subvolumes inside of volumes, qgroups, speed.

mod fixture;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use insula_storage::{BlockDevices, DiskLimits, Volume};
use insula_sys::btrfs;
use insula_types::{ByteSize, SnapshotName, VpsId};

use fixture::{TestPool, write};

const MIB: u64 = 1 << 20;

/// Makes a subvolume as a guest would.
fn nest(directory: &Path, name: &str) -> std::path::PathBuf {
    btrfs::create_subvolume(File::open(directory).unwrap().as_fd(), name).unwrap();
    directory.join(name)
}

fn snapshot(vps: VpsId, name: &str) -> Volume {
    Volume::Snapshot(vps, name.parse::<SnapshotName>().unwrap())
}

/// The qgroups that are neither the file system's own nor that of a subvolume that is there.
fn leftover_qgroups(pool: &TestPool) -> Vec<btrfs::Qgroup> {
    let root = File::open(pool.root()).unwrap();
    let exists = |id: u64| btrfs::subvolume_exists(root.as_fd(), id).unwrap();
    let groups = btrfs::qgroups(root.as_fd()).unwrap();
    groups.into_iter().filter(|group| group.id.level() != 0 || !exists(group.id.id())).collect()
}

#[test]
fn abilities_say_how_limits_are_held() {
    let abilities = TestPool::simple_quotas().driver.abilities();
    assert_eq!((abilities.limits, abilities.mechanism), (DiskLimits::Strict, "simple-quotas"));
}

#[test]
fn abilities_say_when_it_is_the_slow_way() {
    let abilities = TestPool::classic_qgroups().driver.abilities();
    assert_eq!((abilities.limits, abilities.mechanism), (DiskLimits::Loose, "qgroups"));
}

#[test]
fn what_a_guest_writes_into_subvolumes_of_its_own_counts() {
    let pool = TestPool::simple_quotas();
    let (vps, root) = pool.vps(&pool.image(MIB), Some(ByteSize::mib(64)));
    let inner = nest(&nest(&root, "a"), "b");
    assert_eq!(write(&inner.join("much"), 40 * MIB), 40 * MIB);
    assert!(pool.used(vps) >= 40 * MIB);
    // A snapshot of its own root inside of it, and then the whole lot again.
    let (top, directory) = (File::open(&inner).unwrap(), File::open(&root).unwrap());
    btrfs::create_snapshot(top.as_fd(), directory.as_fd(), "copy", false, None).unwrap();
    assert!(write(&root.join("copy/much"), 40 * MIB) < 24 * MIB);
}

#[test]
fn subvolumes_inside_go_with_their_volume() {
    let pool = TestPool::simple_quotas();
    let (vps, root) = pool.vps(&pool.image(MIB), Some(ByteSize::mib(64)));
    // Deep, wide, read-only, behind names that are traps, and in a directory that nobody may enter.
    let mut deep = root.clone();
    for level in 0..40 {
        deep = nest(&deep, &format!("{level}"));
    }
    let readonly = nest(&root, "read-only");
    nest(&readonly, "inside");
    btrfs::set_readonly(File::open(&readonly).unwrap().as_fd(), true).unwrap();
    for name in ["new\nline", "...", "-rf", " ", "\u{fffd}"] {
        nest(&root, name);
    }
    fs::create_dir(root.join("closed")).unwrap();
    nest(&root.join("closed"), "inside");
    std::os::unix::fs::symlink("/", root.join("link")).unwrap();
    nest(&root, &"n".repeat(255));

    assert!(pool.driver.ensure_absent(&Volume::Root(vps)).unwrap());
    pool.settle();
    let seen = pool.driver.observe().unwrap();
    assert_eq!((seen.volumes.len(), seen.reclaiming), (1, vec![]));
    assert_eq!(fs::read_dir(pool.root().join("vps")).unwrap().count(), 0);
}

#[test]
fn deleting_everything_leaves_no_qgroup() {
    for pool in [TestPool::simple_quotas(), TestPool::classic_qgroups()] {
        let image = pool.image(8 * MIB);
        let (vps, root) = pool.vps(&image, Some(ByteSize::mib(64)));
        let kept = snapshot(vps, "kept");
        write(&root.join("file"), 8 * MIB);
        nest(&root, "inside");
        pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
        // What the snapshot still holds was written by a subvolume that is gone.
        pool.driver.ensure_absent(&Volume::Root(vps)).unwrap();
        pool.settle();
        assert!((8 * MIB..9 * MIB).contains(&pool.used(vps)));
        pool.driver.ensure_absent(&kept).unwrap();
        pool.driver.ensure_absent(&image).unwrap();
        pool.settle();
        assert_eq!(pool.driver.observe().unwrap().reclaiming, []);
        assert_eq!(leftover_qgroups(&pool), []);
    }
}

#[test]
fn a_vps_without_volumes_keeps_its_directory_until_its_qgroup_is_gone() {
    let pool = TestPool::simple_quotas();
    let (vps, root) = pool.vps(&pool.image(1), None);
    write(&root.join("file"), MIB);
    let in_use = File::open(root.join("file")).unwrap();
    pool.driver.ensure_absent(&Volume::Root(vps)).unwrap();
    let seen = pool.driver.observe().unwrap();
    assert_eq!((seen.volumes.len(), seen.reclaiming), (1, vec![vps]));
    drop(in_use);
    File::open(pool.root()).map(|root| btrfs::start_commit(root.as_fd())).unwrap().unwrap();
    pool.settle();
    assert_eq!(pool.driver.observe().unwrap().reclaiming, []);
}

#[test]
fn a_full_pool_still_clones_and_deletes() {
    let pool = TestPool::of_size(ByteSize::mib(256));
    let image = pool.image(MIB);
    let (vps, root) = pool.vps(&image, None);
    assert!(write(&root.join("much"), 300 * MIB) < 256 * MIB);
    assert!(pool.driver.observe().unwrap().available < ByteSize::mib(8));
    pool.driver.ensure_clone(&image, &Volume::Root(VpsId::new())).unwrap();
    pool.driver.ensure_clone(&Volume::Root(vps), &snapshot(vps, "full")).unwrap();
    for volume in [snapshot(vps, "full"), Volume::Root(vps)] {
        assert!(pool.driver.ensure_absent(&volume).unwrap());
    }
    pool.settle();
    assert!(pool.driver.observe().unwrap().available > ByteSize::mib(64));
}

#[test]
fn a_pool_in_a_file_is_on_its_loop_device() {
    let pool = TestPool::of_size(ByteSize::mib(256));
    let BlockDevices::Below(devices) = pool.driver.block_devices().unwrap() else { panic!("no devices") };
    let [device] = devices[..] else { panic!("{devices:?}") };
    let file = format!("/sys/dev/block/{device}/loop/backing_file");
    assert!(fs::read_to_string(&file).unwrap().trim().ends_with("/pool.img"), "{file}");
}

#[test]
fn what_is_deleted_is_waited_for_also_while_it_is_cleaned() {
    let pool = TestPool::simple_quotas();
    let image = pool.image(MIB);
    let top = File::open(pool.root()).unwrap();
    for _ in 0..4 {
        let (vps, root) = pool.vps(&image, None);
        (0..1000).for_each(|file| fs::write(root.join(file.to_string()), [7; 500]).unwrap());
        pool.driver.ensure_absent(&Volume::Root(vps)).unwrap();
        // With this commit it leaves the kernel's queue, and its blocks are being freed.
        btrfs::wait_for_commit(top.as_fd(), btrfs::start_commit(top.as_fd()).unwrap()).unwrap();
        let deleted = btrfs::deleted_subvolumes(top.as_fd()).unwrap();
        btrfs::wait_for_deleted(top.as_fd()).unwrap();
        for id in deleted {
            assert!(!btrfs::subvolume_exists(top.as_fd(), id).unwrap(), "{id} is still being cleaned");
        }
    }
}

#[test]
fn many_threads_clone_and_delete_at_once() {
    let pool = TestPool::simple_quotas();
    let image = pool.image(MIB);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let (vps, root) = pool.vps(&image, Some(ByteSize::mib(64)));
                    assert_eq!(write(&root.join("file"), MIB), MIB);
                    assert!(pool.driver.usage(vps).unwrap().limit.is_some());
                    assert!(pool.driver.ensure_absent(&Volume::Root(vps)).unwrap());
                }
            });
        }
    });
    pool.settle();
    let seen = pool.driver.observe().unwrap();
    assert_eq!((seen.volumes, seen.reclaiming), (vec![image], vec![]));
}

/// Prints how long things take with up to a hundred VPSes; times are no reason to fail.
#[test]
fn a_hundred_clones() {
    for pool in [TestPool::simple_quotas(), TestPool::classic_qgroups()] {
        let image = pool.image(64 * MIB);
        let timed = |act: &mut dyn FnMut()| {
            let start = Instant::now();
            act();
            start.elapsed()
        };
        let mut vpses: Vec<VpsId> = vec![];
        let clones: Vec<Duration> =
            (0..100).map(|_| timed(&mut || vpses.push(pool.vps(&image, Some(ByteSize::gib(1))).0))).collect();
        let usages = vpses
            .iter()
            .map(|&vps| timed(&mut || assert!(pool.driver.usage(vps).unwrap().limit.is_some())))
            .collect();
        let observe = timed(&mut || assert_eq!(pool.driver.observe().unwrap().volumes.len(), 101));
        let deletes = vpses
            .iter()
            .map(|&vps| timed(&mut || assert!(pool.driver.ensure_absent(&Volume::Root(vps)).unwrap())));
        let (last, deletes) = (clones[90..].to_vec(), deletes.collect());
        println!(
            "{}: clone and limit {:?} (the last ten {:?}), usage {:?}, observe {observe:?}, delete {:?}",
            pool.driver.abilities().mechanism,
            median(clones),
            median(last),
            median(usages),
            median(deletes)
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
