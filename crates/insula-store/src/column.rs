//! How values are represented in columns.

use std::error::Error;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, Row};
use serde::Serialize;
use serde::de::{DeserializeOwned, IntoDeserializer};

/// A value that is stored as JSON.
struct Json<T>(T);

impl<T: DeserializeOwned> FromSql for Json<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        serde_json::from_str(value.as_str()?).map(Self).map_err(FromSqlError::other)
    }
}

/// A value that is stored as its text (`Display` and `FromStr`).
struct Text<T>(T);

impl<T: FromStr<Err: Error + Send + Sync + 'static>> FromSql for Text<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map(Self).map_err(FromSqlError::other)
    }
}

/// A variant of an enum that is stored as the word that serde has for it.
struct Word<T>(T);

impl<T: DeserializeOwned> FromSql for Word<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
            value.as_str()?.into_deserializer();
        T::deserialize(word).map(Self).map_err(FromSqlError::other)
    }
}

/// A value as JSON. It can't fail, because our values have maps with text keys only, and no
/// floating point numbers.
pub(crate) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our types have JSON forms")
}

/// Reads the JSON in a column.
pub(crate) fn from_json<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    row.get(column).map(|Json(value)| value)
}

/// Reads the JSON in a column that may be null.
pub(crate) fn from_json_if_any<T: DeserializeOwned>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let value: Option<Json<T>> = row.get(column)?;
    Ok(value.map(|Json(value)| value))
}

/// Parses the text in a column.
pub(crate) fn parsed<T: FromStr<Err: Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<T> {
    row.get(column).map(|Text(value)| value)
}

/// Parses the text in a column that may be null.
pub(crate) fn parsed_if_any<T: FromStr<Err: Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: &str,
) -> rusqlite::Result<Option<T>> {
    let value: Option<Text<T>> = row.get(column)?;
    Ok(value.map(|Text(value)| value))
}

/// The word for a variant of an enum.
pub(crate) fn to_word(value: &impl Serialize) -> String {
    to_json(value).trim_matches('"').to_owned()
}

/// Reads the word in a column.
pub(crate) fn from_word<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    row.get(column).map(|Word(value)| value)
}

/// All rows of a query whose first column is JSON.
pub(crate) fn json_rows<T: DeserializeOwned>(db: &Connection, sql: &str) -> rusqlite::Result<Vec<T>> {
    db.prepare_cached(sql)?.query_map([], |row| row.get(0).map(|Json(value)| value))?.collect()
}
