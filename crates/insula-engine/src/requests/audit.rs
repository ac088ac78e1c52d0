//! The audit log: read, checked, and added to by those that refuse.

use insula_store::{AuditCheck, AuditFilter, Store};
use insula_types::{AuditEntry, AuditLine};

use crate::{Engine, EngineError};

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
}
