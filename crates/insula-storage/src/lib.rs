//! Pools and volumes: copy-on-write clones, snapshots, hard limits.
//!
//! A pool is a directory on a file system. A [`Driver`] keeps volumes in it, and says as data what it is able to do. The pool
//! of a fresh host is a sparse file ([`Pool::open_or_create`]). On a host with a btrfs of its own, it is a directory there
//! ([`Pool::open_existing`]). Where neither is possible, it is any directory ([`Pool::open_directory`]).
//!
//! This crate knows neither the VPSes of the host nor what is in a volume. The content belongs to tenants and is hostile, so no
//! path inside a volume is ever resolved. What has to be copied file by file is walked from directory to directory. All state
//! is in the file system.

mod btrfs;
mod device;
mod dir;
mod driver;
mod error;
mod layout;
mod pool;
mod replace;
mod volume;

pub use btrfs::BtrfsDriver;
pub use device::{BlockDevice, BlockDevices};
pub use dir::DirDriver;
pub use driver::{Abilities, DiskLimits, Driver, PoolObservation, VolumeUsage};
pub use error::{PoolError, VolumeError};
pub use pool::{LoopPoolConfig, Pool};
pub use volume::Volume;
