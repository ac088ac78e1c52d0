//! The id of the host. It is created once, and kept in the file `host-id` and in the database
//! beside it.
//!
//! The file decides. Programs can read it while no agent runs, and a host that has lost its
//! database keeps its identity. If the file is missing or has no valid id, the database decides. If
//! the two differ, either the database was brought from another host, or the host was given a new
//! id on purpose. What the VPSes in the database say about their host stays as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use insula_types::HostId;
use rusqlite::{Connection, OptionalExtension};

use crate::StoreError;
use crate::copies::write_whole;

/// The key of the setting that holds the id.
const KEY: &str = "host-id";

/// The ids that are known when a database is opened.
pub(crate) struct HostIds {
    /// The id of this host.
    pub own: HostId,
    /// The id of the host that wrote the database.
    pub writer: HostId,
    is_filed: bool,
    is_kept: bool,
}

impl HostIds {
    /// Reads file and database, whose schema may have any version. Generates an id if neither has
    /// one. Writes nothing.
    pub(crate) fn observe(connection: &Connection, database: &Path) -> Result<Self, StoreError> {
        let file = file_beside(database);
        let failed = |source| StoreError::HostId { path: file.clone(), source };
        let filed = read(&file).map_err(failed)?;
        let kept = kept_id(connection).map_err(|error| StoreError::at_open(database, error))?;
        let kept: Option<HostId> = match kept {
            Some(text) => Some(text.parse().map_err(|error| failed(io::Error::other(error)))?),
            None => None,
        };
        let own = filed.or(kept).unwrap_or_else(HostId::new);
        Ok(Self {
            own,
            writer: kept.unwrap_or(own),
            is_filed: filed == Some(own),
            is_kept: kept == Some(own),
        })
    }

    /// Writes the host's id into its file, if it is missing there. This comes before a migration
    /// gives the id to VPSes: an agent that ended in between would generate another one, and take
    /// all VPSes for another host's.
    pub(crate) fn keep_in_file(&self, database: &Path) -> Result<(), StoreError> {
        let file = file_beside(database);
        if self.is_filed {
            return Ok(());
        }
        write_whole(&file, format!("{}\n", self.own).as_bytes())
            .map_err(|source| StoreError::HostId { path: file, source })
    }

    /// Writes the host's id into the database, if it is missing there. The database must have the
    /// newest schema by now.
    pub(crate) fn keep_in_database(
        &self,
        connection: &Connection,
        database: &Path,
    ) -> Result<(), StoreError> {
        if self.is_kept {
            return Ok(());
        }
        let sql = "INSERT OR REPLACE INTO setting (key, value) VALUES (?1, ?2)";
        let written = connection.execute(sql, [KEY, &self.own.to_string()]);
        written.map(drop).map_err(|error| StoreError::at_open(database, error))
    }
}

fn file_beside(database: &Path) -> PathBuf {
    database.with_file_name("host-id")
}

/// The id in the database. `None` if the database is new or has none.
fn kept_id(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let has_settings = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'setting'";
    match connection.query_row(has_settings, [], |_| Ok(())).optional()? {
        None => Ok(None),
        Some(()) => connection
            .query_row("SELECT value FROM setting WHERE key = ?1", [KEY], |row| row.get(0))
            .optional(),
    }
}

/// The id in the file. `None` if the file is missing or has no valid id.
fn read(file: &PathBuf) -> io::Result<Option<HostId>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().parse().ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn a_host_stays_who_it_is_with_either_of_both() {
        let directory = tempfile::tempdir().unwrap();
        let (path, file) = (directory.path().join("insula.db"), directory.path().join("host-id"));
        let id = Store::open(&path).unwrap().host_id();
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{id}\n"));
        for damaged in [None, Some("no id")] {
            match damaged {
                None => fs::remove_file(&file).unwrap(),
                Some(text) => fs::write(&file, text).unwrap(),
            }
            assert_eq!(Store::open(&path).unwrap().host_id(), id, "the database says so");
            assert_eq!(read(&file).unwrap(), Some(id), "and the file says so again");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(Store::open(&path).unwrap().host_id(), id, "the database begins anew, the host does not");
        fs::remove_file(&path).unwrap();
        fs::remove_file(&file).unwrap();
        assert_ne!(Store::open(&path).unwrap().host_id(), id);
    }

    #[test]
    fn the_id_is_in_its_file_before_vpses_are_given_it() {
        let directory = tempfile::tempdir().unwrap();
        let (path, file) = (directory.path().join("insula.db"), directory.path().join("host-id"));
        // A migration that ends before it has begun, as by a crash.
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 1_000_000).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::TooNew { .. })));
        let filed = read(&file).unwrap().expect("an id");
        fs::remove_file(&path).unwrap();
        assert_eq!(Store::open(&path).unwrap().host_id(), filed);
    }

    #[test]
    fn a_database_of_another_host_does_not_make_this_one_the_other() {
        let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |directory: &tempfile::TempDir| directory.path().join("insula.db");
        let (own, other) =
            (Store::open(&at(&here)).unwrap().host_id(), Store::open(&at(&elsewhere)).unwrap().host_id());
        fs::copy(at(&elsewhere), at(&here)).unwrap();
        let ids = HostIds::observe(&Connection::open(at(&here)).unwrap(), &at(&here)).unwrap();
        assert_eq!((ids.own, ids.writer), (own, other));
        assert_eq!(Store::open(&at(&here)).unwrap().host_id(), own);
        fs::remove_file(file_beside(&at(&here))).unwrap();
        assert_eq!(Store::open(&at(&here)).unwrap().host_id(), own, "the database knows by now");
        fs::write(file_beside(&at(&here)), other.to_string()).unwrap();
        assert_eq!(Store::open(&at(&here)).unwrap().host_id(), other, "whoever moves a host moves its file");
    }
}
