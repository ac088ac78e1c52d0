//! Opening pools: a sparse file that is mounted, a directory of the host's own btrfs, or any directory.
//!
//! ```text
//! no file ──mkfs on a temporary name, rename──> file ──loop device──> bound ──mount──> open
//!                                               ^ host was rebooted                     │
//!                                               └──────────────── unmount ──────────────┘
//! ```
//!
//! Every step finds out for itself whether it is done, so a crash anywhere is taken up by the next opening. The kernel
//! owns the state; nothing is written down. An advisory lock on the file keeps two openers apart: two loop devices
//! on one file, both mounted, would destroy the file system.

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
    /// The file. Made if it isn't there.
    pub file: PathBuf,
    /// Where it is mounted. Made if it isn't there.
    pub mount_point: PathBuf,
    /// The size of a file that is made; one that is there keeps its own.
    pub size: ByteSize,
}

/// An open pool.
#[derive(Debug)]
pub struct Pool {
    driver: Arc<dyn Driver>,
    /// Where it was mounted by us.
    mount_point: Option<PathBuf>,
}

impl Pool {
    /// The smallest pool that can be made.
    pub const LEAST: ByteSize = file::LEAST;

    /// Opens the pool in a file: makes the file, binds it to a loop device, mounts it, as far as that isn't done.
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

    /// Opens the pool in a directory of whatever file system, made if it isn't there: without limits, and with copies where
    /// btrfs has snapshots.
    pub fn open_directory(directory: &Path) -> Result<Self, PoolError> {
        create_dir_all(directory).map_err(PoolError::io("make directory", directory))?;
        Ok(Self { driver: Arc::new(DirDriver::open(directory)?), mount_point: None })
    }

    /// What works on the pool.
    pub fn driver(&self) -> Arc<dyn Driver> {
        self.driver.clone()
    }

    /// Unmounts the pool, if it was mounted by us and nobody else has done so. The loop device becomes free with it.
    ///
    /// Nothing may use it: no driver, no process in a directory of it. Mounts of its volumes in other namespaces are
    /// no obstacle, and keep the loop device.
    pub fn close(self) -> Result<(), PoolError> {
        drop(self.driver);
        self.mount_point.map_or(Ok(()), |mount_point| mount::ensure_unmounted(&mount_point).map(drop))
    }
}
