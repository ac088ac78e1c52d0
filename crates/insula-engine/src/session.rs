//! Connections into VPSes: programs, consoles, files, mounts. They change nothing that is
//! journaled, and end with the agent.

pub(crate) mod exec;
pub(crate) mod files;
mod mounts;
