//! Requests that may come twice, and those that are done when they are written down.

use insula_store::{Store, StoreError};
use insula_types::{OperationKind, OperationRecord, OperationState, Progress, Reason};

use crate::journal::records::blank_record;
use crate::model::asked::Asked;
use crate::{Engine, EngineError};

impl Engine {
    /// Acts on a request, or finds what became of it when it was asked before.
    pub(crate) async fn once<A>(
        &self,
        asked: &Asked,
        act: impl FnOnce() -> A,
    ) -> Result<OperationRecord, EngineError>
    where
        A: Future<Output = Result<OperationRecord, EngineError>>,
    {
        let Some(id) = asked.request_id.as_ref().filter(|_| !asked.validate_only) else {
            return act().await;
        };
        let _turn = self.retries.turn(asked, id).await;
        match self.asked_before(asked).await? {
            Some(record) => Ok(record),
            None => act().await,
        }
    }

    /// What became of the request, if it was asked before. What it was about may be gone by now.
    ///
    /// # Errors
    /// [`Reason::RequestIdReused`] when its id was used for another request.
    pub async fn asked_before(&self, asked: &Asked) -> Result<Option<OperationRecord>, EngineError> {
        let Some(id) = asked.request_id.as_ref().filter(|_| !asked.validate_only) else { return Ok(None) };
        let (requester, wanted) = (asked.requester.name.clone(), id.clone());
        let found = self.store(move |store| store.operation_by_request(&requester, &wanted)).await?;
        let Some(record) = found else { return Ok(None) };
        if record.digest != self.digest(asked) {
            let message = format!("request id {id} was used for another request, operation {}", record.id);
            return Err(EngineError::new(Reason::RequestIdReused, message)
                .hint("use a new id for each request; a retry repeats both id and body"));
        }
        self.operation(record.id).await.map(Some)
    }

    /// What tells a retry from another request.
    pub(crate) fn digest(&self, asked: &Asked) -> String {
        self.retries.digest(asked)
    }

    /// A change that is made by writing it down: an operation that is done when it is journaled. `write` puts both into the
    /// database in one transaction.
    pub(crate) async fn at_once(
        &self,
        asked: &Asked,
        kind: OperationKind,
        target: String,
        target_name: &str,
        write: impl FnOnce(&Store, &OperationRecord) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<OperationRecord, EngineError> {
        let mut record = blank_record(kind, target, target_name, asked, self.digest(asked));
        record.state = OperationState::Succeeded;
        record.progress = Progress { percent: 100, message: "done".to_owned() };
        if !asked.validate_only {
            let kept = record.clone();
            self.store(move |store| write(store, &kept)).await?;
        }
        Ok(record)
    }
}
