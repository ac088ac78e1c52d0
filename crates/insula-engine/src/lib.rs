//! The engine: what should be is made so, and what is, is known.
//!
//! * [`job`] says what operations do, as lists of steps; `operations` carries them out with a journal; `steps` is
//!   what each step does, and its undo; `recovery` goes on where a dead agent stopped.
//! * [`vps`] holds all VPSes in memory; a `task` for each owns what is observed of it.
//! * [`policy`] says what is allowed when.
//! * `fairness` lets VPSes step back that take much of a full host; `pressure` says when it is full.
//! * `create`, `changes`, `snapshots`, `trash`, `images` and `requests` turn what is asked for into jobs; `context` knows
//!   retries; `events` tells what happens; `access` knows the clients; `session` connects to programs and consoles.
//!
//! The engine knows nothing of gRPC, and decides nobody's rights: it only notes who asked.

mod access;
mod autostart;
mod changes;
mod clone;
mod context;
mod create;
mod error;
mod events;
mod fairness;
#[cfg(test)]
mod faults;
mod features;
mod files;
mod host;
mod ids;
mod images;
mod job;
mod limits;
mod link;
mod nested;
mod network;
mod operations;
mod policy;
mod power;
mod pressure;
mod profiles;
mod recovery;
mod requests;
mod session;
mod settings;
mod snapshots;
mod spares;
mod start;
mod step;
mod steps;
mod table;
mod task;
mod trash;
mod usage;
mod vps;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use insula_runtime::CgroupLayout;
use insula_storage::{Driver, Pool};
use insula_store::{Store, StoreError};
use insula_types::{Fingerprint, ImageInfo, NetworkSpec, Profile, ProfileName};

pub use access::NewClient;
pub use autostart::starts_with_host;
pub use changes::{LimitChange, SupervisionChange, UpdateVps};
pub use clone::CloneVps;
pub use context::Asked;
pub use create::CreateVps;
pub use error::EngineError;
pub use events::EventStream;
pub use features::FeatureChange;
pub use files::{FileAnswer, FileSession, FileSink, FileSource};
pub use host::{NetworkView, PoolView, read_profiles};
pub use images::BuildImage;
pub use insula_store::{AuditCheck, AuditFilter, EventFilter, OperationFilter};
pub use job::Boot;
pub use profiles::UpdateProfile;
pub use requests::OperationPage;
pub use session::{ConsoleSession, ExecInput, ExecOutput, ExecOutputs, ExecRequest, ExecSession};
pub use settings::{
    AccessSettings, GrpcWebSettings, NetworkSettings, PoolDriver, PoolSettings, Settings, TlsSettings,
};
pub use table::no_such_vps;
pub use usage::Usage;
pub use vps::{Observed, Power, VpsHandle, VpsView, Work};

/// The engine of a host. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

/// What all parts of the engine share.
#[derive(Debug)]
pub struct Shared {
    settings: Settings,
    store: Arc<Store>,
    pool: Arc<dyn Driver>,
    pool_path: PathBuf,
    /// Whether files get the ids of their VPS when its root is mounted; else when they are copied.
    maps_ids: bool,
    /// Whether this host is a container.
    is_nested: bool,
    /// Until somebody closes it.
    opened_pool: Mutex<Option<Pool>>,
    networks: Vec<NetworkSpec>,
    firewall: network::Firewall,
    profiles: RwLock<BTreeMap<ProfileName, Profile>>,
    /// Of this host: what tokens and the hashes of requests are made with.
    secret: [u8; 32],
    access: access::Access,
    retries: context::Retries,
    events: events::Events,
    layout: CgroupLayout,
    /// The compiled policy of AppArmor for guests, or why there is none.
    policy: Result<PathBuf, String>,
    table: table::Table,
    images: RwLock<BTreeMap<Fingerprint, ImageInfo>>,
    operations: operations::Operations,
    spares: spares::Spares,
    stepped_back: fairness::SteppedBack,
    /// Held while a name, an address and ids are chosen and written down.
    assigning: tokio::sync::Mutex<()>,
    /// The VPSes that are still to be started after the host's boot.
    autostarts: autostart::Autostarts,
    /// When this agent began: seconds since 1970, UTC.
    started_at: i64,
    #[cfg(test)]
    faults: faults::Faults,
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
        let store = self.store.clone();
        blocking("use the database", move || work(&store).map_err(EngineError::from)).await
    }

    /// Works with the pool, from a thread that may block.
    pub(crate) async fn pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Driver) -> Result<T, insula_storage::VolumeError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let pool = self.pool.clone();
        blocking("use the pool", move || work(&*pool).map_err(EngineError::from)).await
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
}

/// Runs what blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(EngineError::internal(format!("failed to {doing}"), error)),
    }
}

/// Milliseconds since 1970, UTC.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
