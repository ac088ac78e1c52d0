//! What belongs to nobody, left by an agent that died: groups, run directories, volumes. It must run after all VPSes
//! that run were found: what is not known by then is removed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use insula_runtime::{AppArmor, CgroupLayout, VpsDirectory, observe_run_dir};
use insula_storage::{Driver, Volume, VolumeError};
use insula_types::{OperationRecord, VpsId};

use crate::steps::resumption::held_volumes;
use crate::vps::task::end::clean_up;
use crate::{Engine, EngineError, Power, VpsHandle};

impl Engine {
    /// Removes what belongs to no VPS: groups, run directories, volumes. VPSes with unfinished operations are left
    /// to these, and VPSes of another host to that.
    pub(super) async fn remove_strays(
        &self,
        unfinished: &[OperationRecord],
        silent: BTreeSet<VpsId>,
    ) -> Result<(), EngineError> {
        let known: BTreeSet<VpsId> = self.table.all().iter().map(|handle| handle.id).collect();
        let running = |handle: &Arc<VpsHandle>| handle.observed.borrow().power != Power::Off;
        let mut alive: BTreeSet<VpsId> =
            self.table.all().iter().filter(|h| running(h)).map(|h| h.id).collect();
        alive.extend(silent);
        let mut busy: BTreeSet<String> = unfinished.iter().map(|record| record.target.clone()).collect();
        busy.extend(self.table.all().iter().filter(|h| h.is_elsewhere()).map(|h| h.id.to_string()));
        let held: BTreeSet<Volume> = unfinished.iter().flat_map(held_volumes).collect();
        let images: BTreeSet<_> = self.images.all().into_iter().map(|image| image.fingerprint).collect();
        let snapshots: BTreeSet<_> = self
            .table
            .all()
            .iter()
            .flat_map(|handle| handle.snapshots().iter().map(|s| (s.vps, s.name.clone())).collect::<Vec<_>>())
            .collect();
        let vpses = known.clone();
        let is_stray = move |volume: &Volume| match volume {
            Volume::Image(fingerprint) => !images.contains(fingerprint),
            Volume::Staging(_) => true,
            Volume::Root(vps) => !known.contains(vps),
            Volume::Snapshot(vps, name) => !snapshots.contains(&(*vps, name.clone())),
            Volume::Incoming(_) | Volume::Outgoing(_) => true,
        };
        let is_busy = move |vps: Option<VpsId>| vps.is_some_and(|vps| busy.contains(&vps.to_string()));
        for pool in self.pools.all() {
            let (is_stray, is_busy) = (is_stray.clone(), is_busy.clone());
            let (held, vpses) = (held.clone(), vpses.clone());
            pool.work(move |driver| {
                remove_stray_volumes(driver, &vpses, |volume| {
                    is_stray(volume) && !is_busy(volume.vps()) && !held.contains(volume)
                })
            })
            .await?;
        }
        let (layout, run_dir) = (self.layout.clone(), self.run_dir());
        crate::blocking("remove strays", move || remove_stray_groups(&layout, &run_dir, &alive)).await
    }
}

/// Removes the volumes that are strays. A root that was retired, and that nothing has replaced, is all that its VPS has: it
/// is put back.
fn remove_stray_volumes(
    driver: &dyn Driver,
    vpses: &BTreeSet<VpsId>,
    is_stray: impl Fn(&Volume) -> bool,
) -> Result<(), VolumeError> {
    let volumes = driver.observe()?.volumes;
    for volume in volumes.iter().filter(|volume| is_stray(volume)) {
        match volume {
            Volume::Outgoing(vps) if vpses.contains(vps) && !volumes.contains(&Volume::Root(*vps)) => {
                tracing::warn!("putting back {volume}, which nothing has replaced");
                driver.undo_replacement(*vps)?;
            }
            _ => {
                tracing::warn!("removing {volume}, which has no owner");
                driver.ensure_absent(volume)?;
            }
        }
    }
    Ok(())
}

/// Kills and removes what runs of VPSes that should not.
fn remove_stray_groups(
    layout: &CgroupLayout,
    run_dir: &Path,
    alive: &BTreeSet<VpsId>,
) -> Result<(), EngineError> {
    let failed = |error| EngineError::internal("failed to look for strays", error);
    let mut strays: BTreeSet<VpsId> = observe_run_dir(run_dir)
        .map_err(|error| EngineError::internal(format!("failed to read {}", run_dir.display()), error))?
        .into_iter()
        .collect();
    strays.extend(layout.observe_groups().map_err(failed)?);
    let policies = AppArmor::of(&layout.root_name).observe_namespaces();
    strays.extend(policies.map_err(|error| EngineError::internal("failed to look for strays", error))?);
    for vps in strays.difference(alive) {
        tracing::warn!(%vps, "removing groups that have no owner");
        clean_up(layout, vps, &VpsDirectory::new(run_dir, vps));
    }
    layout.remove_spare_groups().map_err(failed)
}
