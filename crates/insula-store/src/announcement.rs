//! Reports operations to the audit log and to the events.

use insula_types::{
    AuditEntry, Event, EventBody, EventSubject, OperationKind, OperationRecord, OperationState, Reason,
};

use crate::audit::append_entry;
use crate::database::Change;
use crate::event::append_event;

/// Reports, within a change, to the audit log and to watchers that an operation was accepted or has
/// ended.
pub(crate) fn announce(change: &Change<'_>, operation: &OperationRecord) -> rusqlite::Result<()> {
    let reason = operation.error.as_ref().map(|failure| failure.reason.clone());
    let result = match operation.state {
        OperationState::Queued
        | OperationState::Running
        | OperationState::Undoing
        | OperationState::InDoubt => "ACCEPTED",
        OperationState::Succeeded => "SUCCEEDED",
        OperationState::Failed => reason.as_deref().unwrap_or(Reason::Internal.as_str()),
    };
    append_entry(
        change,
        &AuditEntry {
            at_ms: operation.updated_at_ms,
            requester: operation.requester.clone(),
            action: operation.kind.as_str().to_owned(),
            object: operation.target.clone(),
            object_name: operation.target_name.clone(),
            result: result.to_owned(),
            request_id: operation.request_id.clone(),
            operation: Some(operation.id),
        },
    )?;
    let body = EventBody::Operation {
        operation: operation.id,
        what: operation.kind,
        state: operation.state,
        reason,
        requester: operation.requester.name.clone(),
    };
    append_event(change, &Event { at_ms: operation.updated_at_ms, subject: subject(operation), body })
}

/// The VPS that an operation is about. Operations on clients have none, though their targets are
/// UUIDs, too.
fn subject(operation: &OperationRecord) -> Option<EventSubject> {
    use OperationKind::*;
    match operation.kind {
        BuildImage | DeleteImage | SetImageAlias | DeleteImageAlias | CreateProfile | UpdateProfile
        | DeleteProfile | CreateAccessToken | RevokeClient => None,
        CreateVps | StartVps | StopVps | RestartVps | DeleteVps | UpdateVps | RenameVps | TrashVps
        | UndeleteVps | CloneVps | RebuildVps | PauseVps | ResumeVps | SuspendVps | UnsuspendVps
        | SetVpsPassword | ChangeVpsSshKeys | CreateSnapshot | RestoreSnapshot | DeleteSnapshot => {
            Some(EventSubject {
                vps: operation.target.parse().ok()?,
                name: operation.target_name.parse().ok()?,
                tenant: operation.tenant.clone(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{operation, store, tenant};
    use crate::{AuditFilter, EventFilter};
    use insula_types::{Failure, VpsId};

    #[test]
    fn an_operation_is_told_once_when_it_is_accepted_and_once_when_it_is_over() {
        let (_directory, store) = store();
        let vps = VpsId::new();
        let mut start = operation(OperationKind::StartVps);
        (start.target, start.target_name) = (vps.to_string(), "web1".to_owned());
        start.tenant = Some(tenant("acme"));
        store.insert_operation(&start).unwrap();
        start.step = 1;
        store.update_operation(&start).unwrap();
        start.state = OperationState::Failed;
        start.error = Some(Failure::new(Reason::StartFailed, "no init"));
        start.updated_at_ms = 9;
        for _ in 0..2 {
            store.update_operation(&start).unwrap();
        }
        let lines = store.audit(&AuditFilter { count: 10, ..AuditFilter::default() }).unwrap();
        let told: Vec<_> = lines.iter().map(|line| (line.entry.at_ms, &*line.entry.result)).collect();
        assert_eq!(told, [(9, "START_FAILED"), (1, "ACCEPTED")]);
        let entry = &lines[0].entry;
        assert_eq!((&*entry.action, &*entry.object_name), ("start-vps", "web1"));
        assert_eq!((&entry.object, entry.operation), (&start.target, Some(start.id)));

        let events = store.events(0, 10, &EventFilter::default()).unwrap();
        assert_eq!(events.len(), 2);
        let name = "web1".parse().unwrap();
        assert_eq!(events[1].event.subject, Some(EventSubject { vps, name, tenant: start.tenant }));
        let body = EventBody::Operation {
            operation: start.id,
            what: start.kind,
            state: OperationState::Failed,
            reason: Some("START_FAILED".to_owned()),
            requester: "root".to_owned(),
        };
        assert_eq!(events[1].event.body, body);
    }

    #[test]
    fn what_is_over_at_once_is_told_once_and_a_client_is_no_vps() {
        let (_directory, store) = store();
        let mut revoke = operation(OperationKind::RevokeClient);
        (revoke.target, revoke.target_name) = (VpsId::new().to_string(), "whmcs".to_owned());
        revoke.state = OperationState::Succeeded;
        store.insert_operation(&revoke).unwrap();
        let lines = store.audit(&AuditFilter { count: 10, ..AuditFilter::default() }).unwrap();
        assert_eq!(lines.iter().map(|line| &*line.entry.result).collect::<Vec<_>>(), ["SUCCEEDED"]);
        assert_eq!(store.events(0, 10, &EventFilter::default()).unwrap()[0].event.subject, None);
    }
}
