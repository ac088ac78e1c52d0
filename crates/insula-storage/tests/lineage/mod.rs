//! A driver on datasets that keep their lineage, written against the trait alone: what ZFS would have to do.
//!
//! What the trait promises and lineage forbids is put off. A snapshot that has clones and should go gets a hidden name; a
//! dataset that has snapshots and should go is renamed to `gone-N`, and keeps them for as long as somebody can see them.
//! [`reclaim`](Lineage::reclaim) destroys what nothing depends on any more, and promotes a live clone where that sets a
//! dead dataset free.

mod datasets;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};

use datasets::{Datasets, Snapshot};
use insula_storage::{
    Abilities, BlockDevices, DiskLimits, Driver, PoolObservation, Volume, VolumeError, VolumeUsage,
};
use insula_types::{ByteSize, VpsId};
use rustix::fs::{Mode, OFlags, open, statvfs};

/// The snapshot of an image that everything is cloned from.
const SEALED: &str = "sealed";

#[derive(Debug)]
pub struct LineageDriver {
    top: PathBuf,
    lineage: Mutex<Lineage>,
}

#[derive(Debug)]
struct Lineage {
    datasets: Datasets,
    /// How many hidden names there have been.
    hidden: u32,
}

impl LineageDriver {
    pub fn open(top: PathBuf) -> Self {
        let lineage = Mutex::new(Lineage { datasets: Datasets::new(&top), hidden: 0 });
        Self { top, lineage }
    }

    fn lineage(&self) -> MutexGuard<'_, Lineage> {
        self.lineage.lock().unwrap()
    }
}

/// The dataset that a volume is; of a snapshot, which is none, the one that it would be taken of.
fn dataset(volume: &Volume) -> String {
    match volume {
        Volume::Image(fingerprint) => format!("images/{fingerprint}"),
        Volume::Staging(operation) => format!("staging/{operation}"),
        Volume::Root(vps) | Volume::Snapshot(vps, _) => format!("vps/{vps}/root"),
        Volume::Incoming(vps) => format!("vps/{vps}/incoming"),
        Volume::Outgoing(vps) => format!("vps/{vps}/outgoing"),
    }
}

fn volume(dataset: &str) -> Option<Volume> {
    match dataset.split('/').collect::<Vec<_>>()[..] {
        ["images", fingerprint] => fingerprint.parse().ok().map(Volume::Image),
        ["staging", operation] => operation.parse().ok().map(Volume::Staging),
        ["vps", vps, "root"] => vps.parse().ok().map(Volume::Root),
        ["vps", vps, "incoming"] => vps.parse().ok().map(Volume::Incoming),
        ["vps", vps, "outgoing"] => vps.parse().ok().map(Volume::Outgoing),
        _ => None,
    }
}

/// Everything of one VPS, or of one kind, is below one name.
fn family(dataset: &str) -> &str {
    dataset.rsplit_once('/').map_or(dataset, |(family, _)| family)
}

fn is_hidden(snapshot: &str) -> bool {
    snapshot.starts_with('.')
}

fn is_gone(dataset: &str) -> bool {
    volume(dataset).is_none()
}

fn refused(action: &'static str, volume: &Volume) -> impl Fn(io::Error) -> VolumeError {
    move |source| VolumeError::Io { action, volume: volume.clone(), source }
}

impl Lineage {
    fn unused(&mut self, prefix: &str) -> String {
        self.hidden += 1;
        format!("{prefix}{}", self.hidden)
    }

    /// The dataset that has a snapshot of a VPS now.
    fn holder(&self, vps: VpsId, name: &str) -> Option<String> {
        let own = format!("vps/{vps}");
        let has = |(dataset, of): &(&String, &datasets::Dataset)| {
            family(dataset) == own && of.snapshots.iter().any(|s| s == name)
        };
        self.datasets.all().iter().find(has).map(|(dataset, _)| dataset.clone())
    }

    fn has(&self, volume: &Volume) -> bool {
        match volume {
            Volume::Snapshot(vps, name) => self.holder(*vps, name.as_str()).is_some(),
            _ => self.datasets.has(&dataset(volume)),
        }
    }

    fn path(&self, volume: &Volume) -> PathBuf {
        match volume {
            Volume::Snapshot(vps, name) => {
                let holder = self.holder(*vps, name.as_str()).unwrap_or_else(|| dataset(volume));
                self.datasets.snapshot_path(&holder, name.as_str())
            }
            _ => self.datasets.mount_point(&dataset(volume)),
        }
    }

    /// What a volume is cloned from, where that is there already.
    fn source(&self, from: &Volume) -> Option<Snapshot> {
        match from {
            Volume::Image(_) => self.has(from).then(|| (dataset(from), SEALED.to_owned())),
            Volume::Snapshot(vps, name) => {
                Some((self.holder(*vps, name.as_str())?, name.as_str().to_owned()))
            }
            _ => None,
        }
    }

