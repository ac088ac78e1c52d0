//! The VPSes in memory: the handle that reads are served from, and the task that alone writes what is observed.

pub(crate) mod command;
pub(crate) mod handle;
pub(crate) mod limit_bell;
pub(crate) mod link;
pub(crate) mod news;
pub(crate) mod power;
pub(crate) mod spares;
pub(crate) mod table;
pub(crate) mod task;
