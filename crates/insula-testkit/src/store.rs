//! The store: a file system on disk where scratch hosts keep their state, and where a copy costs
//! nothing.
//!
//! It is in a sparse file below the target directory, and is mounted only in the mount namespaces
//! of tests. If `INSULA_TEST_STORE` names a file or a block device with a btrfs, that is used
//! instead. A machine that is slow, or has no access to an archive, gets its templates in a store
//! that `make_store` has filled elsewhere.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statfs};

use crate::paths::build_directory;
use crate::process::{Command, eventually};

/// The variable that names another file or device for the store than the one below the target
/// directory.
const GIVEN: &str = "INSULA_TEST_STORE";

/// How much all hosts together may store, in bytes.
const SIZE: u64 = 32 << 30;

/// `BTRFS_SUPER_MAGIC` of statfs(2).
const BTRFS: u32 = 0x9123_683e;

/// Mounts the store and returns its directory. The calling thread must have a mount namespace of
/// its own.
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

/// Mounts a file or a device. A loop device that others use for the file is shared, and the last of
/// them may just be releasing it.
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
    // The magic number has 32 bits, whatever the type of the field.
    statfs(directory).expect("the mount point").f_type.to_ne_bytes()[..4] == BTRFS.to_ne_bytes()
}

/// Creates an empty store in a new file.
pub fn make(file: &Path) {
    let new = file.with_extension("made");
    File::create(&new).and_then(|file| file.set_len(SIZE)).expect("a sparse file");
    Command::new("mkfs.btrfs").args(["--quiet", "--force"]).args([&new]).run_ok();
    std::fs::rename(&new, file).expect("the file in its place");
}

/// Takes the lock of this name, and waits for it if necessary. It is released when the file is
/// dropped.
pub fn lock(name: &str) -> File {
    let file = File::create(build_directory().join(format!("{name}.lock"))).expect("a lock file");
    flock(&file, FlockOperation::LockExclusive).expect("the lock");
    file
}
