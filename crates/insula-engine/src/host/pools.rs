//! The host's pools, by name. A VPS is in the pool that its spec names, an image in the one that it was built in.
//! [`Pools`] owns the open pools until somebody closes them, and is the only place that knows how many there are. It must
//! not know what is in a volume.
//!
//! The settings name one pool, which new VPSes and images go to.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use insula_storage::{Abilities, DiskLimits, Driver, LoopPoolConfig, Pool, Volume, VolumeError};
use insula_types::{ByteSize, IdRange, ImageInfo, PoolName, Reason, VpsSpec};

use crate::blocking::blocking;
use crate::error::EngineError;
use crate::host::nested::{choose_driver, observe_id_mapping};
use crate::host::settings::{PoolDriver, Settings};

/// All pools of the host.
#[derive(Debug)]
pub struct Pools {
    all: BTreeMap<PoolName, HostPool>,
    default: PoolName,
    /// Until somebody closes them.
    opened: Mutex<Vec<Pool>>,
}

/// A pool of the host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HostPool {
    name: PoolName,
    kind: PoolDriver,
    path: PathBuf,
    driver: Arc<dyn Driver>,
    /// Whether files get the ids of their VPS when its root is mounted; else when they are copied.
    maps_ids: bool,
}

/// A pool and how full it is.
#[derive(Debug, Clone)]
pub struct PoolView {
    /// Its name.
    pub name: PoolName,
    /// What it is made of: `btrfs` or `dir`.
    pub driver: &'static str,
    /// Where it is mounted.
    pub path: PathBuf,
    /// Its size.
    pub total: ByteSize,
    /// What is used of it.
    pub used: ByteSize,
    /// What is free.
    pub free: ByteSize,
    /// How disk limits are enforced.
    pub quota: &'static str,
}

impl Pools {
    /// Opens the pool of the settings, and makes it where it is not there yet.
    pub fn open(settings: &Settings, is_nested: bool) -> Result<Self, EngineError> {
        let kind = choose_driver(settings, is_nested);
        let (opened, path) = open_pool(settings, kind)?;
        let (name, driver) = (settings.pool.name.clone(), opened.driver());
        let maps_ids = observe_id_mapping(&*driver, &path, settings.ids)?;
        match driver.block_devices() {
            Ok(devices) => tracing::info!(pool = %name, %devices, "opened the pool"),
            Err(error) => tracing::warn!(pool = %name, "{}", EngineError::from(error).chain()),
        }
        let pool = HostPool { name: name.clone(), kind, path, driver, maps_ids };
        let all = BTreeMap::from([(name.clone(), pool)]);
        Ok(Self { all, default: name, opened: Mutex::new(vec![opened]) })
    }

    /// The pool of this name.
    ///
    /// # Errors
    /// [`Reason::PoolNotFound`]
    pub fn by_name(&self, name: &str) -> Result<&HostPool, EngineError> {
        self.all.values().find(|pool| pool.name.as_str() == name).ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            let known: Vec<&str> = self.all.keys().map(PoolName::as_str).collect();
            EngineError::new(Reason::PoolNotFound, format!("there is no pool {shown:?}"))
                .hint(format!("there is {}", known.join(", ")))
        })
    }

    /// The pool that a VPS is in.
    pub fn of(&self, spec: &VpsSpec) -> Result<&HostPool, EngineError> {
        self.by_name(spec.placement.pool.as_str())
    }

    /// The pool that new VPSes and images go to.
    pub fn default(&self) -> &HostPool {
        &self.all[&self.default]
    }

    /// All pools, by name.
    pub fn all(&self) -> impl Iterator<Item = &HostPool> {
        self.all.values()
    }

    /// Returns the pools that have to be closed once nothing uses them.
    pub fn take_opened(&self) -> Vec<Pool> {
        std::mem::take(&mut self.opened.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HostPool {
    /// Its name.
    pub fn name(&self) -> &PoolName {
        &self.name
    }

    /// What works on it. It blocks: [`HostPool::work`] does not.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }

    /// What its driver is able to do.
    pub fn abilities(&self) -> Abilities {
        self.driver.abilities()
    }

    /// Works with the pool, from a thread that may block.
    pub async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Driver) -> Result<T, VolumeError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let driver = self.driver.clone();
        blocking("use the pool", move || work(&*driver).map_err(EngineError::from)).await
    }

    /// Removes a volume, if it is there.
    pub async fn remove(&self, volume: Volume) -> Result<(), EngineError> {
        self.work(move |driver| driver.ensure_absent(&volume).map(drop)).await
    }

    /// The ids that copies for a VPS must get on disk; `None` where the kernel maps them.
    pub fn ids_on_disk(&self, spec: &VpsSpec) -> Option<IdRange> {
        (!self.maps_ids).then_some(spec.placement.ids)
    }

    /// Refuses an image of another pool: what is copied never leaves its pool.
    pub fn check_image(&self, image: &ImageInfo) -> Result<(), EngineError> {
        self.check_same(&image.pool, || format!("image {}", image.fingerprint))
    }

    /// Refuses a VPS of another pool as the source of a copy.
    pub fn check_source(&self, source: &VpsSpec) -> Result<(), EngineError> {
        self.check_same(&source.placement.pool, || format!("VPS {:?}", source.name.as_str()))
    }

    fn check_same(&self, other: &PoolName, what: impl Fn() -> String) -> Result<(), EngineError> {
        if *other == self.name {
            return Ok(());
        }
        let message = format!("{} is in pool {:?}, not in {:?}", what(), other.as_str(), self.name.as_str());
        Err(EngineError::new(Reason::InvalidArgument, message)
            .hint("copies are made within one pool: choose a source in the same pool"))
    }

    /// Refuses a disk limit that the pool can't hold.
    pub fn check_limit(&self, disk: Option<ByteSize>) -> Result<(), EngineError> {
        if disk.is_some() && self.abilities().limits == DiskLimits::None {
            return Err(EngineError::new(Reason::FacilityMissing, "the pool can't enforce a disk limit")
                .hint("use a pool on btrfs, or a profile without a disk limit"));
        }
        Ok(())
    }

    /// A clone takes next to nothing, but a pool without any room can't even hold that.
    pub async fn check_room(&self) -> Result<(), EngineError> {
        const LEAST: u64 = 64 << 20;
        let free = self.view().await?.free;
        if free.bytes() >= LEAST {
            return Ok(());
        }
        let message = format!("pool {:?} has {free} free", self.name.as_str());
        Err(EngineError::new(Reason::PoolFull, message)
            .hint("delete VPSes or snapshots, or enlarge the pool"))
    }

    /// What statfs(2) says of it: cheap, and at most half a minute old.
    pub async fn view(&self) -> Result<PoolView, EngineError> {
        let (name, path, kind) = (self.name.clone(), self.path.clone(), self.kind);
        let quota = self.abilities().mechanism;
        blocking("look at the pool", move || {
            let stat = rustix::fs::statfs(&path).map_err(|errno| {
                EngineError::internal(format!("failed to look at {}", path.display()), errno)
            })?;
            let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(stat.f_bsize.unsigned_abs()));
            let (total, free) = (bytes(stat.f_blocks), bytes(stat.f_bavail));
            let used = ByteSize(total.0.saturating_sub(free.0));
            Ok(PoolView { name, driver: kind.name(), path, total, used, free, quota })
        })
        .await
    }
}

