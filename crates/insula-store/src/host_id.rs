//! The id of the host: made once, kept in the database and in the file `host-id` beside it.
//!
//! The database says who the host is. The file is for programs that look at a host whose agent does not run, and lets a
//! host whose database is lost begin anew as the same host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use insula_types::HostId;
use rusqlite::{Connection, OptionalExtension};

use crate::StoreError;
use crate::copies::write_whole;

/// The setting that holds it.
const KEY: &str = "host-id";

/// The host's id, which is made when neither the database nor the file has one.
pub(crate) fn ensure_host_id(connection: &Connection, database: &Path) -> Result<HostId, StoreError> {
    let at_open = |error| StoreError::at_open(database, error);
    let file = database.with_file_name("host-id");
    let failed = |source| StoreError::HostId { path: file.clone(), source };
    let beside = read(&file).map_err(failed)?;
    let kept: Option<String> = connection
        .query_row("SELECT value FROM setting WHERE key = ?1", [KEY], |row| row.get(0))
        .optional()
        .map_err(at_open)?;
    let id = match kept {
        Some(kept) => kept.parse().map_err(|error| failed(io::Error::other(error)))?,
        None => {
            let id = beside.unwrap_or_else(HostId::new);
            let sql = "INSERT INTO setting (key, value) VALUES (?1, ?2)";
            connection.execute(sql, [KEY, &id.to_string()]).map_err(at_open)?;
            id
        }
    };
    if beside != Some(id) {
        write_whole(&file, format!("{id}\n").as_bytes()).map_err(failed)?;
    }
    Ok(id)
}

/// What the file says; nothing where it is missing or says no id.
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
        for damaged in [None, Some("no id"), Some("0193a1b2-c3d4-7e5f-8a9b-0123456789ab")] {
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
}
