//! Real builds by mmdebstrap from Debian's archive. They need root and the network.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use insula_image::{BuildError, FailureCause, ImageDefinition, build, clean_check, fingerprint};
use insula_types::{ByteSize, Progress};
use rustix::event::{EventfdFlags, eventfd};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The bytes that an image may take on the disk.
const LARGEST: ByteSize = ByteSize::mib(260);

fn definition(name: &str) -> ImageDefinition {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images").join(name);
    ImageDefinition::parse(&fs::read_to_string(path).unwrap()).unwrap()
}

/// An empty directory for an image, and one for packages.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        Self { directory }
    }

    fn root(&self) -> std::path::PathBuf {
        self.directory.path().join("root")
    }

    fn cache(&self) -> std::path::PathBuf {
        self.directory.path().join("cache")
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let inside = self.directory.path().to_str().unwrap();
        mounts.lines().filter(|line| line.contains(inside)).map(str::to_owned).collect()
    }
}

/// The bytes that the tree takes on its file system.
fn allocated_bytes(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let below = if metadata.is_dir() { allocated_bytes(&entry.path()) } else { 0 };
        let names = if metadata.is_dir() { 1 } else { metadata.nlink() };
        below + metadata.blocks() * 512 / names
    });
    entries.sum()
}

#[test]
fn debian_12_is_built_small_and_clean() {
    let place = Place::new();
    let definition = definition("debian-12.yaml");
    let mut steps: Vec<Progress> = vec![];
    build(&definition, &place.root(), &place.cache(), None, &mut |progress| steps.push(progress)).unwrap();

    assert!(steps.is_sorted_by_key(|progress| progress.percent), "{steps:?}");
    assert!(steps.len() > 30 && steps.last().unwrap().percent == 98, "{steps:?}");
    assert_eq!(place.mounts(), [""; 0]);
    assert_eq!(clean_check(&place.root()), [""; 0]);
    assert_eq!(fs::read_dir(place.root().join("dev")).unwrap().count(), 0);
    assert!(!place.root().join("etc/apt/apt.conf.d/99mmdebstrap").exists());
    assert!(allocated_bytes(&place.root()) <= LARGEST.bytes());

    let name = || fingerprint(fs::File::open(place.root()).unwrap().into(), &mut |_| ()).unwrap();
    let tree = name();
    assert!(tree.size <= LARGEST && tree.size > ByteSize::mib(50), "{}", tree.size);
    assert_eq!(name(), tree);

    let packages = fs::read_dir(place.cache().join("debian-12")).unwrap().count();
    assert!(packages > 100, "{packages} packages in the cache");
}

#[test]
fn a_cancelled_build_leaves_no_mounts_and_no_processes() {
    let place = Place::new();
    let cancel = eventfd(0, EventfdFlags::empty()).unwrap();
    let mut last = 0;
    let error = build(
        &definition("debian-12.yaml"),
        &place.root(),
        &place.cache(),
        Some(cancel.as_fd()),
        &mut |progress| {
            last = progress.percent;
            // By now, /proc, /sys and /dev are mounted inside the image.
            if progress.percent > 30 {
                rustix::io::write(&cancel, &1_u64.to_ne_bytes()).unwrap();
            }
        },
    )
    .unwrap_err();
    assert!(matches!(error, BuildError::Cancelled { .. }), "{error:?}");
    assert!((31..98).contains(&last), "cancelled at {last} %");
    assert_eq!(place.mounts(), [""; 0]);
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        command.contains(place.directory.path().to_str().unwrap())
    });
    assert_eq!(processes.count(), 0);
    fs::remove_dir_all(place.root()).expect("nothing writes to it any more");
}

/// A small file system, unmounted at the end.
struct SmallDisk(std::path::PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_named() {
    let place = Place::new();
    mount("none", place.root(), "tmpfs", MountFlags::empty(), c"size=64M").expect("mounting needs root");
    let _disk = SmallDisk(place.root());
    let error =
        build(&definition("debian-12.yaml"), &place.root(), &place.cache(), None, &mut |_| ()).unwrap_err();
    assert!(matches!(error, BuildError::Failed { cause: FailureCause::DiskFull, .. }), "{error:?}");
}

#[test]
fn a_missing_network_is_named() {
    let place = Place::new();
    let error = std::thread::scope(|scope| {
        let alone = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace needs root");
            build(&definition("debian-12.yaml"), &place.root(), &place.cache(), None, &mut |_| ())
        });
        alone.join().unwrap().unwrap_err()
    });
    assert!(matches!(error, BuildError::Failed { cause: FailureCause::Network, .. }), "{error:?}");
}

#[test]
fn a_directory_that_is_not_empty_is_refused() {
    let place = Place::new();
    fs::write(place.root().join("file"), "").unwrap();
    let error =
        build(&definition("debian-12.yaml"), &place.root(), &place.cache(), None, &mut |_| ()).unwrap_err();
    assert!(matches!(error, BuildError::NotEmpty { .. }), "{error:?}");
    assert!(place.root().join("file").exists());
}
