//! Connections into VPSes: programs, consoles, files. They change nothing that is journaled.

pub(crate) mod exec;
pub(crate) mod files;
