//! Which VPSes run while an agent begins: their monitors say so, or have left word of how they ended. A monitor
//! that lives and says nothing that is understood is left alone, and so is its VPS.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use insula_runtime::{ConnectionError, Status, VpsDirectory};
use insula_types::{DesiredPower, ExitReason, ExitRecord, Placement, SnapshotInfo, VpsId, VpsSpec, VpsState};

use crate::vps::handle::is_on;
use crate::vps::link::MonitorLink;
use crate::vps::task::Found;
use crate::vps::task::end::clean_up;
use crate::{Engine, EngineError, now_ms};

impl Engine {
    /// Finds which VPSes run, all at once: their monitors say so. Those whose monitors live and say nothing that is
    /// understood are returned, and left alone; and so are those that live on another host.
    pub(super) async fn find_vpses(&self) -> Result<BTreeSet<VpsId>, EngineError> {
        let specs = self.store(|store| store.vpses()).await?;
        let mut exits: HashMap<VpsId, ExitRecord> =
            self.store(|store| store.exits()).await?.into_iter().collect();
        let was_booted = self.autostarts.was_host_booted().await?;
        let told: HashMap<VpsId, VpsState> =
            self.store(|store| store.last_states()).await?.into_iter().collect();
        let mut snapshots: HashMap<VpsId, Vec<SnapshotInfo>> = HashMap::new();
        for snapshot in self.store(|store| store.snapshots()).await? {
            snapshots.entry(snapshot.vps).or_default().push(snapshot);
        }
        let found = specs.into_iter().map(|spec| {
            let exit = exits.remove(&spec.id);
            let was_on = was_booted && told.get(&spec.id).is_some_and(|state| is_on(*state));
            async move { self.find_vps(spec, exit, was_on).await }
        });
        let mut silent = BTreeSet::new();
        for (spec, found) in futures::future::join_all(found).await {
            let own = snapshots.remove(&spec.id).unwrap_or_default();
            if found.is_silent {
                silent.insert(spec.id);
            }
            self.adopt(spec, own, found);
        }
        Ok(silent)
    }

    /// Whether a VPS runs; else what its monitor has left. `was_on`: it had processes when the host went
    /// down.
    async fn find_vps(&self, mut spec: VpsSpec, exit: Option<ExitRecord>, was_on: bool) -> (VpsSpec, Found) {
        const LIMIT: Duration = Duration::from_secs(10);
        if spec.placement.host_id != self.host_id() {
            let Placement { host_id, epoch, .. } = spec.placement;
            tracing::warn!(vps = %spec.id, name = %spec.name, "it lives on host {host_id} (epoch {epoch}), and is left alone");
            return (spec, Found { exit, running: None, is_silent: true });
        }
        let directory = VpsDirectory::new(&self.settings.run_dir, &spec.id);
        if let Ok(link) = MonitorLink::connect(&directory) {
            match tokio::time::timeout(LIMIT, link.hello()).await {
                Ok(Ok((version, status))) => {
                    let exit = self.keep_boots_end(&spec, exit, &status).await;
                    return (spec, Found { exit, running: Some((link, version, status)), is_silent: false });
                }
                Ok(Err(ConnectionError::Closed)) => {} // it has just ended
                _ => return (spec, silent_monitor(&directory)),
            }
        }
        if !directory.path().exists() {
            let exit = if was_on { Some(self.keep_end_with_host(spec.id).await) } else { exit };
            return (spec, Found { exit, ..Found::default() });
        }
        let left = directory.read_exit_record().ok().flatten();
        let record = left.unwrap_or_else(|| ExitRecord {
            reason: ExitReason::MonitorLost,
            at_ms: now_ms(),
            detail: Some("it had ended when the agent came back".to_owned()),
        });
        if record.reason == ExitReason::PowerOff {
            spec.power = DesiredPower::Off;
        }
        let (kept, kept_record, layout, id) = (spec.clone(), record.clone(), self.layout.clone(), spec.id);
        let written = self.store(move |store| store.put_exit(&kept, &kept_record)).await;
        let cleaned = crate::blocking("clean up", move || {
            clean_up(&layout, &id, &directory);
            Ok(())
        });
        for error in [written, cleaned.await].into_iter().filter_map(Result::err) {
            tracing::error!(vps = %spec.id, "{}", error.chain());
        }
        (spec, Found { exit: Some(record), ..Found::default() })
    }

    /// How a VPS that runs ended the last time: its monitor may know of a boot that ended while no agent was there.
    async fn keep_boots_end(
        &self,
        spec: &VpsSpec,
        known: Option<ExitRecord>,
        status: &Status,
    ) -> Option<ExitRecord> {
        let (id, Some(end)) = (spec.id, status.last_end.clone()) else { return known };
        if known.as_ref() != Some(&end) {
            let kept = end.clone();
            if let Err(error) = self.store(move |store| store.put_end(&id, &kept)).await {
                tracing::error!(vps = %id, "{}", error.chain());
            }
        }
        Some(end)
    }

    /// Notes that a VPS ran when the host went down: it has left nothing in `/run`, which begins empty.
    async fn keep_end_with_host(&self, id: VpsId) -> ExitRecord {
        let detail = Some("it ran when the host went down; the time is that of the agent's start".to_owned());
        let record = ExitRecord { reason: ExitReason::HostDown, at_ms: now_ms(), detail };
        let kept = record.clone();
        if let Err(error) = self.store(move |store| store.put_end(&id, &kept)).await {
            tracing::error!(vps = %id, "{}", error.chain());
        }
        record
    }
}

/// A monitor that lives and does not answer, or not in words of this version: its guest is not ours to kill.
fn silent_monitor(directory: &VpsDirectory) -> Found {
    let path = directory.socket();
    tracing::error!("the monitor at {} does not answer; its guest is left alone", path.display());
    let detail = Some(format!("its monitor at {} lives, but does not answer", path.display()));
    let exit = ExitRecord { reason: ExitReason::MonitorLost, at_ms: now_ms(), detail };
    Found { exit: Some(exit), running: None, is_silent: true }
}
