//! The journal of operations. Each change is announced by the transaction that makes it.

use insula_types::{
    OperationId, OperationKind, OperationRecord, OperationState, Progress, RequestId, Requester, TenantName,
};
use rusqlite::{OptionalExtension, Row, named_params};

use crate::StoreError;
use crate::announcement::announce;
use crate::column::{from_json, from_json_if_any, from_word, parsed, parsed_if_any, to_json, to_word};
use crate::database::{Change, Store};
use crate::selection::Selection;

const COLUMNS: &str = "id, kind, target, target_name, request, state, step, percent, message, error, steps, \
                       step_names, outputs, notes, requester, requester_role, requester_tenant, requester_peer, request_id, digest, \
                       tenant, created_at_ms, updated_at_ms";

/// The condition of the index of unfinished operations. It must be the same text, so that SQLite
/// uses the index.
const UNFINISHED: &str = "state IN ('queued', 'running', 'undoing', 'in-doubt')";

/// Selects operations. The default selects none, because `count` is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationFilter {
    /// Only operations older than this one. Ids are ordered by time.
    pub before: Option<OperationId>,
    /// At most this many operations.
    pub count: u32,
    /// Only operations on the object with this id.
    pub target: Option<String>,
    /// Only operations about VPSes of this tenant.
    pub tenant: Option<TenantName>,
    /// Only operations that have not ended.
    pub unfinished: bool,
}

impl Store {
    /// Keeps a new operation.
    ///
    /// # Errors
    /// [`StoreError::Taken`] with `operation.requester, operation.request_id` if the requester has
    /// used this request id before.
    pub fn insert_operation(&self, operation: &OperationRecord) -> Result<(), StoreError> {
        self.write("journal an operation", |change| insert_operation(change, operation))
    }

    /// Updates an operation with all of its fields that may change: state, steps, outputs,
    /// progress, error, request and notes.
    pub fn update_operation(&self, operation: &OperationRecord) -> Result<(), StoreError> {
        // Three things must be on disk before the operation goes on. Its acceptance and its result,
        // before anybody hears of them. Outputs of its steps, because a repeated step might get
        // different ones. And the steps of a rebuild: one that runs too early after a crash would
        // find the new root where it should take the snapshot of the old one.
        let is_soon_enough =
            operation.step > 0 && operation.outputs.is_empty() && operation.kind != OperationKind::RebuildVps;
        match operation.state == OperationState::Running && is_soon_enough {
            true => self.write_soon("journal a step", |change| update_operation(change, operation)),
            false => self.write("journal an operation", |change| update_operation(change, operation)),
        }
    }

    /// The operation with this id.
    pub fn operation(&self, id: &OperationId) -> Result<Option<OperationRecord>, StoreError> {
        self.read("read an operation", |db| {
            db.prepare_cached(&format!("SELECT {COLUMNS} FROM operation WHERE id = ?1"))?
                .query_row([id.to_string()], operation)
                .optional()
        })
    }

    /// The operation that a request of the requester started, by the request's id.
    pub fn operation_by_request(
        &self,
        requester: &str,
        request_id: &RequestId,
    ) -> Result<Option<OperationRecord>, StoreError> {
        self.read("find the operation of a request", |db| {
            let sql = format!("SELECT {COLUMNS} FROM operation WHERE requester = ?1 AND request_id = ?2");
            db.prepare_cached(&sql)?.query_row([requester, request_id.as_str()], operation).optional()
        })
    }

    /// The selected operations, newest first.
    pub fn operations(&self, filter: &OperationFilter) -> Result<Vec<OperationRecord>, StoreError> {
        let (sql, selection) = query(filter);
        self.read("list operations", |db| {
            db.prepare_cached(&sql)?.query_map(selection.values(), operation)?.collect()
        })
    }

    /// Operations that wait, and those that a dead agent left unfinished, oldest first.
    pub fn unfinished_operations(&self) -> Result<Vec<OperationRecord>, StoreError> {
        self.read("list unfinished operations", |db| {
            let sql = format!("SELECT {COLUMNS} FROM operation WHERE {UNFINISHED} ORDER BY id");
            db.prepare_cached(&sql)?.query_map([], operation)?.collect()
        })
    }

    /// Removes the operations that ended before this time, in milliseconds since 1970, UTC. Returns
    /// how many were removed.
    pub fn prune_operations(&self, before_ms: i64) -> Result<usize, StoreError> {
        self.write("prune operations", |change| {
            change.execute(
                "DELETE FROM operation WHERE state IN ('succeeded', 'failed') AND updated_at_ms < ?1",
                [before_ms],
            )
        })
    }
}

