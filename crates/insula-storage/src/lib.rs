//! Pools and volumes: copy-on-write clones, snapshots, hard limits.
//!
//! A pool is a directory on a file system; a [`Driver`] keeps volumes in it, and says as data what it is able to.
//! The pool of a fresh host is a sparse file ([`Pool::open_or_create`]); a host with a btrfs of its own names a
//! directory there ([`Pool::open_existing`]); where neither is to be had, any directory does ([`Pool::open_directory`]).
//!
//! This crate knows neither the VPSes of the host nor what is in a volume: the content belongs to tenants and is
//! hostile, and no path inside of a volume is ever resolved: what has to be copied file by file is walked through from
//! directory to directory. It keeps no state but the file system's.

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
