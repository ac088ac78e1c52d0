//! Errors of the database, with variants for those that callers branch on.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why the database failed or refused to do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged, or is not a database.
    #[error(
        "the database {path:?} is damaged: {found}; restore it from a backup, or move it away to begin with an empty one"
    )]
    Damaged {
        /// The path of the database.
        path: PathBuf,
        /// What SQLite says about it.
        found: String,
    },
    /// The file was written by a newer agent.
    #[error(
        "the database {path:?} has schema version {version}, but this agent knows only up to {known}; use a newer agent"
    )]
    TooNew {
        /// The path of the database.
        path: PathBuf,
        /// The version of its schema.
        version: u32,
        /// The newest version that this agent knows.
        known: u32,
    },
    /// No copy of the file could be made, so its schema was not changed.
    #[error("failed to copy the database {path:?} to {copy:?} before its schema changes")]
    Copy {
        /// The path of the database.
        path: PathBuf,
        /// The path of the copy.
        copy: PathBuf,
        /// Why the copy failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host's id could not be read or kept.
    #[error("failed to read or write the id of the host in {path:?} and in the database beside it")]
    HostId {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
    /// The schema could not be changed.
    #[error("failed to migrate the database {path:?} to schema version {version}; it is left as it was")]
    Migrate {
        /// The path of the database.
        path: PathBuf,
        /// The version that could not be reached.
        version: u32,
        /// The error of SQLite.
        #[source]
        source: rusqlite::Error,
    },
    /// After a change of the schema, some rows would refer to rows that do not exist.
    #[error(
        "the database {path:?} is left as it was: with a newer schema, rows of {table} would name rows of {parent} that are \
         not there"
    )]
    BrokenReference {
        /// The path of the database.
        path: PathBuf,
        /// The table with the references.
        table: String,
        /// The table that they refer to.
        parent: String,
    },
    /// The file could not be opened.
    #[error("failed to open the database {path:?}")]
    Open {
        /// The path of the database.
        path: PathBuf,
        /// The error of SQLite.
        #[source]
        source: rusqlite::Error,
    },
    /// The file could not be created, or not be protected from other users.
    #[error("failed to restrict the database {path:?} to its owner")]
    Protect {
        /// The path of the database.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
    /// The row that should be changed does not exist, or its state does not allow the change.
    #[error("failed to {doing}: it does not exist, or no longer exists")]
    Missing {
        /// What was being done.
        doing: &'static str,
    },
    /// The name, address or range is taken.
    #[error("failed to {doing}: it is taken ({what})")]
    Taken {
        /// What was being done.
        doing: &'static str,
        /// The table and columns that must be unique, such as `vps.name`.
        what: String,
    },
    /// The file system of the database is full.
    #[error("failed to {doing}: the disk that holds the database is full")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
    },
    /// Any other error of SQLite.
    #[error("failed to {doing}")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// The error of SQLite.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    pub(crate) fn at_open(path: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path: path.to_owned(), found: source.to_string() }
            }
            _ => Self::Open { path: path.to_owned(), source },
        }
    }

    pub(crate) fn while_doing(doing: &'static str, source: rusqlite::Error) -> Self {
        match &source {
            rusqlite::Error::StatementChangedRows(_) => Self::Missing { doing },
            rusqlite::Error::SqliteFailure(error, message) => match (error.code, error.extended_code) {
                (_, ffi::SQLITE_CONSTRAINT_PRIMARYKEY | ffi::SQLITE_CONSTRAINT_UNIQUE) => {
                    let text = message.as_deref().unwrap_or_default();
                    let what = text.rsplit_once(": ").map_or(text, |(_, what)| what).to_owned();
                    Self::Taken { doing, what }
                }
                (ErrorCode::DiskFull, _) => Self::DiskFull { doing },
                _ => Self::Sql { doing, source },
            },
            _ => Self::Sql { doing, source },
        }
    }
}

/// Rolls the transaction back, with [`StoreError::Missing`], unless exactly one row was changed or
/// found.
pub(crate) fn is_one(rows: usize) -> rusqlite::Result<()> {
    if rows == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(rows)) }
}