fn query(filter: &OperationFilter) -> (String, Selection) {
    let mut selection = Selection::default();
    selection.and_if_any("id < ?", filter.before.map(|before| before.to_string()));
    selection.and_if_any("target = ?", filter.target.clone());
    selection.and_if_any("tenant = ?", filter.tenant.as_ref().map(TenantName::to_string));
    if filter.unfinished {
        selection.and_always(UNFINISHED);
    }
    (selection.query(COLUMNS, "operation", "id DESC", filter.count), selection)
}

/// Keeps a new operation within a change. It must come first there: a retry is then recognized by
/// its request id, and not mistaken for a second request whose names are taken.
pub(crate) fn insert_operation(change: &Change<'_>, operation: &OperationRecord) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT INTO operation ({COLUMNS}) VALUES (:id, :kind, :target, :target_name, :request, :state, :step, :percent, \
         :message, :error, :steps, :step_names, :outputs, :notes, :requester, :requester_role, :requester_tenant, \
         :requester_peer, :request_id, :digest, :tenant, :created_at_ms, :updated_at_ms)"
    );
    let requester = &operation.requester;
    change.prepare_cached(&sql)?.execute(named_params! {
        ":id": operation.id.to_string(),
        ":kind": to_word(&operation.kind),
        ":target": operation.target,
        ":target_name": operation.target_name,
        ":request": operation.request,
        ":state": to_word(&operation.state),
        ":step": operation.step,
        ":percent": operation.progress.percent,
        ":message": operation.progress.message,
        ":error": operation.error.as_ref().map(to_json),
        ":steps": to_json(&operation.steps),
        ":step_names": to_json(&operation.step_names),
        ":outputs": to_json(&operation.outputs),
        ":notes": to_json(&operation.notes),
        ":requester": requester.name,
        ":requester_role": to_word(&requester.role),
        ":requester_tenant": requester.tenant.as_ref().map(TenantName::as_str),
        ":requester_peer": requester.peer,
        ":request_id": operation.request_id.as_ref().map(RequestId::as_str),
        ":digest": operation.digest,
        ":tenant": operation.tenant.as_ref().map(TenantName::as_str),
        ":created_at_ms": operation.created_at_ms,
        ":updated_at_ms": operation.updated_at_ms,
    })?;
    announce(change, operation)
}

/// Updates an operation within a change, and announces its end if it had not ended before.
pub(crate) fn update_operation(change: &Change<'_>, operation: &OperationRecord) -> rusqlite::Result<()> {
    let id = operation.id.to_string();
    let unfinished = format!("SELECT 1 FROM operation WHERE id = ?1 AND {UNFINISHED}");
    let ends = operation.state.is_final() && change.prepare_cached(&unfinished)?.exists([&id])?;
    change
        .prepare_cached(
            "UPDATE operation SET request = :request, state = :state, step = :step, percent = :percent, \
             message = :message, error = :error, steps = :steps, step_names = :step_names, outputs = :outputs, \
             notes = :notes, updated_at_ms = :updated_at_ms WHERE id = :id",
        )?
        .execute(named_params! {
            ":id": id,
            ":request": operation.request,
            ":state": to_word(&operation.state),
            ":step": operation.step,
            ":percent": operation.progress.percent,
            ":message": operation.progress.message,
            ":error": operation.error.as_ref().map(to_json),
            ":steps": to_json(&operation.steps),
            ":step_names": to_json(&operation.step_names),
            ":outputs": to_json(&operation.outputs),
            ":notes": to_json(&operation.notes),
            ":updated_at_ms": operation.updated_at_ms,
        })?;
    if ends { announce(change, operation) } else { Ok(()) }
}

