//! What can go wrong with the database, and which of it callers branch on.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is damaged or no database.
    #[error(
        "the database {path:?} is damaged: {found}; restore it from a backup, or move it away to begin with an empty one"
    )]
    Damaged {
        /// The path of the database.
        path: PathBuf,
        /// What SQLite says.
        found: String,
    },
    /// A newer agent has written the file.
    #[error(
        "the database {path:?} has schema version {version}, but this agent knows only up to {known}; use a newer agent"
    )]
    TooNew {
        /// The path of the database.
        path: PathBuf,
        /// Its schema version.
        version: u32,
        /// The newest version that this agent knows.
        known: u32,
    },
    /// No copy of the file could be kept, so its schema was not changed.
    #[error("failed to keep a copy of the database {path:?} as {copy:?} before its schema changes")]
    Copy {
        /// The path of the database.
        path: PathBuf,
        /// The path of the copy.
        copy: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host's id could not be read or kept.
    #[error("failed to keep the id of the host in {path:?} and in the database beside it")]
    HostId {
        /// The path of the database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The schema could not be changed.
    #[error("failed to take the database {path:?} to schema version {version}; it is left as it was")]
    Migrate {
        /// The path of the database.
        path: PathBuf,
        /// The version that could not be reached.
        version: u32,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// After a change of the schema, rows would name others that are not there.
    #[error(
        "the database {path:?} is left as it was: with a newer schema, rows of {table} would name rows of {parent} that are \
         not there"
    )]
    BrokenReference {
        /// The path of the database.
        path: PathBuf,
        /// The table that names others.
        table: String,
        /// The table that lacks them.
        parent: String,
    },
    /// The file could not be opened.
    #[error("failed to open the database {path:?}")]
    Open {
        /// The path of the database.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// The file could not be made, or not be kept from others.
    #[error("failed to make the database {path:?} a file for its owner alone")]
    Protect {
        /// The path of the database.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// What should be changed is not there, or not in a state to be changed so.
    #[error("failed to {doing}: it does not exist, or no longer exists")]
    Missing {
        /// What was being done.
        doing: &'static str,
    },
    /// Something of the same name, address or range is there already.
    #[error("failed to {doing}: it is taken ({what})")]
    Taken {
        /// What was being done.
        doing: &'static str,
        /// The table and columns, such as `vps.name`.
        what: String,
    },
    /// The disk with the database is full.
    #[error("failed to {doing}: the disk that holds the database is full")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
    },
    /// Anything else.
    #[error("failed to {doing}")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// SQLite's error.
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

/// Takes the transaction back, with [`StoreError::Missing`], when it is not one row that was changed or found.
pub(crate) fn is_one(rows: usize) -> rusqlite::Result<()> {
    if rows == 1 { Ok(()) } else { Err(rusqlite::Error::StatementChangedRows(rows)) }
}
