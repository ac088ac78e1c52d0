//! Where scratch hosts keep their state: on a disk, in a file system of its own where a copy costs nothing.
//!
//! It lies in a sparse file below the target directory and is mounted in the mount namespaces of tests only.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs};

use crate::paths::build_directory;
use crate::process::{Command, eventually};

/// What all hosts together may take.
const SIZE: u64 = 32 << 30;

/// `BTRFS_SUPER_MAGIC` of statfs(2).
const BTRFS: u32 = 0x9123_683e;

/// The directory for hosts and templates, mounted; the calling thread must have a mount namespace of its own.
pub fn ensure_mounted() -> PathBuf {
    let (file, directory) = (build_directory().join("scratch.btrfs"), build_directory().join("scratch"));
    std::fs::create_dir_all(&directory).expect("a mount point");
    if !is_btrfs(&directory) {
        let _alone = lock("scratch");
        if !file.exists() {
            make(&file);
        }
        // The loop device that others use is taken; one of them may just be giving it back.
        eventually("the scratch file system can be mounted", || {
            let options = ["-o", "loop,noatime,nodatasum"];
            let outcome = Command::new("mount").args(options).args([&file, &directory]).run();
            if outcome.code != 0 {
                eprintln!("{outcome}");
            }
            (outcome.code == 0).then_some(())
        });
    }
    directory
}

fn is_btrfs(directory: &Path) -> bool {
    // The number has 32 bits, whatever the type of the field.
    statfs(directory).expect("the mount point").f_type.to_ne_bytes()[..4] == BTRFS.to_ne_bytes()
}

fn make(file: &Path) {
    let new = file.with_extension("new");
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
