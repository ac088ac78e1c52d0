//! Copies of the database from before its schema changed: `insula.db.schema-3` beside `insula.db`.
//!
//! A copy is complete or does not exist: it is written under another name, synced, and renamed.
//! Like the database, it holds the host's secret and is readable by its owner alone.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::StoreError;

/// How many copies are kept, namely those of the newest versions.
const KEPT: usize = 2;

/// Keeps a copy of the database, whose schema has this version, and removes surplus copies.
pub(crate) fn keep_copy(connection: &Connection, path: &Path, version: u32) -> Result<(), StoreError> {
    let copy = copy_path(path, version);
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Copy {
        path: path.to_owned(),
        copy: copy.clone(),
        source,
    };
    let part = with_suffix(&copy, ".part");
    make_empty(&part).map_err(|error| failed(error.into()))?;
    // https://sqlite.org/lang_vacuum.html: the copy is consistent and includes what is only in the
    // log. The file may exist if it is empty.
    let into = part.to_str().ok_or_else(|| failed("its path is not UTF-8".into()))?;
    connection.execute("VACUUM INTO ?1", [into]).map_err(|error| failed(error.into()))?;
    put_in_place(&part, &copy).map_err(|error| failed(error.into()))?;
    remove_oldest(path).map_err(|error| failed(error.into()))
}

/// The path of the copy of a version.
pub(crate) fn copy_path(path: &Path, version: u32) -> PathBuf {
    with_suffix(path, &format!(".schema-{version}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Creates an empty file for its owner alone, in place of one that a dead agent left half written.
fn make_empty(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map(drop)
}

/// Writes a small file for its owner alone. Either all of it is written, or the file stays as it
/// was.
pub(crate) fn write_whole(path: &Path, contents: &[u8]) -> io::Result<()> {
    let part = with_suffix(path, ".part");
    make_empty(&part)?;
    fs::write(&part, contents)?;
    put_in_place(&part, path)
}

fn put_in_place(part: &Path, copy: &Path) -> io::Result<()> {
    File::open(part)?.sync_all()?;
    fs::rename(part, copy)?;
    File::open(directory_of(copy))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn remove_oldest(path: &Path) -> io::Result<()> {
    let mut versions = vec![];
    for entry in fs::read_dir(directory_of(path))? {
        versions.extend(version_of(path, &entry?.path()));
    }
    versions.sort_unstable_by(|one, other| other.cmp(one));
    versions.into_iter().skip(KEPT).try_for_each(|version| fs::remove_file(copy_path(path, version)))
}

/// The version of the schema in a file's name, if the file is a copy of the database.
fn version_of(path: &Path, copy: &Path) -> Option<u32> {
    let name = copy.file_name()?.to_str()?;
    name.strip_prefix(path.file_name()?.to_str()?)?.strip_prefix(".schema-")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    fn names(directory: &Path) -> BTreeSet<String> {
        fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_copy_is_whole_private_and_one_of_few() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("insula.db");
        let database = Connection::open(&path).unwrap();
        database.pragma_update(None, "journal_mode", "WAL").unwrap();
        database.execute_batch("CREATE TABLE t (a TEXT); INSERT INTO t VALUES ('in the log only')").unwrap();
        fs::write(with_suffix(&copy_path(&path, 9), ".part"), "half of one").unwrap();
        fs::write(directory.path().join("insula.db.schema-none-of-ours"), "").unwrap();
        for version in [9, 10, 11] {
            keep_copy(&database, &path, version).unwrap();
        }
        drop(database);
        let kept =
            ["insula.db", "insula.db.schema-10", "insula.db.schema-11", "insula.db.schema-none-of-ours"];
        assert_eq!(names(directory.path()), BTreeSet::from(kept.map(str::to_owned)));
        let copy = copy_path(&path, 11);
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
        let text: String =
            Connection::open(&copy).unwrap().query_row("SELECT a FROM t", [], |row| row.get(0)).unwrap();
        assert_eq!(text, "in the log only");
    }

    #[test]
    fn a_copy_that_can_not_be_kept_says_where() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("insula.db");
        let database = Connection::open(&path).unwrap();
        fs::create_dir(with_suffix(&copy_path(&path, 3), ".part")).unwrap();
        let error = keep_copy(&database, &path, 3).unwrap_err();
        assert!(error.to_string().contains("insula.db.schema-3"), "{error}");
    }
}
