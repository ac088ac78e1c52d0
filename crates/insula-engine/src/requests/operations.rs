//! Operations: looked at, waited for, cancelled.

use std::time::Duration;

use insula_store::OperationFilter;
use insula_types::{AuditEntry, OperationId, OperationRecord, OperationState, Reason, Requester};
use tokio::sync::watch;

use crate::jobs::Job;
use crate::{Engine, EngineError, now_ms};

impl Engine {
    /// One operation, under way or done.
    pub async fn operation(&self, id: OperationId) -> Result<OperationRecord, EngineError> {
        if let Some(watch) = self.operations.watch(&id) {
            return Ok(watch.borrow().clone());
        }
        let found = self.store(move |store| store.operation(&id)).await?;
        found
            .ok_or_else(|| EngineError::new(Reason::OperationNotFound, format!("there is no operation {id}")))
    }

    /// The record of an operation under way as it changes; `None` when it is done.
    pub fn watch_operation(&self, id: &OperationId) -> Option<watch::Receiver<OperationRecord>> {
        self.operations.watch(id)
    }

    /// Waits until an operation is done, or the time is over: returns it as it is then.
    pub async fn wait_operation(
        &self,
        id: OperationId,
        timeout: Option<Duration>,
    ) -> Result<OperationRecord, EngineError> {
        if let Some(mut watch) = self.operations.watch(&id) {
            let done =
                async { watch.wait_for(|record| record.state.is_final()).await.map(|record| record.clone()) };
            let waited = match timeout {
                Some(timeout) => tokio::time::timeout(timeout, done).await.ok(),
                None => Some(done.await),
            };
            if let Some(Ok(record)) = waited {
                return Ok(record);
            }
        }
        self.operation(id).await
    }

    /// Operations, newest first. What is under way is as it is now: its progress is not journaled. What is over is as it was
    /// journaled, which comes first: watchers may not have been told yet.
    pub async fn operations(&self, filter: OperationFilter) -> Result<Vec<OperationRecord>, EngineError> {
        let operations = self.store(move |store| store.operations(&filter)).await?;
        let now = |record: OperationRecord| match self.operations.watch(&record.id) {
            Some(watch) if !record.state.is_final() => watch.borrow().clone(),
            _ => record,
        };
        Ok(operations.into_iter().map(now).collect())
    }

    /// Asks an operation to end early. What was done is taken back.
    pub async fn cancel_operation(
        &self,
        requester: &Requester,
        id: OperationId,
    ) -> Result<OperationRecord, EngineError> {
        let record = self.operation(id).await?;
        let refused = |why: &str| {
            let message = format!("operation {id} ({}) {why}", record.kind);
            Err(EngineError::new(Reason::NotCancellable, message))
        };
        let job: Option<Job> = serde_json::from_str(&record.request).ok();
        match (record.state, job) {
            (OperationState::Succeeded | OperationState::Failed, _) => return refused("is over"),
            (OperationState::Undoing, _) => return refused("is already being rolled back"),
            (OperationState::Running | OperationState::InDoubt, Some(job))
                if !job.plan().is_cancellable(record.step as usize) =>
            {
                return refused("is past the point where it can be cancelled");
            }
            _ => {}
        }
        if self.operations.cancel(&id, requester).is_none() {
            return refused("is over");
        }
        let entry = AuditEntry {
            at_ms: now_ms(),
            requester: requester.clone(),
            action: "cancel-operation".to_owned(),
            object: record.target.clone(),
            object_name: record.target_name.clone(),
            result: "ACCEPTED".to_owned(),
            request_id: None,
            operation: Some(id),
        };
        self.store(move |store| store.append_audit(&entry)).await?;
        self.operation(id).await
    }
}