/// The directory that was named, or the agent's own: of plain directories, or a file that is made once, and mounted when it
/// is not.
fn open_pool(settings: &Settings, driver: PoolDriver) -> Result<(Pool, PathBuf), EngineError> {
    let pools = settings.state_dir.join("pools");
    let mount_point = pools.join(settings.pool.name.as_str());
    match (driver, &settings.pool.path) {
        (PoolDriver::Dir, path) => {
            let path = path.clone().unwrap_or(mount_point);
            return Ok((Pool::open_directory(&path)?, path));
        }
        (PoolDriver::Btrfs, Some(path)) => return Ok((Pool::open_existing(path)?, path.clone())),
        (PoolDriver::Btrfs, None) => {}
    }
    let file = pools.join(format!("{}.btrfs", settings.pool.name));
    std::fs::create_dir_all(&mount_point)
        .map_err(|error| EngineError::internal(format!("failed to make {}", mount_point.display()), error))?;
    let size = match settings.pool.size {
        Some(size) => size,
        None => default_pool_size(&pools)?,
    };
    let pool = Pool::open_or_create(&LoopPoolConfig { file, mount_point: mount_point.clone(), size })?;
    Ok((pool, mount_point))
}

/// Half of what the disk has free: the file is sparse, and the host needs room, too.
fn default_pool_size(directory: &Path) -> Result<ByteSize, EngineError> {
    let stat = rustix::fs::statvfs(directory).map_err(|errno| {
        EngineError::internal(format!("failed to look at {}", directory.display()), errno)
    })?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    Ok(ByteSize((free / 2).max(ByteSize::gib(8).bytes()) >> 20 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pools of plain directories, as the settings can't name them yet.
    fn two_pools() -> (tempfile::TempDir, Pools) {
        let directory = tempfile::tempdir().unwrap();
        let pool = |name: &str| {
            let path = directory.path().join(name);
            let opened = Pool::open_directory(&path).unwrap();
            let (name, driver): (PoolName, _) = (name.parse().unwrap(), opened.driver());
            (name.clone(), HostPool { name, kind: PoolDriver::Dir, path, driver, maps_ids: true })
        };
        let all = BTreeMap::from([pool("fast"), pool("large")]);
        let default = "large".parse().unwrap();
        (directory, Pools { all, default, opened: Mutex::default() })
    }

    #[test]
    fn a_pool_is_found_by_its_name_and_a_wrong_name_is_told() {
        let (_directory, pools) = two_pools();
        assert_eq!(pools.by_name("fast").unwrap().name().as_str(), "fast");
        assert_eq!(pools.default().name().as_str(), "large");
        let error = pools.by_name("slow").unwrap_err();
        assert_eq!(error.reason(), Reason::PoolNotFound);
        assert!(error.chain().contains("there is no pool \"slow\""), "{}", error.chain());
    }

    #[test]
    fn nothing_is_copied_from_one_pool_to_another() {
        let (_directory, pools) = two_pools();
        let (fast, large) = (pools.by_name("fast").unwrap(), pools.default());
        let error = large.check_same(fast.name(), || "VPS \"web1\"".to_owned()).unwrap_err();
        assert!(error.to_string().contains("VPS \"web1\" is in pool \"fast\", not in \"large\""), "{error}");
        large.check_same(large.name(), || unreachable!()).unwrap();
    }

    #[test]
    fn a_limit_that_a_pool_cannot_hold_is_refused() {
        let (_directory, pools) = two_pools();
        pools.default().check_limit(None).unwrap();
        let error = pools.default().check_limit(Some(ByteSize::gib(1))).unwrap_err();
        assert_eq!(error.reason(), Reason::FacilityMissing);
    }
}
