//! Where scratch hosts keep their state: on a disk, in a file system of its own where a copy costs nothing.
//!
//! It lies in a sparse file below the target directory and is mounted in the mount namespaces of tests only. Where
//! `INSULA_TEST_STORE` names a file or a block device with a btrfs, that is used instead: a machine that is slow, or reaches
//! no archive, gets its templates in one that `make_store` has filled elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs};

use crate::paths::build_directory;
use crate::process::{Command, eventually};

/// The file or device of the file system, where it is not the one below the target directory.
const GIVEN: &str = "INSULA_TEST_STORE";

/// What all hosts together may take.
const SIZE: u64 = 32 << 30;

/// `BTRFS_SUPER_MAGIC` of statfs(2).
const BTRFS: u32 = 0x9123_683e;

/// The directory for hosts and templates, mounted; the calling thread must have a mount namespace of its own.
pub fn ensure_mounted() -> PathBuf {
    let directory = build_directory().join("scratch");
    std::fs::create_dir_all(&directory).expect("a mount point");
    if !is_btrfs(&directory) {
        let _alone = lock("scratch");
        let own = || {
            let file = build_directory().join("scratch.btrfs");
            if !file.exists() {
                make(&file);
            }
            file
        };
        mount(&std::env::var_os(GIVEN).map_or_else(own, PathBuf::from), &directory);
    }
    directory
}

/// Mounts a file or a device. The loop device that others use is taken; one of them may just be giving it back.
pub fn mount(source: &Path, directory: &Path) {
    let options = if source.is_file() { "loop,noatime,nodatasum" } else { "noatime,nodatasum" };
    eventually("the store can be mounted", || {
        let outcome = Command::new("mount").args(["-o", options]).args([source, directory]).run();
        if outcome.code != 0 {
            eprintln!("{outcome}");
        }
        (outcome.code == 0).then_some(())
    });
}

fn is_btrfs(directory: &Path) -> bool {
    // The number has 32 bits, whatever the type of the field.
    statfs(directory).expect("the mount point").f_type.to_ne_bytes()[..4] == BTRFS.to_ne_bytes()
}

/// Makes an empty store in a new file.
pub fn make(file: &Path) {
    let new = file.with_extension("made");
    File::create(&new).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
    Command::new("mkfs.btrfs").args(["--quiet", "--force"]).args([&new]).run_ok();
    std::fs::rename(&new, file).expect("the file in its place");
}

/// Waits until nobody else has the lock of this name; gives it back when dropped.
pub fn lock(name: &str) -> File {
    let file = File::create(build_directory().join(format!("{name}.lock"))).expect("a lock file");
    flock(&file, FlockOperation::LockExclusive).expect("the lock");
    file
}
