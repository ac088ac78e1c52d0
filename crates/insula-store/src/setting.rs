//! Values under keys: what needs no table of its own.

use rusqlite::OptionalExtension;

use crate::StoreError;
use crate::database::{Change, Store};

impl Store {
    /// The value that was stored under this key.
    pub fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        self.read("read a setting", |db| {
            db.query_row("SELECT value FROM setting WHERE key = ?1", [key], |row| row.get(0)).optional()
        })
    }

    /// Stores a value under this key.
    pub fn put_setting(&self, key: &str, value: &str) -> Result<(), StoreError> {
        self.write("store a setting", |change| put_setting(change, key, value))
    }
}

/// Stores a value within a change.
pub(crate) fn put_setting(change: &Change<'_>, key: &str, value: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO setting (key, value) VALUES (?1, ?2)";
    change.prepare_cached(sql)?.execute([key, value]).map(drop)
}
