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
mod error;
mod event;
mod host_id;
mod image;
mod migration;
mod opening;
mod operation;
mod profile;
mod readers;
#[cfg(test)]
mod samples;
mod selection;
mod vps;

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use insula_types::{HostId, NetworkName, NetworkSpec};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use column::{json_rows, to_json};
use readers::Readers;

pub use audit::{AuditCheck, AuditFilter};
pub use error::StoreError;
pub use event::EventFilter;
pub use operation::OperationFilter;

/// A function that is called when there are new events.
type Listener = Box<dyn Fn(u64) + Send + Sync>;

/// The database of a host.
pub struct Store {
    /// Closed before the writer: the last connection to close removes the log, and a reader can't
    /// do that.
    readers: Readers,
    writer: Mutex<Connection>,
    host_id: HostId,
    secret: [u8; 32],
    /// The number of the newest event that is on disk. Written under the writer's lock.
    last_event: AtomicU64,
    listeners: RwLock<Vec<Listener>>,
}

/// A transaction that changes the database, and the events to report when it is committed.
struct Change<'c> {
    transaction: Transaction<'c>,
    newest_event: Cell<Option<u64>>,
}

impl Deref for Change<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl Store {
    /// The networks of this host, by name.
    pub fn networks(&self) -> Result<Vec<NetworkSpec>, StoreError> {
        self.read("list networks", |db| json_rows(db, "SELECT spec FROM network ORDER BY name"))
    }

    /// Keeps a network, replacing one of the same name.
    pub fn put_network(&self, network: &NetworkSpec) -> Result<(), StoreError> {
        self.write("keep a network", |change| {
            let row = params![network.name.as_str(), to_json(network)];
            change.execute("INSERT OR REPLACE INTO network (name, spec) VALUES (?1, ?2)", row).map(drop)
        })
    }

    /// Removes a network. Does nothing if it has been removed already.
    pub fn delete_network(&self, name: &NetworkName) -> Result<(), StoreError> {
        self.write("forget a network", |change| {
            change.execute("DELETE FROM network WHERE name = ?1", [name.as_str()]).map(drop)
        })
    }

    /// The value that was stored under this key.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read("read a setting", |db| {
            db.query_row("SELECT value FROM setting WHERE key = ?1", [key], |row| row.get(0)).optional()
        })
    }

    /// Stores a value under this key.
    pub fn put_setting(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.write("keep a setting", |change| put_setting(change, key, value))
    }

    /// The host's id, which never changes.
    pub fn host_id(&self) -> HostId {
        self.host_id
    }

    /// The host's secret for keyed hashes: 32 random bytes that never change. It must not be logged
    /// or passed on.
    pub fn secret(&self) -> [u8; 32] {
        self.secret
    }

    /// The writing connection. If a thread panicked in a transaction, SQLite has rolled that
    /// transaction back.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queries the database as it is at one moment, without waiting for writers.
    fn read<T>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.readers.read(query).map_err(|error| StoreError::while_doing(doing, error))
    }

    /// Makes a change that is on disk when this returns.
    fn write<T>(
        &self,
        doing: &'static str,
        change: impl FnOnce(&Change<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let (result, newest) =
            commit(&mut self.lock(), change).map_err(|error| StoreError::while_doing(doing, error))?;
        self.tell(newest);
        Ok(result)
    }

    /// Makes a change without waiting for the disk:
    /// <https://sqlite.org/pragma.html#pragma_synchronous>.
    fn write_soon<T>(
        &self,
        doing: &'static str,
        change: impl FnOnce(&Change<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let write = |connection: &mut Connection| {
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            let written = commit(connection, change);
            connection.pragma_update(None, "synchronous", "FULL")?;
            written
        };
        let (result, newest) =
            write(&mut self.lock()).map_err(|error| StoreError::while_doing(doing, error))?;
        self.tell(newest);
        Ok(result)
    }

    /// Tells the listener of new events. The lock is not held, so that it may read.
    fn tell(&self, newest: Option<u64>) {
        if let Some(newest) = newest {
            self.last_event.fetch_max(newest, Ordering::AcqRel);
            let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
            listeners.iter().for_each(|listener| listener(newest));
        }
    }
}

/// Makes a change, all of it or nothing. Returns the number of the newest event that came with it.
fn commit<T>(
    connection: &mut Connection,
    make: impl FnOnce(&Change<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<(T, Option<u64>)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let change = Change { transaction, newest_event: Cell::new(None) };
    let result = make(&change)?;
    let newest = change.newest_event.get();
    change.transaction.commit()?;
    Ok((result, newest))
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("last_event", &self.last_event).finish_non_exhaustive()
    }
}

fn put_setting(change: &Change<'_>, key: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO setting (key, value) VALUES (?1, ?2)";
    change.prepare_cached(sql)?.execute([key, value]).map(drop)
}
