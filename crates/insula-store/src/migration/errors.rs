//! Version 4: the error of an operation, until then a text of several lines, becomes a structure.

use insula_types::{Failure, HostId};
use rusqlite::{Connection, params};

use crate::column::to_json;

/// Reads each error in the form that earlier agents wrote, and writes it as JSON.
pub(super) fn give_errors_a_structure(db: &Connection, _host: HostId) -> rusqlite::Result<()> {
    let mut failed =
        db.prepare("SELECT id, error_reason, error_text FROM operation WHERE error_reason IS NOT NULL")?;
    let mut rewrite = db.prepare("UPDATE operation SET error = ?2 WHERE id = ?1")?;
    let failures = failed
        .query_map([], |row| {
            let text: Option<String> = row.get("error_text")?;
            Ok((row.get("id")?, failure(row.get("error_reason")?, &text.unwrap_or_default())))
        })?
        .collect::<rusqlite::Result<Vec<(String, Failure)>>>()?;
    for (id, failure) in failures {
        rewrite.execute(params![id, to_json(&failure)])?;
    }
    db.execute_batch(
        "ALTER TABLE operation DROP COLUMN error_reason; ALTER TABLE operation DROP COLUMN error_text;",
    )
}

/// Parses the old text: one error per line, outermost first, then perhaps a line with a hint.
/// Errors of the undo were appended to the last line, whichever that was.
fn failure(reason: String, text: &str) -> Failure {
    let mut parts = text.split("; and taking it back: ");
    let text = parts.next().unwrap_or_default();
    let (chain, hint) = match text.rsplit_once("\nhint: ") {
        Some((chain, hint)) => (chain, Some(hint.to_owned())),
        None => (text, None),
    };
    Failure {
        reason,
        messages: chain.split('\n').map(str::to_owned).collect(),
        hint,
        undo: parts.map(str::to_owned).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_its_parts() {
        let failure = |text| {
            let Failure { messages, hint, undo, .. } = failure("INTERNAL".to_owned(), text);
            (messages.join("|"), hint.unwrap_or_default(), undo.join("|"))
        };
        let parts =
            |messages: &str, hint: &str, undo: &str| (messages.to_owned(), hint.to_owned(), undo.to_owned());
        assert_eq!(failure("no room"), parts("no room", "", ""));
        assert_eq!(
            failure("no start\nno init\nhint: rebuild it"),
            parts("no start|no init", "rebuild it", "")
        );
        assert_eq!(
            failure("no room\nhint: make some; and taking it back: EIO; and taking it back: ENOENT"),
            parts("no room", "make some", "EIO|ENOENT")
        );
        assert_eq!(failure("; and taking it back: EIO"), parts("", "", "EIO"));
    }
}