    fn is_copy(&self, to: &Volume, from: &Volume) -> bool {
        let origin = match to {
            Volume::Snapshot(vps, name) => return self.holder(*vps, name.as_str()) == Some(dataset(from)),
            _ => self.datasets.all()[&dataset(to)].origin.clone(),
        };
        match self.source(from) {
            Some(source) => origin == Some(source),
            None => origin.is_some_and(|(of, _)| of == dataset(from)),
        }
    }

    fn copy(&mut self, from: &Volume, to: &Volume) -> io::Result<()> {
        if let Volume::Snapshot(_, name) = to {
            return self.datasets.snapshot(&dataset(from), name.as_str());
        }
        let (of, at) = match self.source(from) {
            Some(source) => source,
            None => {
                let hidden = self.unused(".copied-");
                self.datasets.snapshot(&dataset(from), &hidden)?;
                (dataset(from), hidden)
            }
        };
        self.datasets.clone_snapshot(&of, &at, &dataset(to))
    }

    fn remove(&mut self, volume: &Volume) -> io::Result<()> {
        let name = dataset(volume);
        if let Volume::Snapshot(vps, snapshot) = volume {
            let holder = self.holder(*vps, snapshot.as_str()).ok_or(io::ErrorKind::NotFound)?;
            let hidden = self.unused(".gone-");
            return self.datasets.rename_snapshot(&holder, snapshot.as_str(), &hidden);
        }
        if let Volume::Image(_) = volume {
            let hidden = self.unused(".gone-");
            self.datasets.rename_snapshot(&name, SEALED, &hidden)?;
        }
        let gone = self.unused(&format!("{}/gone-", family(&name)));
        self.datasets.rename(&name, &gone)
    }

    /// Destroys what nobody can see and nothing depends on.
    fn reclaim(&mut self) -> io::Result<()> {
        while let Some(step) = self.next_step() {
            match step {
                Step::DestroySnapshot((dataset, name)) => self.datasets.destroy_snapshot(&dataset, &name)?,
                Step::Destroy(dataset) => self.datasets.destroy(&dataset)?,
                Step::Promote(clone) => self.datasets.promote(&clone)?,
            }
        }
        Ok(())
    }

    fn next_step(&self) -> Option<Step> {
        for (name, dataset) in self.datasets.all() {
            let is_unused = |at: &&String| is_hidden(at) && self.datasets.clones(name, at).is_empty();
            if let Some(at) = dataset.snapshots.iter().find(is_unused) {
                return Some(Step::DestroySnapshot((name.clone(), at.clone())));
            }
            if !is_gone(name) {
                continue;
            }
            if dataset.snapshots.is_empty() {
                return Some(Step::Destroy(name.clone()));
            }
            // A snapshot that somebody sees stays with its VPS; the newest takes the older ones along.
            let may_leave = dataset.snapshots.iter().all(|at| is_hidden(at));
            let heirs = dataset.snapshots.iter().rev().flat_map(|at| self.datasets.clones(name, at));
            let heir = heirs
                .filter(|clone| !is_gone(clone))
                .find(|clone| may_leave || family(clone) == family(name));
            if let Some(heir) = heir {
                return Some(Step::Promote(heir));
            }
        }
        None
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut volumes: Vec<Volume> = self.datasets.all().keys().filter_map(|name| volume(name)).collect();
        for (name, dataset) in self.datasets.all() {
            let Some(vps) = family(name).strip_prefix("vps/").and_then(|vps| vps.parse().ok()) else {
                continue;
            };
            let visible = dataset.snapshots.iter().filter(|at| !is_hidden(at));
            volumes.extend(visible.map(|at| Volume::Snapshot(vps, at.parse().unwrap())));
        }
        volumes.sort();
        volumes
    }
}

/// One step of cleaning up.
enum Step {
    DestroySnapshot(Snapshot),
    Destroy(String),
    Promote(String),
}

impl Driver for LineageDriver {
    fn abilities(&self) -> Abilities {
        Abilities {
            instant_copies: false,
            limits: DiskLimits::None,
            mechanism: "none",
            shared_files: false,
            read_only: false,
        }
    }

    fn block_devices(&self) -> Result<BlockDevices, VolumeError> {
        Ok(BlockDevices::None { why: "the pool is pretended".to_owned() })
    }

    fn open(&self, volume: &Volume) -> Result<OwnedFd, VolumeError> {
        let lineage = self.lineage();
        if !lineage.has(volume) {
            return Err(VolumeError::Missing(volume.clone()));
        }
        open(lineage.path(volume), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| refused("open", volume)(errno.into()))
    }

    fn lasting_path(&self, volume: &Volume) -> PathBuf {
        self.lineage().path(volume)
    }

    fn ensure_empty(&self, volume: &Volume) -> Result<bool, VolumeError> {
        let mut lineage = self.lineage();
        if lineage.has(volume) {
            return Ok(false);
        }
        lineage.datasets.create(&dataset(volume)).map_err(refused("make", volume))?;
        Ok(true)
    }

