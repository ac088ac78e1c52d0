//! Opens pools: a sparse file that is mounted, a directory of the host's own btrfs, or any directory.
//!
//! ```text
//! no file ──mkfs on a temporary name, rename──> file ──loop device──> bound ──mount──> open
//!                                               ^ host was rebooted                     │
//!                                               └──────────────── unmount ──────────────┘
//! ```
//!
//! Each step finds out for itself whether it is done, so whoever opens the pool next continues after a crash. The kernel owns
//! the state, and none is recorded elsewhere. An advisory lock on the file excludes a second opener: two loop devices on one
//! file, both mounted, would destroy the file system.

mod file;
mod mount;

use std::fs::create_dir_all;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use insula_types::ByteSize;

use crate::{BtrfsDriver, DirDriver, Driver, PoolError};

/// A pool in a sparse file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoopPoolConfig {
    /// The file, which is made if it is missing.
    pub file: PathBuf,
    /// The directory that it is mounted on, which is made if it is missing.
    pub mount_point: PathBuf,
    /// The size of a new file, in bytes. A file that exists keeps its size.
    pub size: ByteSize,
}

/// An open pool.
#[derive(Debug)]
pub struct Pool {
    driver: Arc<dyn Driver>,
    /// The mount point, if this crate has mounted the pool.
    mount_point: Option<PathBuf>,
}

impl Pool {
    /// The size of the smallest pool that can be made.
    pub const LEAST: ByteSize = file::LEAST;

    /// Opens the pool in a file. Makes the file, binds it to a loop device, and mounts it, as far as that was not done before.
    pub fn open_or_create(config: &LoopPoolConfig) -> Result<Self, PoolError> {
        for directory in [config.file.parent(), Some(&config.mount_point)].into_iter().flatten() {
            create_dir_all(directory).map_err(PoolError::io("make directory", directory))?;
        }
        file::ensure_file(&config.file, config.size)?;
        mount::ensure_mounted(&config.file, &config.mount_point)?;
        let driver = Arc::new(BtrfsDriver::open(&config.mount_point, true)?);
        Ok(Self { driver, mount_point: Some(config.mount_point.clone()) })
    }

    /// Opens the pool in a directory of a btrfs file system that the host has mounted.
    pub fn open_existing(directory: &Path) -> Result<Self, PoolError> {
        Ok(Self { driver: Arc::new(BtrfsDriver::open(directory, false)?), mount_point: None })
    }

    /// Opens the pool in a directory of any file system, which is made if it is missing. Such a pool has no limits, and makes
    /// copies where btrfs makes snapshots.
    pub fn open_directory(directory: &Path) -> Result<Self, PoolError> {
        create_dir_all(directory).map_err(PoolError::io("make directory", directory))?;
        Ok(Self { driver: Arc::new(DirDriver::open(directory)?), mount_point: None })
    }

    /// The driver that works on the pool.
    pub fn driver(&self) -> Arc<dyn Driver> {
        self.driver.clone()
    }

    /// Unmounts the pool, if this crate has mounted it and it is still mounted. The loop device becomes free.
    ///
    /// Nothing may use the pool, neither another handle of the driver nor a process in one of its directories. Mounts of its
    /// volumes in other namespaces don't prevent this, but keep the loop device.
    pub fn close(self) -> Result<(), PoolError> {
        drop(self.driver);
        self.mount_point.map_or(Ok(()), |mount_point| mount::ensure_unmounted(&mount_point).map(drop))
    }
}
