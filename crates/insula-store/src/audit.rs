//! The audit log: who did what, from where, to what, with which result. It is append-only, as a
//! chain of hashes.
//!
//! An entry's hash is the SHA-256 of the hash before it (64 hexadecimal digits; zeros before the
//! first entry) and of the entry's fields in the order of [`FIELDS`]. Each field is written as its
//! length in bytes in decimal digits, a colon, and its text; an absent field is one hyphen. Numbers
//! are in decimal digits. So no two entries have the same form, and no entry can be changed,
//! removed or inserted without making all hashes after it wrong.
//!
//! The chain can't tell whether entries are missing at its end, or whether somebody with write
//! access to the file has made it anew. To find that out, its head is compared with one that was
//! noted elsewhere.

use insula_types::{AuditEntry, AuditLine, Requester};
use rusqlite::{OptionalExtension, Row, params_from_iter};
use sha2::{Digest, Sha256};

use crate::StoreError;
use crate::column::{from_word, parsed_if_any, to_word};
use crate::database::{Change, Store};
use crate::selection::Selection;

/// The columns that a hash covers.
const FIELDS: &str = "sequence, at_ms, requester, role, tenant, peer, action, object, object_name, result, request_id, \
                      operation";

/// The fields that a hash covers, as they are in the database.
type Fields = [Option<String>; 12];

/// How many entries are checked before the connection is free for others again.
const LINES_AT_ONCE: u32 = 1000;

/// Selects entries of the audit log. The default selects none, because `count` is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only entries before this number.
    pub before: Option<u64>,
    /// At most this many entries.
    pub count: u32,
    /// Only entries about what this requester did.
    pub requester: Option<String>,
    /// Only entries about this object, by its id or its name.
    pub object: Option<String>,
}

/// The result of a check of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditCheck {
    /// How many entries, counted from the first, are as they were written.
    pub entries: u64,
    /// The hash of the last of these entries. 64 zeros if there is none.
    pub head: String,
    /// The number of the first entry that was changed, or that is missing although later ones
    /// exist.
    pub broken_at: Option<u64>,
}

impl Store {
    /// Appends an entry.
    pub fn append_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.write("write the audit log", |change| append_entry(change, entry))
    }

    /// The selected entries, newest first.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditLine>, StoreError> {
        let (sql, selection) = query(filter);
        self.read("read the audit log", |db| {
            db.prepare_cached(&sql)?.query_map(selection.values(), line)?.collect()
        })
    }

    /// Follows the chain from its first entry to its end, or to where it breaks. Entries may be
    /// appended meanwhile.
    pub fn verify_audit(&self) -> Result<AuditCheck, StoreError> {
        let mut check = AuditCheck { entries: 0, head: "0".repeat(64), broken_at: None };
        let mut from = i64::MIN; // what somebody has put before the first line is found, too
        loop {
            let before = check.entries;
            self.read("check the audit log", |db| {
                let sql = format!(
                    "SELECT CAST(sequence AS TEXT), CAST(at_ms AS TEXT), requester, role, tenant, peer, action, object, \
                     object_name, result, request_id, operation, hash \
                     FROM audit WHERE sequence >= ?1 ORDER BY sequence LIMIT {LINES_AT_ONCE}"
                );
                let mut statement = db.prepare_cached(&sql)?;
                let mut rows = statement.query([from])?;
                while let Some(row) = rows.next()? {
                    check.follow(row);
                }
                Ok(())
            })?;
            if check.broken_at.is_some() || check.entries == before {
                return Ok(check);
            }
            from = check.entries.cast_signed() + 1;
        }
    }
}

impl AuditCheck {
    /// Advances by one entry: its fields, then its hash. A text that is not UTF-8 can't have been
    /// written by Insula.
    fn follow(&mut self, row: &Row<'_>) {
        let next = self.entries + 1;
        let fields: rusqlite::Result<Vec<Option<String>>> = (0..12).map(|column| row.get(column)).collect();
        let expected = fields.ok().and_then(|fields| Fields::try_from(fields).ok()).and_then(|fields| {
            (fields[0].as_deref() == Some(&*next.to_string())).then(|| hash(&self.head, &fields))
        });
        match (expected, row.get::<_, String>(12)) {
            _ if self.broken_at.is_some() => {}
            (Some(expected), Ok(hash)) if expected == hash => (self.entries, self.head) = (next, hash),
            _ => self.broken_at = Some(next),
        }
    }
}

