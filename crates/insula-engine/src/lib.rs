//! The engine: what should be is made so, and what is, is known.
//!
//! Its rooms, folders and files; one uses only those before it in this list:
//!
//! * `error`, `blocking`, `clock`, files: what all rooms say, wait and count with.
//! * `model`: plans as lists of steps, and the policy of what is allowed when. Pure data.
//! * `host`: what the host has: settings, database, pools, networks, profiles, images, ids, clients of the API.
//! * `vps`: all VPSes in memory, and the task of each that owns what is observed of it.
//! * `watch`: what happens and what is used, and which VPSes step back while the host is full.
//! * `journal`: operations as they are written down and told, and what makes a retry safe.
//! * `engine`, a file: the type that wires all these. None of them knows it.
//! * `jobs`: what operations do. A file each: what is asked for, one check, the plan.
//! * `steps`: jobs carried out: journaled before each step, taken back, resumed after a crash.
//! * `requests`: how a job is accepted, and what can be asked for beside jobs.
//! * `session`: programs, consoles and files inside of VPSes.
//! * `lifetime`: how an agent begins and ends.
//!
//! The engine knows nothing of gRPC, and decides no rights: it only notes the requester.

mod blocking;
mod clock;
mod engine;
mod error;
#[cfg(test)]
mod faults;
mod host;
mod jobs;
mod journal;
mod lifetime;
mod model;
mod requests;
mod session;
mod steps;
mod vps;
mod watch;

pub use engine::{Engine, Shared};
pub use error::EngineError;
pub use host::networks::NetworkView;
pub use host::pools::PoolView;
pub use host::profiles::read_profiles;
pub use host::settings::{
    AccessSettings, GrpcWebSettings, NetworkSettings, PoolDriver, PoolSettings, Settings, TlsSettings,
};
pub use insula_store::{AuditCheck, AuditFilter, EventFilter, OperationFilter};
pub use jobs::{BuildImage, CloneVps, CreateVps};
pub use model::asked::Asked;
pub use model::changes::{FeatureChange, LimitChange, SupervisionChange, UpdateVps};
pub use model::plan::Boot;
pub use requests::clients::NewClient;
pub use requests::profiles::UpdateProfile;
pub use session::exec::{ConsoleSession, ExecInput, ExecOutput, ExecOutputs, ExecRequest, ExecSession};
pub use session::files::{FileAnswer, FileSession, FileSink, FileSource};
pub use vps::handle::{Observed, Power, VpsHandle, VpsView, Work};
pub use vps::table::no_such_vps;
pub use watch::autostart::starts_with_host;
pub use watch::events::EventStream;
pub use watch::usage::Usage;

pub(crate) use blocking::blocking;
pub(crate) use clock::{DAY_MS, now_ms};
