//! A VPS's life in the kernel: how it is started, watched, entered and ended.
//!
//! [`plan_start`] turns what is wanted and observed into a [`StartPlan`]. A monitor, one small process per running VPS,
//! carries it out and stays the parent of the guest's init: [`spawn_parked`], [`ParkedMonitor::start`]. The agent talks to
//! it over a [`MonitorConnection`], now or after a restart.
//!
//! Everything here is synchronous, and nothing knows a database, an image or a network's rules.

mod anonymous;
mod apparmor;
pub mod cgroup;
mod connection;
mod detached_mount;
mod file_worker;
mod guest_root;
mod host_device;
mod id_mapping;
pub mod monitor;
mod parked;
mod password;
pub mod plan;
pub mod protocol;
mod run_dir;
mod seqpacket;
mod ssh_keys;

pub use anonymous::make_anonymous;
pub use apparmor::{AppArmor, AppArmorError, AppArmorLack};
pub use cgroup::CgroupLayout;
pub use connection::{ConnectionError, MonitorConnection};
pub use detached_mount::{AttachError, DetachedMount};
pub use file_worker::{FileWorkerError, run_file_worker};
pub use guest_root::{GuestRoot, GuestRootError};
pub use host_device::{HostDevice, observe_device};
pub use id_mapping::observe_id_mapping;
pub use parked::{MonitorConfig, MonitorProgram, ParkedMonitor, SpawnError, spawn_parked};
pub use password::{MAX_PASSWORD_LENGTH, PasswordError, hash_password, set_password};
pub use plan::{
    GuestInput, GuestNic, HostInput, PlanError, RebootPolicy, RootPlan, RunFile, StartEnd, StartInput,
    StartPlan, plan_start,
};
pub use protocol::{Event, Phase, Request, Status};
pub use run_dir::{VpsDirectory, observe_run_dir};
pub use ssh_keys::ensure_ssh_keys;
