//! Helpers for tests that use Insula from outside.
//!
//! A [`ScratchHost`] is a whole host for one test, with namespaces, directories and an agent of its
//! own. Its images come from templates that are built once. Every wait has a deadline, and a
//! failure panics with the agent's log.

pub mod agent;
mod calls;
pub mod frozen;
mod fsid;
mod host;
pub mod hostile;
mod image;
mod init;
mod namespaces;
mod paths;
mod process;
mod slot;
mod stock;
mod store;
mod template;
mod terminal;
mod traces;

pub use calls::{failure, reason};
pub use host::{Builder, ScratchHost};
pub use image::Image;
pub use init::{CRASHING_INIT, QUICK_INIT, REBOOTING_INIT, STUBBORN_INIT};
pub use paths::{binary, project_file};
pub use process::{Command, Outcome, PATIENCE, Process, eventually, slowness};
pub use stock::make_store;
pub use template::copy_plain_state;
pub use terminal::Terminal;
pub use traces::Traces;
