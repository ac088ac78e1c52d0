//! The state of a host in SQLite: its VPSes as they should be, the journal of operations, events,
//! audit log and clients.
//!
//! No other crate contains SQL. Each method is one transaction: it is done and on disk when the
//! method returns (WAL, `synchronous=FULL`), or not done at all. Methods block for about one write
//! to the disk, so callers that must not block call them from a blocking thread. Only the progress
//! of an operation is written without waiting for the disk. That write survives the agent's death
//! at once, and the host's death after the next write that waits. If the host dies in between, the
//! operation resumes at an earlier step. That is safe, because every step may run twice.
//!
//! One connection writes, others read (`readers.rs`). A read never waits for a write, and sees
//! every write that has returned.
//!
//! Invariants, whichever method writes:
//!
//! * Every operation has an entry in the audit log and an event when it is accepted, and again when
//!   it ends, in the transaction that records this.
//! * The audit log and the events grow only at their ends. Events are pruned from their beginning.
//!   Numbers of events are never reused.
//!
//! Only one agent may use the database at a time. The agent ensures this by a lock on its state
//! directory.

mod announcement;
mod audit;
mod client;
mod column;
mod copies;
mod database;
mod error;
mod event;
mod host_id;
mod image;
mod migration;
mod network;
mod opening;
mod operation;
mod profile;
mod readers;
#[cfg(test)]
mod samples;
mod selection;
mod setting;
mod vps;

pub use audit::{AuditCheck, AuditFilter};
pub use database::Store;
pub use error::StoreError;
pub use event::EventFilter;
pub use operation::OperationFilter;
