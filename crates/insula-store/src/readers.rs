//! Read-only connections, beside the one that writes.
//!
//! The database keeps a write-ahead log (<https://sqlite.org/wal.html>), so a reader and the writer never wait for each
//! other. A reader sees all that was committed before its first query, and the same until its last one. A commit is seen
//! once it is where the writer wanted it: in the log, or, with `synchronous=FULL`, on the disk.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// How many idle connections are kept. If more threads read at once, more are opened, and closed
/// afterwards.
const KEPT: usize = 4;

/// How long a connection waits for a lock of another one, such as on the log after a crash.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections that are idle.
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    /// Opens readers of a database that is already open for writing, because a read-only connection
    /// could not create the log.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let first = connect(path)?;
        Ok(Self { path: path.to_owned(), idle: Mutex::new(vec![first]) })
    }

    /// Queries the database as it is at one moment.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let kept = self.idle().pop();
        let mut connection = kept.map_or_else(|| connect(&self.path), Ok)?;
        let result = query(&*connection.transaction()?);
        let mut idle = self.idle();
        if idle.len() < KEPT {
            idle.push(connection);
        }
        result
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreError;
    use crate::samples::store;
    use std::sync::Barrier;

    #[test]
    fn a_reader_does_not_wait_for_the_writer_and_sees_what_is_committed() {
        let (_directory, store) = store();
        store.put_setting("key", "before").unwrap();
        let meanwhile = store
            .write("change a setting", |change| {
                crate::setting::put_setting(change, "key", "after")?;
                Ok(store.setting("key").unwrap()) // this thread has the writer: a lock in common would end in a deadlock
            })
            .unwrap();
        assert_eq!(meanwhile.as_deref(), Some("before"));
        assert_eq!(store.setting("key").unwrap().as_deref(), Some("after"));
    }

    #[test]
    fn a_read_is_of_one_moment() {
        let (_directory, store) = store();
        store.put_setting("key", "before").unwrap();
        let value = |db: &rusqlite::Connection| -> rusqlite::Result<String> {
            db.query_row("SELECT value FROM setting WHERE key = 'key'", [], |row| row.get(0))
        };
        let seen = store.read("read twice", |db| {
            let first = value(db)?;
            store.put_setting("key", "after").unwrap();
            Ok((first, value(db)?))
        });
        assert_eq!(seen.unwrap(), ("before".to_owned(), "before".to_owned()));
        assert_eq!(store.read("read again", value).unwrap(), "after");
    }

    #[test]
    fn many_may_read_at_once_and_few_connections_are_kept() {
        const THREADS: usize = 2 * KEPT;
        let (directory, _store) = store();
        let readers = Readers::open(&directory.path().join("insula.db")).unwrap();
        let all_read = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    readers.read(|_| {
                        all_read.wait(); // not before each of them has a connection
                        Ok(())
                    })
                });
            }
        });
        assert_eq!(readers.idle().len(), KEPT);
    }

    #[test]
    fn a_reader_can_not_write() {
        let (_directory, store) = store();
        let written = store.read("write", |db| db.execute("DELETE FROM setting", []));
        assert!(matches!(written, Err(StoreError::Sql { .. })), "{written:?}");
    }
}