    fn ensure_clone(&self, from: &Volume, to: &Volume) -> Result<bool, VolumeError> {
        let mut lineage = self.lineage();
        match (lineage.has(from), lineage.has(to)) {
            (true, true) if !lineage.is_copy(to, from) => {
                Err(VolumeError::OtherOrigin { from: from.clone(), to: to.clone() })
            }
            (_, true) => Ok(false),
            (false, false) => Err(VolumeError::Missing(from.clone())),
            (true, false) => lineage.copy(from, to).map(|()| true).map_err(refused("make", to)),
        }
    }

    fn ensure_absent(&self, volume: &Volume) -> Result<bool, VolumeError> {
        let mut lineage = self.lineage();
        if !lineage.has(volume) {
            return Ok(false);
        }
        lineage.remove(volume).and_then(|()| lineage.reclaim()).map_err(refused("remove", volume))?;
        Ok(true)
    }

    fn seal(&self, staging: &Volume, image: &Volume) -> Result<(), VolumeError> {
        let mut lineage = self.lineage();
        match (lineage.has(staging), lineage.has(image)) {
            (false, false) => return Err(VolumeError::Missing(staging.clone())),
            (false, true) => return Ok(()),
            (true, true) => {
                drop(lineage);
                return self.ensure_absent(staging).map(drop);
            }
            (true, false) => {}
        }
        let mut seal = || {
            lineage.datasets.snapshot(&dataset(staging), SEALED)?;
            lineage.datasets.rename(&dataset(staging), &dataset(image))
        };
        seal().map_err(refused("publish", image))
    }

    fn replace_root(&self, vps: VpsId, from: &Volume) -> Result<bool, VolumeError> {
        let (root, incoming, outgoing) = (Volume::Root(vps), Volume::Incoming(vps), Volume::Outgoing(vps));
        let has = |volume: &Volume| self.lineage().has(volume);
        match (has(&root), has(&outgoing)) {
            (true, true) => return self.ensure_clone(from, &root),
            (false, false) => return Err(VolumeError::Missing(root)),
            _ => self.ensure_clone(from, &incoming)?,
        };
        let exchange = |lineage: &mut Lineage| {
            if lineage.has(&root) {
                lineage.datasets.rename(&dataset(&root), &dataset(&outgoing))?;
            }
            lineage.datasets.rename(&dataset(&incoming), &dataset(&root))
        };
        exchange(&mut self.lineage()).map(|()| true).map_err(refused("replace", &root))
    }

    fn commit_replacement(&self, vps: VpsId) -> Result<(), VolumeError> {
        let root = Volume::Root(vps);
        if !self.lineage().has(&root) {
            return Err(VolumeError::Missing(root));
        }
        self.ensure_absent(&Volume::Outgoing(vps)).map(drop)
    }

    fn undo_replacement(&self, vps: VpsId) -> Result<(), VolumeError> {
        let (root, incoming, outgoing) = (Volume::Root(vps), Volume::Incoming(vps), Volume::Outgoing(vps));
        let exchange = |lineage: &mut Lineage| {
            if !lineage.has(&outgoing) {
                return Ok(());
            }
            if lineage.has(&root) {
                lineage.datasets.rename(&dataset(&root), &dataset(&incoming))?;
            }
            lineage.datasets.rename(&dataset(&outgoing), &dataset(&root))
        };
        exchange(&mut self.lineage()).map_err(refused("take back", &root))?;
        self.ensure_absent(&incoming).map(drop)
    }

    fn set_limit(&self, vps: VpsId, limit: Option<ByteSize>) -> Result<(), VolumeError> {
        limit.map_or(Ok(()), |_| Err(VolumeError::NoQuota(vps)))
    }

    fn usage(&self, _vps: VpsId) -> Result<VolumeUsage, VolumeError> {
        Ok(VolumeUsage::default())
    }

    fn observe(&self) -> Result<PoolObservation, VolumeError> {
        let mut lineage = self.lineage();
        let failed = |source| VolumeError::Observe { pool: self.top.clone(), source };
        lineage.reclaim().map_err(failed)?;
        let statistics = statvfs(&self.top).map_err(|errno| failed(errno.into()))?;
        let size = |blocks: u64| ByteSize(blocks.saturating_mul(statistics.f_frsize));
        let volumes = lineage.volumes();
        let is_left = |vps: &VpsId| !volumes.iter().any(|volume| volume.vps() == Some(*vps));
        let families = lineage.datasets.all().keys().filter_map(|name| family(name).strip_prefix("vps/"));
        let mut reclaiming: Vec<VpsId> =
            families.filter_map(|vps| vps.parse().ok()).filter(is_left).collect();
        reclaiming.dedup();
        Ok(PoolObservation {
            volumes,
            strays: vec![],
            reclaiming,
            total: size(statistics.f_blocks),
            used: size(statistics.f_blocks.saturating_sub(statistics.f_bfree)),
            available: size(statistics.f_bavail),
        })
    }
}
