//! Opening and closing of pools, also after a crash.

mod fixture;

use std::error::Error;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;

use insula_storage::{LoopPoolConfig, Pool, PoolError, Volume};
use insula_sys::loopdev;
use insula_types::{ByteSize, OperationId, Reason, VpsId};

use fixture::{Scratch, write};

fn is_mounted(path: &Path) -> bool {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(&format!(" {} ", path.display()))
}

fn small(scratch: &Scratch) -> LoopPoolConfig {
    scratch.config(Pool::LEAST)
}

#[test]
fn a_pool_is_made_once_and_found_again() {
    let scratch = Scratch::new();
    let config = small(&scratch);
    let volume = Volume::Staging(OperationId::new());
    let first = Pool::open_or_create(&config).unwrap();
    first.driver().ensure_empty(&volume).unwrap();
    // A second agent, or one that was killed and is back.
    let second = Pool::open_or_create(&config).unwrap();
    assert_eq!(second.driver().observe().unwrap().volumes, std::slice::from_ref(&volume));
    drop(first);
    second.close().unwrap();
    assert!(!is_mounted(&config.mount_point));
    // The host was rebooted.
    let third = Pool::open_or_create(&config).unwrap();
    assert_eq!(third.driver().observe().unwrap().volumes, [volume]);
    third.close().unwrap();
}

#[test]
fn closing_frees_the_loop_device_and_a_second_time_is_no_error() {
    let scratch = Scratch::new();
    let config = small(&scratch);
    let (one, other) = (Pool::open_or_create(&config).unwrap(), Pool::open_or_create(&config).unwrap());
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&config.file).unwrap());
    let bound = || loopdev::bound().unwrap().iter().filter(|d| d.backing_inode().ok() == Some(inode)).count();
    assert_eq!(bound(), 1, "both share one device");
    drop(other.driver());
    let held = one.driver();
    let error = one.close().unwrap_err();
    assert!(error.source().unwrap().to_string().contains("busy"), "{error}");
    drop(held);
    let third = Pool::open_or_create(&config).unwrap();
    drop(third);
    other.close().unwrap();
    assert_eq!(bound(), 0);
    let directory = config.mount_point.clone();
    let again = Pool::open_or_create(&config).unwrap();
    nix::mount::umount2(&directory, nix::mount::MntFlags::MNT_DETACH).unwrap();
    again.close().unwrap();
}

#[test]
fn half_made_files_are_made_anew() {
    let scratch = Scratch::new();
    let config = small(&scratch);
    let mut unfinished = config.file.clone().into_os_string();
    unfinished.push(".unfinished");
    write(Path::new(&unfinished), 1 << 20);
    Pool::open_or_create(&config).unwrap().close().unwrap();
    assert!(!Path::new(&unfinished).exists() && config.file.exists());
}

#[test]
fn a_file_with_something_else_in_it_is_left_alone() {
    let scratch = Scratch::new();
    let config = small(&scratch);
    for content in [vec![], b"precious".to_vec(), vec![1; 1 << 20]] {
        fs::write(&config.file, &content).unwrap();
        let error = Pool::open_or_create(&config).unwrap_err();
        assert!(matches!(&error, PoolError::NotBtrfsFile(file) if *file == config.file), "{error}");
        assert_eq!(fs::read(&config.file).unwrap(), content);
    }
}

#[test]
fn sizes_that_make_no_sense_are_refused_and_leave_nothing() {
    let scratch = Scratch::new();
    let error = Pool::open_or_create(&scratch.config(ByteSize::mib(1))).unwrap_err();
    assert!(matches!(error, PoolError::TooSmall { .. }), "{error}");
    let error = Pool::open_or_create(&scratch.config(ByteSize(1 << 50))).unwrap_err();
    assert!(matches!(error, PoolError::HostDiskTooSmall { .. }), "{error}");
    assert_eq!(error.reason(), Reason::HostDiskFull);
    let names: Vec<_> =
        fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["pool"]);
}

#[test]
fn a_mount_point_of_another_file_system_is_refused() {
    let scratch = Scratch::new();
    let config = small(&scratch);
    fs::create_dir(&config.mount_point).unwrap();
    let none = None::<&str>;
    nix::mount::mount(none, &config.mount_point, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    let error = Pool::open_or_create(&config).unwrap_err();
    assert!(matches!(error, PoolError::MountPointTaken(_)), "{error}");
}

/// Two devices on one file, both mounted, would destroy it (Linux mounts the second under a made-up UUID).
#[test]
fn a_file_that_is_bound_already_gets_no_second_device() {
    let scratch = Scratch::new();
    let config = small(&scratch);
    Pool::open_or_create(&config).unwrap().close().unwrap();
    let file = File::options().read(true).write(true).open(&config.file).unwrap();
    let bound = loopdev::attach(file.as_fd()).unwrap();
    let elsewhere = LoopPoolConfig { mount_point: scratch.path("elsewhere"), ..config.clone() };
    let (one, two) = (Pool::open_or_create(&config).unwrap(), Pool::open_or_create(&elsewhere).unwrap());
    let vps = Volume::Incoming(VpsId::new());
    one.driver().ensure_empty(&vps).unwrap();
    assert_eq!(two.driver().observe().unwrap().volumes, [vps], "it is the same file system");
    drop(bound);
    one.close().unwrap();
    two.close().unwrap();
}

#[test]
fn openers_at_the_same_time_open_the_same_pool() {
    let scratch = Scratch::new();
    let config = small(&scratch);
    let pools: Vec<Pool> = std::thread::scope(|scope| {
        let openers: Vec<_> =
            (0..4).map(|_| scope.spawn(|| Pool::open_or_create(&config).unwrap())).collect();
        openers.into_iter().map(|opener| opener.join().unwrap()).collect()
    });
    let volume = Volume::Staging(OperationId::new());
    pools[0].driver().ensure_empty(&volume).unwrap();
    for pool in &pools {
        assert_eq!(pool.driver().observe().unwrap().volumes, std::slice::from_ref(&volume));
    }
    drop(pools);
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert_eq!(mounts.matches(&format!(" {} ", config.mount_point.display())).count(), 1);
}

#[test]
fn a_directory_of_the_hosts_own_btrfs_is_a_pool() {
    let scratch = Scratch::new();
    let host = Pool::open_or_create(&small(&scratch)).unwrap();
    let directory = scratch.path("pool/srv");
    fs::create_dir(&directory).unwrap();
    let pool = Pool::open_existing(&directory).unwrap();
    let volume = Volume::Staging(OperationId::new());
    pool.driver().ensure_empty(&volume).unwrap();
    assert_eq!(host.driver().observe().unwrap().volumes, []);
    assert_eq!(host.driver().observe().unwrap().strays, [Path::new("srv")]);
    pool.close().unwrap();
    assert!(directory.exists(), "what we didn't mount stays mounted");
}

#[test]
fn a_directory_that_is_on_no_btrfs_is_refused() {
    let scratch = Scratch::new();
    let directory = scratch.path("plain");
    fs::create_dir(&directory).unwrap();
    let error = Pool::open_existing(&directory).unwrap_err();
    assert!(matches!(error, PoolError::NotBtrfsDirectory(_)), "{error}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}
