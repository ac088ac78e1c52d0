//! The audit log: read and checked, and added to where a request is refused.

use insula_store::{AuditCheck, AuditFilter, Store};
use insula_types::{AuditEntry, AuditLine, Requester};

use crate::{Engine, EngineError, VpsHandle, now_ms};

impl Engine {
    /// Entries of the audit log, newest first.
    pub async fn audit_entries(&self, filter: AuditFilter) -> Result<Vec<AuditLine>, EngineError> {
        self.store(move |store| store.audit(&filter)).await
    }

    /// Checks the chain of the audit log.
    pub async fn verify_audit(&self) -> Result<AuditCheck, EngineError> {
        self.store(Store::verify_audit).await
    }

    /// Notes that somebody known was refused something.
    pub async fn note_refusal(&self, entry: AuditEntry) -> Result<(), EngineError> {
        self.store(move |store| store.append_audit(&entry)).await
    }

    /// Notes in the audit log that a requester has entered a VPS, or has tried to. What is run there may hold secrets, and
    /// is not noted.
    pub async fn note_session(
        &self,
        requester: &Requester,
        action: &str,
        handle: &VpsHandle,
        failure: Option<&EngineError>,
    ) -> Result<(), EngineError> {
        let result = failure.map_or("ACCEPTED", |error| error.reason().as_str());
        let entry = AuditEntry {
            at_ms: now_ms(),
            requester: requester.clone(),
            action: action.to_owned(),
            object: handle.id.to_string(),
            object_name: handle.name().to_string(),
            result: result.to_owned(),
            request_id: None,
            operation: None,
        };
        self.store(move |store| store.append_audit(&entry)).await
    }
}
