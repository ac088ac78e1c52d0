//! Connections into VPSes: programs, consoles, files, mounts. They change nothing that is journaled.

pub(crate) mod exec;
pub(crate) mod files;
mod mounts;
