//! The engine: it wires the subsystems, which own their state, and is asked through the methods of `requests` and
//! `session`. Nothing is implemented here, and no subsystem knows this type.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use insula_runtime::CgroupLayout;
use insula_store::{Store, StoreError};
use insula_types::{HostId, SnapshotInfo, VpsSpec};

use crate::error::EngineError;
use crate::host::clients::Clients;
use crate::host::database::Database;
use crate::host::ids::Ids;
use crate::host::images::Images;
use crate::host::networks::Networks;
use crate::host::pools::Pools;
use crate::host::profiles::Profiles;
use crate::host::settings::Settings;
#[cfg(test)]
use crate::journal::faults::Faults;
use crate::journal::operations::Operations;
use crate::journal::retries::Retries;
use crate::vps::handle::VpsHandle;
use crate::vps::news::News;
use crate::vps::spares::Spares;
use crate::vps::table::Table;
use crate::vps::task::{Found, Surroundings, VpsTask};
use crate::watch::autostart::Autostarts;
use crate::watch::events::Events;
use crate::watch::fairness::Fairness;

/// The engine of a host. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
}

/// The subsystems of an engine.
#[derive(Debug)]
pub struct Shared {
    pub(crate) settings: Settings,
    pub(crate) store: Database,
    pub(crate) pools: Arc<Pools>,
    /// Whether this host is a container.
    pub(crate) is_nested: bool,
    pub(crate) networks: Arc<Networks>,
    pub(crate) ids: Ids,
    pub(crate) profiles: Arc<Profiles>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) retries: Retries,
    pub(crate) events: Arc<Events>,
    pub(crate) layout: CgroupLayout,
    /// The compiled policy of AppArmor for guests, or why there is none.
    pub(crate) policy: Result<PathBuf, String>,
    pub(crate) table: Arc<Table>,
    pub(crate) images: Arc<Images>,
    pub(crate) operations: Operations,
    pub(crate) spares: Spares,
    pub(crate) fairness: Fairness,
    /// Held while a name, an address and ids are chosen and written down.
    pub(crate) assigning: tokio::sync::Mutex<()>,
    /// The VPSes that are still to be started after the host's boot.
    pub(crate) autostarts: Arc<Autostarts>,
    /// When this agent began: seconds since 1970, UTC.
    pub(crate) started_at: i64,
    #[cfg(test)]
    pub(crate) faults: Faults,
}

impl Deref for Engine {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Engine {
    /// Works with the database, from a thread that may block.
    pub(crate) async fn store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        self.store.run(work).await
    }

    /// The id of this host, which never changes.
    pub fn host_id(&self) -> HostId {
        self.store.host_id()
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When this agent began: seconds since 1970, UTC.
    pub fn started_at(&self) -> i64 {
        self.started_at
    }

    /// Where the sockets and plans of running VPSes are.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.settings.run_dir.clone()
    }

    /// Tells the state of a VPS, if it is another than before.
    pub(crate) fn note_state(&self, handle: &VpsHandle) {
        self.events.note_state(handle);
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
}
