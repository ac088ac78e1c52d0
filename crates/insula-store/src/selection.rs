//! Builds the query of a list from those conditions that were asked for, so that each list can use
//! its index.

use rusqlite::types::Value;
use rusqlite::{ParamsFromIter, params_from_iter};

/// Conditions that must all hold, and their values.
#[derive(Default)]
pub(crate) struct Selection {
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Selection {
    /// Adds a condition. Each `?` in it stands for the value.
    pub(crate) fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.conditions.push(condition.replace('?', &format!("?{}", self.values.len())));
    }

    /// Adds a condition without a value.
    pub(crate) fn and_always(&mut self, condition: &str) {
        self.conditions.push(condition.to_owned());
    }

    /// Adds a condition if there is a value for it.
    pub(crate) fn and_if_any(&mut self, condition: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.and(condition, value);
        }
    }

    /// `SELECT columns FROM table WHERE conditions ORDER BY order LIMIT count`.
    pub(crate) fn query(&mut self, columns: &str, table: &str, order: &str, count: u32) -> String {
        self.values.push(count.into());
        let (limit, conditions) = (self.values.len(), self.conditions.join(" AND "));
        let condition = if conditions.is_empty() { String::new() } else { format!("WHERE {conditions} ") };
        format!("SELECT {columns} FROM {table} {condition}ORDER BY {order} LIMIT ?{limit}")
    }

    /// The values, as parameters of the query.
    pub(crate) fn values(&self) -> ParamsFromIter<&[Value]> {
        params_from_iter(&self.values[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_in_the_query() {
        let mut all = Selection::default();
        all.and_if_any("a = ?", None::<String>);
        assert_eq!(all.query("x", "t", "x", 5), "SELECT x FROM t ORDER BY x LIMIT ?1");
        let mut some = Selection::default();
        some.and("a > ?", 1);
        some.and("(b = ? OR c = ?)", "y".to_owned());
        let sql = "SELECT x FROM t WHERE a > ?1 AND (b = ?2 OR c = ?2) ORDER BY x LIMIT ?3";
        assert_eq!(some.query("x", "t", "x", 5), sql);
        assert_eq!(some.values, [Value::from(1), Value::from("y".to_owned()), Value::from(5)]);
    }
}
