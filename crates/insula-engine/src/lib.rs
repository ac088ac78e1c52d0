//! The engine: what should be is made so, and what is, is known.
//!
//! Its rooms, each a folder:
//!
//! * `model`: jobs as lists of steps, and the policy of what is allowed when. Pure data.
//! * `host`: what the host has: settings, networks, ids, features, clients of the API.
//! * `vps`: all VPSes in memory, and the task of each that owns what is observed of it.
//! * `watch`: what happens and what is used, and who steps back while the host is full.
//! * `journal`: jobs carried out with a journal, retries, and what goes on where a dead agent stopped.
//! * `steps`: what each step does, and its undo.
//! * `requests`: what can be asked for.
//! * `session`: programs, consoles and files inside of VPSes.
//!
//! The engine knows nothing of gRPC, and decides nobody's rights: it only notes who asked.

mod error;
#[cfg(test)]
mod faults;
mod host;
mod journal;
mod model;
mod requests;
mod session;
mod steps;
mod vps;
mod watch;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use insula_runtime::CgroupLayout;
use insula_storage::{Driver, Pool};
use insula_store::{Store, StoreError};
use insula_types::{Fingerprint, ImageInfo, NetworkSpec, Profile, ProfileName};

pub use error::EngineError;
pub use host::clients::NewClient;
pub use host::features::FeatureChange;
pub use host::settings::{
    AccessSettings, GrpcWebSettings, NetworkSettings, PoolDriver, PoolSettings, Settings, TlsSettings,
};
pub use host::views::{NetworkView, PoolView, read_profiles};
pub use insula_store::{AuditCheck, AuditFilter, EventFilter, OperationFilter};
pub use journal::retries::Asked;
pub use model::job::Boot;
pub use requests::changes::{LimitChange, SupervisionChange, UpdateVps};
pub use requests::clone::CloneVps;
pub use requests::create::CreateVps;
pub use requests::images::BuildImage;
pub use requests::profiles::UpdateProfile;
pub use requests::vps::OperationPage;
pub use session::exec::{ConsoleSession, ExecInput, ExecOutput, ExecOutputs, ExecRequest, ExecSession};
pub use session::files::{FileAnswer, FileSession, FileSink, FileSource};
pub use vps::handle::{Observed, Power, VpsHandle, VpsView, Work};
pub use vps::table::no_such_vps;
pub use watch::autostart::starts_with_host;
pub use watch::events::EventStream;
pub use watch::usage::Usage;

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
    firewall: host::networks::Firewall,
    profiles: RwLock<BTreeMap<ProfileName, Profile>>,
    /// Of this host: what tokens and the hashes of requests are made with.
    secret: [u8; 32],
    access: host::clients::Access,
    retries: journal::retries::Retries,
    events: watch::events::Events,
    layout: CgroupLayout,
    /// The compiled policy of AppArmor for guests, or why there is none.
    policy: Result<PathBuf, String>,
    table: vps::table::Table,
    images: RwLock<BTreeMap<Fingerprint, ImageInfo>>,
    operations: journal::execution::Operations,
    spares: vps::spares::Spares,
    stepped_back: watch::fairness::SteppedBack,
    /// Held while a name, an address and ids are chosen and written down.
    assigning: tokio::sync::Mutex<()>,
    /// The VPSes that are still to be started after the host's boot.
    autostarts: watch::autostart::Autostarts,
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
