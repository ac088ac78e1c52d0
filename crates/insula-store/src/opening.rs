//! Opens the database: checks that it is sound, migrates it, and protects it from other users.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::event::last_event;
use crate::host_id::HostIds;
use crate::migration::migrate;
use crate::readers::{BUSY_TIMEOUT, Readers};
use crate::{Store, StoreError};

impl Store {
    /// Opens the database in the file, and creates it if there is none. Migrates it to the newest
    /// schema.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if SQLite's own check finds the file damaged, [`StoreError::TooNew`]
    /// if a newer agent has written it, and others if it can't be migrated. The database then stays
    /// as it was.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let at_open = |error| StoreError::at_open(path, error);
        ensure_private(path).map_err(|source| StoreError::Protect { path: path.to_owned(), source })?;
        let mut connection = Connection::open(path).map_err(at_open)?;
        configure(&connection).map_err(at_open)?;
        check(&connection, path)?;
        let ids = HostIds::observe(&connection, path)?;
        ids.keep_in_file(path)?;
        migrate(&mut connection, path, ids.writer)?;
        ids.keep_in_database(&connection, path)?;
        let secret = ensure_secret(&connection).map_err(at_open)?;
        let last_event = last_event(&connection).map_err(at_open)?;
        let readers = Readers::open(path).map_err(at_open)?;
        Ok(Self::new(readers, connection, ids.own, secret, last_event))
    }
}

/// Creates the file, if it does not exist, for its owner alone, because it holds the host's secret.
/// SQLite gives its other files (`-wal`, `-shm`) the same mode. An existing file is never opened
/// here: closing it would release the locks that another connection of this process has on it
/// (<https://sqlite.org/howtocorrupt.html>, 2.2).
fn ensure_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::set_permissions(path, Permissions::from_mode(0o600))
        }
        made => made.map(drop),
    }
}

/// Sets the pragmas of a connection: <https://sqlite.org/pragma.html>.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(BUSY_TIMEOUT)
}

/// Finds damage before anything is built upon it.
fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| StoreError::at_open(path, error))?;
    match &*found {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { path: path.to_owned(), found }),
    }
}

/// Reads the host's secret, and creates it if there is none.
fn ensure_secret(connection: &Connection) -> rusqlite::Result<[u8; 32]> {
    let kept = connection.query_row("SELECT value FROM secret", [], |row| row.get(0)).optional()?;
    if let Some(secret) = kept {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    // getrandom(2): up to 256 bytes come whole once the kernel's pool is ready, and the call waits
    // for that.
    let length = getrandom(&mut secret, GetRandomFlags::empty()).expect("getrandom(2) knows no error here");
    assert_eq!(length, secret.len(), "getrandom(2) gives up to 256 bytes whole");
    connection.execute("INSERT INTO secret (id, value) VALUES (1, ?1)", [secret])?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("insula.db");
        (directory, path)
    }

    #[test]
    fn a_second_opening_finds_what_the_first_left() {
        let (_directory, path) = place();
        let first = Store::open(&path).unwrap();
        first.put_setting("key", "value").unwrap();
        let secret = first.secret();
        drop(first);
        let second = Store::open(&path).unwrap();
        assert_eq!(second.setting("key").unwrap().as_deref(), Some("value"));
        assert_eq!(second.secret(), secret);
        let (_elsewhere, path) = place();
        assert_ne!(Store::open(&path).unwrap().secret(), secret);
    }

    #[test]
    fn nobody_else_can_read_any_file_of_it() {
        let (directory, path) = place();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let store = Store::open(&path).unwrap();
        let modes: Vec<u32> = fs::read_dir(&directory)
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777)
            .collect();
        assert_eq!(modes, [0o600; 4], "database, log, index and the host's id");
        let hidden = format!("{store:?}");
        assert!(!hidden.contains("secret"), "{hidden}");
    }

    #[test]
    fn a_damaged_database_is_refused_and_named() {
        let (_directory, path) = place();
        fs::write(&path, "this is no database, but long enough to be read as one, isn't it?".repeat(100))
            .unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains("insula.db"), "{error}");
    }

    #[test]
    fn damage_inside_the_file_is_found() {
        let (_directory, path) = place();
        drop(Store::open(&path).unwrap());
        let mut bytes = fs::read(&path).unwrap();
        for page in bytes.chunks_mut(4096).skip(1) {
            page.fill(0xa5);
        }
        fs::write(&path, bytes).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Damaged { .. })));
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let (_directory, path) = place();
        drop(Store::open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::TooNew { version: 999, .. })));
    }
}
