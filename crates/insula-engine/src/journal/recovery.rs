//! The beginning and the end of an agent: what it needs of the host, what a dead one left, and taking it all down.
//!
//! The order matters. VPSes that run are found first, so that nothing of theirs is taken for a leak; then what belongs
//! to nobody is removed; then unfinished operations go on; and only then are VPSes started that should run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use insula_runtime::{
    AppArmor, CgroupLayout, ConnectionError, MonitorProgram, Status, VpsDirectory, observe_run_dir,
};
use insula_storage::{Pool, Volume};
use insula_store::Store;
use insula_types::{
    DesiredPower, ExitReason, ExitRecord, Failure, OperationRecord, OperationState, Profile, ProfileName,
    Reason, SnapshotInfo, VpsId, VpsSpec, VpsState,
};
use tokio::sync::watch;

use crate::host::clients::Clients;
use crate::host::database::Database;
use crate::host::nested::{fit_ids, observe_nesting};
use crate::host::pools::Pools;
use crate::jobs::Job;
use crate::journal::execution::{Operations, Right};
use crate::journal::retries::Retries;
use crate::model::plan::Recovery;
use crate::vps::handle::{VpsHandle, Work, is_on};
use crate::vps::link::MonitorLink;
use crate::vps::spares::Spares;
use crate::vps::table::Table;
use crate::vps::task::{Found, Surroundings, VpsTask, clean_up};
use crate::watch::autostart::Autostarts;
use crate::watch::events::Events;
use crate::watch::fairness::Fairness;
use crate::{Engine, EngineError, Power, Settings, Shared, now_ms, read_profiles};

impl Engine {
    /// Opens the engine of a host: makes what is missing, finds what runs, goes on with what was under way.
    pub async fn open(settings: Settings) -> Result<Self, EngineError> {
        let shared = crate::blocking("open the host", move || open_host(settings)).await?;
        let engine = Self { shared: Arc::new(shared) };
        let unfinished = engine.store(|store| store.unfinished_operations()).await?;
        let silent = engine.find_vpses().await?;
        engine.remove_strays(&unfinished, silent).await?;
        engine.guard_all().await;
        engine.spares.refill();
        engine.events.begin_writing();
        engine.recall_states().await?;
        for record in unfinished {
            engine.recover(record)?;
        }
        engine.table.all().iter().for_each(|handle| engine.note_state(handle));
        engine.autostarts.begin(engine.clone()).await?;
        engine.keep_house();
        engine.fairness.begin();
        Ok(engine)
    }

