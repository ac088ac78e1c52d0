//! Migrates a database that an older agent wrote to the schema of this one, completely or not at
//! all.
//!
//! ```text
//! version < newest ──> copy beside it ──> each migration ──> foreign_key_check ──> commit
//!                                             one transaction, foreign keys off
//! ```
//!
//! The copy is for going back to the version before. Foreign keys are off meanwhile, because a
//! table that others refer to is changed by creating it anew
//! (<https://sqlite.org/lang_altertable.html#otheralter>). Before the commit, `foreign_key_check`
//! makes sure that all references hold.

mod errors;
mod placements;

use std::path::Path;

use insula_types::HostId;
use rusqlite::{Connection, OptionalExtension, Transaction};

use crate::StoreError;
use crate::copies::keep_copy;

/// Brings a database from one version to the next: SQL, then code for what SQL can't express.
struct Migration {
    sql: &'static str,
    code: Option<Code>,
}

/// Changes rows. The id is that of the host that wrote them.
type Code = fn(&Connection, HostId) -> rusqlite::Result<()>;

/// The versions of the schema, oldest first. Entry `n` brings a database from version `n` to `n +
/// 1`, where version 0 is an empty file. Entries that have been released are never edited.
const MIGRATIONS: &[Migration] = &[
    Migration { sql: include_str!("schema/1.sql"), code: None },
    Migration { sql: include_str!("schema/2.sql"), code: None },
    Migration { sql: include_str!("schema/3.sql"), code: None },
    Migration { sql: include_str!("schema/4.sql"), code: Some(errors::give_errors_a_structure) },
    Migration { sql: include_str!("schema/5.sql"), code: Some(placements::place_vpses) },
];

/// Migrates the database, which `host` has written, to the newest schema. A copy is kept beside it
/// first, unless it is new.
pub(crate) fn migrate(connection: &mut Connection, path: &Path, host: HostId) -> Result<(), StoreError> {
    migrate_by(MIGRATIONS, connection, path, host)
}

fn migrate_by(
    migrations: &[Migration],
    connection: &mut Connection,
    path: &Path,
    host: HostId,
) -> Result<(), StoreError> {
    let at_open = |error| StoreError::at_open(path, error);
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(at_open)?;
    let steps: Vec<(u32, &Migration)> = (1..).zip(migrations).collect();
    let known = steps.last().map_or(0, |(version, _)| *version);
    if version > known {
        return Err(StoreError::TooNew { path: path.to_owned(), version, known });
    }
    let missing: Vec<_> = steps.into_iter().filter(|(next, _)| *next > version).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if version > 0 {
        keep_copy(connection, path, version)?;
    }
    connection.pragma_update(None, "foreign_keys", false).map_err(at_open)?; // within a transaction it would do nothing
    let transaction = connection.transaction().map_err(at_open)?;
    for (next, migration) in missing {
        apply(&transaction, next, migration, host).map_err(|source| StoreError::Migrate {
            path: path.to_owned(),
            version: next,
            source,
        })?;
    }
    check_references(&transaction, path)?;
    transaction.commit().map_err(at_open)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(at_open)
}

fn apply(
    transaction: &Transaction<'_>,
    version: u32,
    migration: &Migration,
    host: HostId,
) -> rusqlite::Result<()> {
    transaction.execute_batch(migration.sql)?;
    if let Some(code) = migration.code {
        code(transaction, host)?;
    }
    transaction.pragma_update(None, "user_version", version)
}

/// Checks that every row that another refers to exists.
fn check_references(transaction: &Transaction<'_>, path: &Path) -> Result<(), StoreError> {
    let broken: Option<(String, String)> = transaction
        .query_row("SELECT \"table\", parent FROM pragma_foreign_key_check LIMIT 1", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(|error| StoreError::at_open(path, error))?;
    match broken {
        None => Ok(()),
        Some((table, parent)) => Err(StoreError::BrokenReference { path: path.to_owned(), table, parent }),
    }
}

#[cfg(test)]
mod tests;
