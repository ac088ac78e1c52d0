//! The database as all methods of the store use it: reads of one moment, changes that are whole, and
//! listeners that are told of new events.
//!
//! It owns the connections, and what is kept in memory: the host's id and secret, and the number of
//! the newest event. It does not know any table.

use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use insula_types::HostId;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::StoreError;
use crate::readers::Readers;

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
pub(crate) struct Change<'c> {
    transaction: Transaction<'c>,
    newest_event: Cell<Option<u64>>,
}

impl Change<'_> {
    /// Notes that an event with this number was appended.
    pub(crate) fn note_event(&self, sequence: u64) {
        self.newest_event.set(Some(sequence));
    }
}

impl Deref for Change<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.transaction
    }
}

impl Store {
    /// Makes the store of a database that has been opened. `last_event` is the number of its newest
    /// event.
    pub(crate) fn new(
        readers: Readers,
        writer: Connection,
        host_id: HostId,
        secret: [u8; 32],
        last_event: u64,
    ) -> Self {
        Self {
            readers,
            writer: Mutex::new(writer),
            host_id,
            secret,
            last_event: AtomicU64::new(last_event),
            listeners: RwLock::default(),
        }
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

    /// The number of the newest event that ever was, kept in memory. 0 before the first.
    pub fn last_event(&self) -> u64 {
        self.last_event.load(Ordering::Acquire)
    }

    /// Adds a listener that is called after each commit that appended events, with the number of
    /// the newest. The listener may read from the store. After two commits by two threads, the
    /// calls may come in either order.
    pub fn on_event(&self, listener: Listener) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    /// The writing connection. If a thread panicked in a transaction, SQLite has rolled that
    /// transaction back.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connection> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queries the database as it is at one moment, without waiting for writers.
    pub(crate) fn read<T>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.readers.read(query).map_err(|error| StoreError::while_doing(doing, error))
    }

    /// Makes a change that is on disk when this returns.
    pub(crate) fn write<T>(
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
    pub(crate) fn write_soon<T>(
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

    /// Tells the listeners of new events. The lock is not held, so that they may read.
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
