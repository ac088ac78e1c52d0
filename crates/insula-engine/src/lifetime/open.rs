//! The beginning of an agent: what it needs of the host, and what a dead one left.
//!
//! The order matters. VPSes that run are found first, so that nothing of theirs is taken for a leak; then what belongs
//! to nobody is removed; then unfinished operations go on; and only then are VPSes started that should run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use insula_runtime::{AppArmor, CgroupLayout, MonitorProgram};
use insula_store::Store;
use insula_types::{OperationState, Reason};
use tokio::sync::watch;

use crate::host::clients::Clients;
use crate::host::database::Database;
use crate::host::ids::Ids;
use crate::host::images::Images;
use crate::host::nested::{fit_ids, observe_nesting};
use crate::host::networks::Networks;
use crate::host::pools::Pools;
use crate::host::profiles::{Profiles, read_profiles};
use crate::journal::operations::Operations;
use crate::journal::retries::Retries;
use crate::vps::spares::Spares;
use crate::vps::table::Table;
use crate::watch::autostart::Autostarts;
use crate::watch::events::Events;
use crate::watch::fairness::Fairness;
use crate::{Engine, EngineError, Settings, Shared, now_ms};

impl Engine {
    /// Opens the engine of a host: makes what is missing, finds what runs, goes on with what was under way.
    pub async fn open(settings: Settings) -> Result<Self, EngineError> {
        let shared = crate::blocking("open the host", move || open_host(settings)).await?;
        let engine = Self { shared: Arc::new(shared) };
        let mut unfinished = engine.store(|store| store.unfinished_operations()).await?;
        // Those that wait come last: the VPS belongs to the one that works on it.
        unfinished.sort_by_key(|record| record.state == OperationState::Queued);
        let silent = engine.find_vpses().await?;
        engine.remove_strays(&unfinished, silent).await?;
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

    /// What the agents before have told of the VPSes: what has changed since is told now.
    async fn recall_states(&self) -> Result<(), EngineError> {
        for (vps, state) in self.store(|store| store.last_states()).await? {
            if let Some(handle) = self.table.by_id(&vps) {
                handle.set_told(state);
            }
        }
        Ok(())
    }
}

/// Everything of the host that an engine works with.
fn open_host(mut settings: Settings) -> Result<Shared, EngineError> {
    let is_nested = observe_nesting()?;
    fit_ids(&mut settings)?;
    let profiles = read_profiles(settings.profile_dir.as_deref())?;
    let program = find_monitor(&settings)?;
    let store = Store::open(&settings.state_dir.join("insula.db"))
        .map_err(|error| EngineError::internal("failed to open the state", error))?;
    let store = Database::new(store);
    let layout = CgroupLayout::observe(&settings.cgroup_root).map_err(|error| {
        EngineError::new(Reason::FacilityMissing, "the host's cgroups can't be used").caused_by(error)
    })?;
    let pools = Arc::new(Pools::open(&settings, is_nested)?);
    let networks = Networks::open(&settings.network, store.clone())?;
    // Last: so a failure before this leaves no groups.
    layout
        .ensure_root()
        .map_err(|error| EngineError::internal("failed to make the groups of this agent", error))?;
    let profiles = Profiles::load(&settings, &profiles, store.clone())?;
    let policy = prepare_policy(&settings.run_dir);
    let (newest, told) = watch::channel(store.last_event());
    // Callbacks of several threads may come in any order.
    store.on_event(Box::new(move |sequence| {
        newest
            .send_if_modified(|newest| *newest < sequence && std::mem::replace(newest, sequence) < sequence);
    }));
    let table = Arc::new(Table::default());
    Ok(Shared {
        autostarts: Arc::new(Autostarts::new(store.clone(), table.clone(), is_nested)),
        profiles: Arc::new(profiles),
        images: Arc::new(Images::load(store.clone())?),
        clients: Arc::new(Clients::load(store.clone(), settings.access.certificate_life())?),
        retries: Retries::new(store.secret()),
        events: Arc::new(Events::new(store.clone(), told)),
        ids: Ids::new(&settings, store.clone(), pools.clone()),
        store,
        pools,
        is_nested,
        networks: Arc::new(networks),
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