/// Appends an entry within a change.
pub(crate) fn append_entry(change: &Change<'_>, entry: &AuditEntry) -> rusqlite::Result<()> {
    let last = change
        .prepare_cached("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (sequence, head): (i64, String) = last.unwrap_or_else(|| (0, "0".repeat(64)));
    let fields = fields(sequence + 1, entry);
    let hash = Some(hash(&head, &fields));
    let sql = format!(
        "INSERT INTO audit ({FIELDS}, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
    );
    change.prepare_cached(&sql)?.execute(params_from_iter(fields.iter().chain([&hash]))).map(drop)
}

fn fields(sequence: i64, entry: &AuditEntry) -> Fields {
    let AuditEntry { at_ms, requester, action, object, object_name, result, request_id, operation } = entry;
    [
        Some(sequence.to_string()),
        Some(at_ms.to_string()),
        Some(requester.name.clone()),
        Some(to_word(&requester.role)),
        requester.tenant.as_ref().map(ToString::to_string),
        Some(requester.peer.clone()),
        Some(action.clone()),
        Some(object.clone()),
        Some(object_name.clone()),
        Some(result.clone()),
        request_id.as_ref().map(ToString::to_string),
        operation.map(|operation| operation.to_string()),
    ]
}

fn hash(previous: &str, fields: &Fields) -> String {
    let form = fields.iter().map(|field| match field {
        Some(text) => format!("{}:{text}", text.len()),
        None => "-".to_owned(),
    });
    let hash = form.fold(Sha256::new_with_prefix(previous), Sha256::chain_update);
    format!("{:x}", hash.finalize())
}

fn query(filter: &AuditFilter) -> (String, Selection) {
    let mut selection = Selection::default();
    selection
        .and_if_any("sequence < ?", filter.before.map(|before| i64::try_from(before).unwrap_or(i64::MAX)));
    selection.and_if_any("requester = ?", filter.requester.clone());
    selection.and_if_any("(object = ? OR object_name = ?)", filter.object.clone());
    (selection.query(&format!("{FIELDS}, hash"), "audit", "sequence DESC", filter.count), selection)
}

fn line(row: &Row<'_>) -> rusqlite::Result<AuditLine> {
    let sequence: i64 = row.get("sequence")?;
    let requester = Requester {
        name: row.get("requester")?,
        role: from_word(row, "role")?,
        tenant: parsed_if_any(row, "tenant")?,
        peer: row.get("peer")?,
    };
    let entry = AuditEntry {
        at_ms: row.get("at_ms")?,
        requester,
        action: row.get("action")?,
        object: row.get("object")?,
        object_name: row.get("object_name")?,
        result: row.get("result")?,
        request_id: parsed_if_any(row, "request_id")?,
        operation: parsed_if_any(row, "operation")?,
    };
    Ok(AuditLine { sequence: sequence.cast_unsigned(), entry, hash: row.get("hash")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{assert_uses_indexes, entry, store};
    use rusqlite::Connection;

    fn all() -> AuditFilter {
        AuditFilter { count: 100, ..AuditFilter::default() }
    }

    #[test]
    fn lines_come_newest_first_as_they_were_written() {
        let (_directory, store) = store();
        let mut full = entry(2, "acme-panel", "42");
        full.requester.tenant = Some("acme".parse().unwrap());
        full.request_id = Some("whmcs:1".parse().unwrap());
        full.operation = Some(insula_types::OperationId::new());
        for entry in [&entry(1, "root", "41"), &full, &entry(3, "root", "42")] {
            store.append_audit(entry).unwrap();
        }
        assert_eq!(store.audit(&all()).unwrap()[1].entry, full);
        for (filter, found) in [
            (all(), &[3, 2, 1][..]),
            (AuditFilter { before: Some(3), count: 1, ..all() }, &[2]),
            (AuditFilter { requester: Some("root".to_owned()), ..all() }, &[3, 1]),
            (AuditFilter { object: Some("42".to_owned()), ..all() }, &[3, 2]),
            (AuditFilter { object: Some("web1".to_owned()), ..all() }, &[3, 2, 1]),
            (AuditFilter { object: Some("web".to_owned()), ..all() }, &[]),
        ] {
            let lines = store.audit(&filter).unwrap();
            assert_eq!(lines.iter().map(|line| line.sequence).collect::<Vec<_>>(), found, "{filter:?}");
        }
        let of_root = AuditFilter { before: Some(3), requester: Some("root".to_owned()), ..all() };
        let (sql, selection) = query(&of_root);
        assert_uses_indexes(&store, &sql, &selection);
    }

    #[test]
    fn the_chain_goes_on_over_batches_and_restarts() {
        let (directory, store) = store();
        let empty = store.verify_audit().unwrap();
        assert_eq!(empty, AuditCheck { entries: 0, head: "0".repeat(64), broken_at: None });
        let lines = 2 * u64::from(LINES_AT_ONCE) + 1;
        let append =
            |change: &Change<'_>| (1..lines).try_for_each(|_| append_entry(change, &entry(1, "root", "42")));
        store.write("write many lines", append).unwrap();
        drop(store);
        let store = Store::open(&directory.path().join("insula.db")).unwrap();
        store.append_audit(&entry(2, "root", "42")).unwrap();
        let head = store.audit(&AuditFilter { count: 1, ..all() }).unwrap().remove(0).hash;
        assert_eq!(store.verify_audit().unwrap(), AuditCheck { entries: lines, head, broken_at: None });
    }

    #[test]
    fn fields_can_not_flow_into_each_other() {
        let hashes = [("a", "bc"), ("ab", "c"), ("a1:b", "c"), ("", "abc")].map(|(requester, object)| {
            let entry = entry(1, requester, object);
            hash("", &fields(1, &entry))
        });
        assert!((1..hashes.len()).all(|n| !hashes[..n].contains(&hashes[n])), "{hashes:?}");
    }

    #[test]
    fn the_database_refuses_to_change_what_is_written() {
        let (_directory, store) = store();
        for _ in 0..2 {
            store.append_audit(&entry(1, "root", "42")).unwrap();
        }
        for (sql, why) in [
            ("UPDATE audit SET result = 'SUCCEEDED'", "changed"),
            ("DELETE FROM audit WHERE sequence = 2", "removed"),
            ("INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE sequence = 1", "at its end only"),
        ] {
            let error = store.write("tamper", |change| change.execute(sql, [])).unwrap_err();
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains(why), "{sql}: {source}");
        }
        assert_eq!(store.verify_audit().unwrap().entries, 2);
    }

    #[test]
    fn whoever_gets_around_that_is_found() {
        let renumber = "UPDATE audit SET sequence = -sequence WHERE sequence > 2; \
                        UPDATE audit SET sequence = 1 - sequence WHERE sequence < 0;";
        let insert = format!(
            "{renumber} INSERT INTO audit SELECT 3, at_ms, requester, role, tenant, peer, action, object, object_name, \
             result, request_id, operation, hash FROM audit WHERE sequence = 2"
        );
        for (tampering, broken_at) in [
            ("UPDATE audit SET result = 'SUCCEEDED' WHERE sequence = 3", 3),
            ("UPDATE audit SET tenant = '' WHERE sequence = 3", 3),
            ("UPDATE audit SET peer = CAST(x'ff' AS TEXT) WHERE sequence = 3", 3),
            ("UPDATE audit SET hash = upper(hash) || 'x' WHERE sequence = 5", 5),
            ("DELETE FROM audit WHERE sequence = 1", 1),
            ("DELETE FROM audit WHERE sequence = 3", 3),
            (
                "DELETE FROM audit WHERE sequence = 3; UPDATE audit SET sequence = sequence - 1 WHERE sequence > 3",
                3,
            ),
            (&insert, 3),
            (
                "INSERT INTO audit SELECT 0, at_ms, requester, role, tenant, peer, action, object, object_name, result, \
              request_id, operation, hash FROM audit WHERE sequence = 2",
                1,
            ),
        ] {
            let (directory, store) = store();
            for at_ms in 1..=5 {
                store.append_audit(&entry(at_ms, "root", "42")).unwrap();
            }
            assert_eq!(store.verify_audit().unwrap().broken_at, None);
            let raw = Connection::open(directory.path().join("insula.db")).unwrap();
            let triggers = "audit_keeps_its_lines; audit_loses_no_line; audit_grows_at_its_end";
            triggers.split("; ").for_each(|name| raw.execute_batch(&format!("DROP TRIGGER {name}")).unwrap());
            raw.execute_batch(tampering).unwrap();
            let check = store.verify_audit().unwrap();
            assert_eq!((check.broken_at, check.entries), (Some(broken_at), broken_at - 1), "{tampering}");
        }
    }
}