    /// Puts a VPS into the table, with the task that owns what is observed of it.
    pub(crate) fn adopt(&self, spec: VpsSpec, snapshots: Vec<SnapshotInfo>, found: Found) -> Arc<VpsHandle> {
        VpsTask::adopt(&self.surroundings(), spec, snapshots, found)
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            layout: self.layout.clone(),
            run_dir: self.run_dir(),
            spares: self.spares.clone(),
            store: self.store.clone(),
            table: self.table.clone(),
            news: self.events.clone(),
        }
    }

    /// Finds which VPSes run, all at once: their monitors say so. Those whose monitors live and say nothing that is
    /// understood are returned, and left alone.
    async fn find_vpses(&self) -> Result<BTreeSet<VpsId>, EngineError> {
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
            detail: Some("it was gone when the agent came back".to_owned()),
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

    /// Removes what belongs to no VPS: groups, run directories, volumes. VPSes with unfinished operations are left
    /// to these.
    async fn remove_strays(
        &self,
        unfinished: &[OperationRecord],
        silent: BTreeSet<VpsId>,
    ) -> Result<(), EngineError> {
        let known: BTreeSet<VpsId> = self.table.all().iter().map(|handle| handle.id).collect();
        let running = |handle: &Arc<VpsHandle>| handle.observed.borrow().power != Power::Off;
        let mut alive: BTreeSet<VpsId> =
            self.table.all().iter().filter(|h| running(h)).map(|h| h.id).collect();
        alive.extend(silent);
        let busy: BTreeSet<String> = unfinished.iter().map(|record| record.target.clone()).collect();
        let images: BTreeSet<_> = self.images().into_iter().map(|image| image.fingerprint).collect();
        let snapshots: BTreeSet<_> = self
            .table
            .all()
            .iter()
            .flat_map(|handle| handle.snapshots().iter().map(|s| (s.vps, s.name.clone())).collect::<Vec<_>>())
            .collect();
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
            pool.work(move |driver| {
                for volume in driver.observe()?.volumes {
                    if is_stray(&volume) && !is_busy(volume.vps()) {
                        tracing::warn!("removing {volume}, which belongs to nobody");
                        driver.ensure_absent(&volume)?;
                    }
                }
                Ok(())
            })
            .await?;
        }
        let (layout, run_dir) = (self.layout.clone(), self.run_dir());
        crate::blocking("remove strays", move || remove_stray_groups(&layout, &run_dir, &alive)).await
    }

    /// Goes on with an operation that a dead agent left.
    fn recover(&self, mut record: OperationRecord) -> Result<(), EngineError> {
        tracing::info!(operation = %record.id, "going on with {} of {}", record.kind, record.target_name);
        let job: Job = serde_json::from_str(&record.request)
            .map_err(|error| EngineError::internal("failed to read the journal", error))?;
        if record.state == OperationState::Running && job.recovery() == Recovery::TakeBack {
            record.state = OperationState::Undoing;
            let message = "the agent ended in the middle; it was taken back";
            record.error = Some(Failure::new(Reason::Interrupted, message));
        }
        let work = Work::new(record.id, record.kind, job.target().vps());
        let handle = |vps: Option<VpsId>| vps.and_then(|vps| self.table.by_id(&vps));
        let right = match (record.state, handle(job.target().vps())) {
            (OperationState::Queued, Some(handle)) => Right::Later(handle.queue()?),
            // Whoever waits for a boot does not work on the VPS: another may have it.
            (OperationState::Running, _) if job.plan().is_waiting(record.step as usize) => Right::Now(vec![]),
            (_, target) => {
                let worked_on = [handle(job.source()), target].into_iter().flatten();
                Right::Now(worked_on.filter_map(|handle| handle.claim(work).ok()).collect())
            }
        };
        self.spawn(record, job, right);
        Ok(())
    }

    /// What the agents before have told of the VPSes: what has changed since is told now.
    async fn recall_states(&self) -> Result<(), EngineError> {
        for (vps, state) in self.store(|store| store.last_states()).await? {
            if let Some(handle) = self.table.by_id(&vps) {
                handle.set_told(state);
            }
        }
        Ok(())
    }

    /// Ends the agent: operations come to an end, for some seconds, spare monitors go, guests run on.
    pub async fn close(&self) {
        const GRACE: Duration = Duration::from_secs(10);
        if tokio::time::timeout(GRACE, self.operations.idle()).await.is_err() {
            tracing::warn!("operations are still under way; the next agent goes on with them");
        }
        self.events.flush().await;
        self.fairness.end().await;
        self.dismiss_spares().await;
    }

    async fn dismiss_spares(&self) {
        let spares = self.spares.clone();
        // It can't fail but by a panic, which has been reported.
        let _ = tokio::task::spawn_blocking(move || spares.dismiss()).await;
    }

    /// Takes everything down but the data: VPSes, groups, network. The pools are given back, to be closed when nothing
    /// uses them any longer.
    pub async fn teardown(&self) -> Result<Vec<Pool>, EngineError> {
        self.kill_all().await?; // what waits for a boot waits no longer
        self.operations.idle().await;
        self.kill_all().await?; // what an operation has started meanwhile
        self.dismiss_spares().await;
        let layout = self.layout.clone();
        crate::blocking("remove the groups", move || {
            let failed = |error| EngineError::internal("failed to remove the groups of this agent", error);
            layout.remove_spare_groups().map_err(failed)?;
            layout.ensure_root_absent().map_err(failed)?;
            AppArmor::of(&layout.root_name)
                .ensure_all_absent()
                .map_err(|error| EngineError::internal("failed to remove the policies of this agent", error))
        })
        .await?;
        self.take_network_down().await?;
        Ok(self.pools.take_opened())
    }

    async fn kill_all(&self) -> Result<(), EngineError> {
        let kill = |handle: Arc<VpsHandle>| async move { handle.shut_down(true, Duration::ZERO).await };
        let killed = futures::future::join_all(self.table.all().into_iter().map(kill)).await;
        killed.into_iter().collect()
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

/// Everything of the host that an engine works with.
fn open_host(mut settings: Settings) -> Result<Shared, EngineError> {
    let is_nested = observe_nesting()?;
    fit_ids(&mut settings)?;
    let profiles = read_profiles(settings.profile_dir.as_deref())?;
    let program = find_monitor(&settings)?;
    let store = Store::open(&settings.state_dir.join("insula.db"))
        .map_err(|error| EngineError::internal("failed to open the state", error))?;
    let layout = CgroupLayout::observe(&settings.cgroup_root).map_err(|error| {
        EngineError::new(Reason::FacilityMissing, "the host's cgroups can't be used").caused_by(error)
    })?;
    let pools = Arc::new(Pools::open(&settings, is_nested)?);
    let network = crate::host::networks::open(&settings, &store)?;
    // Last: what goes wrong before leaves no groups behind.
    layout
        .ensure_root()
        .map_err(|error| EngineError::internal("failed to make the groups of this agent", error))?;
    store.seed_profiles(&profiles)?;
    let policy = prepare_policy(&settings.run_dir);
    let (newest, told) = watch::channel(store.last_event());
    // Callbacks of several threads may come in any order.
    store.on_event(Box::new(move |sequence| {
        newest
            .send_if_modified(|newest| *newest < sequence && std::mem::replace(newest, sequence) < sequence);
    }));
    let images = store.images()?.into_iter().map(|image| (image.fingerprint, image)).collect();
    let (store, table) = (Database::new(store), Arc::new(Table::default()));
    Ok(Shared {
        autostarts: Arc::new(Autostarts::new(store.clone(), table.clone(), is_nested)),
        profiles: RwLock::new(profiles_of(&store)?),
        secret: store.secret(),
        clients: Arc::new(Clients::load(store.clone(), settings.access.certificate_life())?),
        retries: Retries::default(),
        events: Arc::new(Events::new(store.clone(), told)),
        store,
        pools,
        is_nested,
        networks: vec![network.spec],
        firewall: network.firewall,
        images: RwLock::new(images),
        operations: Operations::new(settings.parallel_operations),
        fairness: Fairness::new(layout.clone(), table.clone()),
        table,
        spares: Spares::new(program, layout.clone(), settings.run_dir.clone(), settings.spare_monitors),
        assigning: tokio::sync::Mutex::default(),

        started_at: now_ms() / 1000,
        layout,
        policy,
        settings,
        #[cfg(test)]
        faults: crate::journal::faults::Faults::default(),
    })
}

/// Compiles the policy of guests where the host has AppArmor. Guests run without where it has not: it is a second wall.
fn prepare_policy(run_dir: &Path) -> Result<PathBuf, String> {
    let lack = match AppArmor::observe() {
        Err(lack) => lack.to_string(),
        Ok(()) => match AppArmor::compile(run_dir) {
            Ok(policy) => return Ok(policy),
            Err(error) => EngineError::internal("AppArmor", error).chain(),
        },
    };
    tracing::warn!("guests run under no policy of AppArmor: {lack}");
    Err(lack)
}

fn profiles_of(store: &Store) -> Result<BTreeMap<ProfileName, Profile>, EngineError> {
    Ok(store.profiles()?.into_iter().map(|profile| (profile.name.clone(), profile)).collect())
}

/// The monitor's program: as set, beside this program, or where packages put it.
fn find_monitor(settings: &Settings) -> Result<MonitorProgram, EngineError> {
    const NAME: &str = "insula-monitor";
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join(NAME)));
    let packaged = Path::new("/usr/lib/insula").join(NAME);
    let candidates = [settings.monitor.clone(), beside, Some(packaged)];
    let path = candidates.into_iter().flatten().find(|path| path.exists()).ok_or_else(|| {
        EngineError::new(Reason::FacilityMissing, format!("the program {NAME} is missing"))
            .hint("install it beside insulad, or set `monitor` in the agent's configuration")
    })?;
    MonitorProgram::load(&path).map_err(|error| EngineError::internal("failed to load the monitor", error))
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
        tracing::warn!(%vps, "removing groups that belong to nobody");
        clean_up(layout, vps, &VpsDirectory::new(run_dir, vps));
    }
    layout.remove_spare_groups().map_err(failed)
}

impl Operations {
    /// Waits until no operation is under way.
    pub(crate) async fn idle(&self) {
        while let Some(mut watch) = self.any() {
            let _ = watch.wait_for(|record| record.state.is_final()).await; // gone is done
            tokio::task::yield_now().await;
        }
    }
}