fn operation(row: &Row<'_>) -> rusqlite::Result<OperationRecord> {
    Ok(OperationRecord {
        id: parsed(row, "id")?,
        kind: from_word(row, "kind")?,
        target: row.get("target")?,
        target_name: row.get("target_name")?,
        request: row.get("request")?,
        state: from_word(row, "state")?,
        step: row.get("step")?,
        progress: Progress { percent: row.get("percent")?, message: row.get("message")? },
        error: from_json_if_any(row, "error")?,
        steps: from_json(row, "steps")?,
        step_names: from_json(row, "step_names")?,
        outputs: from_json(row, "outputs")?,
        notes: from_json(row, "notes")?,
        requester: Requester {
            name: row.get("requester")?,
            role: from_word(row, "requester_role")?,
            tenant: parsed_if_any(row, "requester_tenant")?,
            peer: row.get("requester_peer")?,
        },
        request_id: parsed_if_any(row, "request_id")?,
        digest: row.get("digest")?,
        tenant: parsed_if_any(row, "tenant")?,
        created_at_ms: row.get("created_at_ms")?,
        updated_at_ms: row.get("updated_at_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{assert_uses_indexes, operation as record, store, tenant};
    use insula_types::{Failure, OperationKind, OperationState, Reason, Role};
    use std::collections::BTreeMap;

    #[test]
    fn the_journal_gives_back_what_it_got() {
        let (_directory, store) = store();
        let mut create = record(OperationKind::CreateVps);
        create.requester = Requester {
            name: "acme-panel".to_owned(),
            role: Role::Tenant,
            tenant: Some(tenant("acme")),
            peer: "192.0.2.1:4711".to_owned(),
        };
        create.request_id = Some("whmcs:1".parse().unwrap());
        create.tenant = Some(tenant("acme"));
        store.insert_operation(&create).unwrap();
        assert_eq!(store.operation(&create.id).unwrap().as_ref(), Some(&create));
        create.step = 3;
        create.state = OperationState::Failed;
        create.error = Some(Failure {
            hint: Some("make room".to_owned()),
            undo: vec!["no space to undo".to_owned()],
            ..Failure::new(Reason::HostDiskFull, "no space")
        });
        create.step_names = vec!["clone-root".to_owned()];
        create.outputs = BTreeMap::from([("clone-root".to_owned(), "7".to_owned())]);
        create.progress = Progress { percent: 40, message: "cloning".to_owned() };
        create.request = r#"{"alias":"a"}"#.to_owned();
        create.notes = vec!["the memory changes at the next start".to_owned()];
        store.update_operation(&create).unwrap();
        assert_eq!(store.operation(&create.id).unwrap(), Some(create));
        assert_eq!(store.unfinished_operations().unwrap(), []);
    }

    #[test]
    fn a_request_is_known_by_who_asked_and_its_id() {
        let (_directory, store) = store();
        let mut first = record(OperationKind::StopVps);
        first.request_id = Some("1".parse().unwrap());
        store.insert_operation(&first).unwrap();
        let again = OperationRecord { id: OperationId::new(), ..first.clone() };
        let error = store.insert_operation(&again).unwrap_err();
        let of_request = "operation.requester, operation.request_id";
        assert!(matches!(&error, StoreError::Taken { what, .. } if what == of_request), "{error}");
        let requester = Requester { name: "whmcs".to_owned(), ..Requester::root() };
        store.insert_operation(&OperationRecord { requester, ..again }).unwrap();
        for _ in 0..2 {
            store.insert_operation(&record(OperationKind::StopVps)).unwrap(); // no id: not the same request
        }
        let id = first.request_id.clone().unwrap();
        assert_eq!(store.operation_by_request("root", &id).unwrap(), Some(first));
        assert_eq!(store.operation_by_request("nobody", &id).unwrap(), None);
    }

    #[test]
    fn pages_come_newest_first_and_old_ones_are_pruned() {
        let (_directory, store) = store();
        let mut records: Vec<_> = (0..5).map(|_| record(OperationKind::StopVps)).collect();
        for record in &mut records {
            record.state = OperationState::Succeeded;
            store.insert_operation(record).unwrap();
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.id));
        let three = OperationFilter { count: 3, ..OperationFilter::default() };
        let first = store.operations(&three).unwrap();
        assert_eq!(first, records[..3]);
        let second = store.operations(&OperationFilter { before: Some(first[2].id), ..three }).unwrap();
        assert_eq!(second, records[3..]);
        assert_eq!(store.prune_operations(2).unwrap(), 5);
    }

    #[test]
    fn a_list_has_what_was_asked_for_and_uses_its_index() {
        let (_directory, store) = store();
        let mut queued = record(OperationKind::StopVps);
        queued.state = OperationState::Queued;
        let mut of_acme = record(OperationKind::StartVps);
        (of_acme.target, of_acme.tenant) = ("web1".to_owned(), Some(tenant("acme")));
        of_acme.state = OperationState::Succeeded;
        store.insert_operation(&queued).unwrap();
        store.insert_operation(&of_acme).unwrap();
        let all = OperationFilter { count: 10, ..OperationFilter::default() };
        for (filter, found) in [
            (all.clone(), vec![of_acme.clone(), queued.clone()]),
            (OperationFilter { before: Some(of_acme.id), ..all.clone() }, vec![queued.clone()]),
            (OperationFilter { target: Some("web1".to_owned()), ..all.clone() }, vec![of_acme.clone()]),
            (OperationFilter { tenant: Some(tenant("acme")), ..all.clone() }, vec![of_acme]),
            (OperationFilter { tenant: Some(tenant("other")), ..all.clone() }, vec![]),
        ] {
            assert_eq!(store.operations(&filter).unwrap(), found, "{filter:?}");
            let (sql, selection) = query(&filter);
            if filter != all {
                assert_uses_indexes(&store, &sql, &selection);
            }
        }
        let unfinished = store.operations(&OperationFilter { unfinished: true, ..all }).unwrap();
        assert_eq!(unfinished, [queued.clone()]);
        assert_eq!(store.unfinished_operations().unwrap(), [queued]);
    }
}
