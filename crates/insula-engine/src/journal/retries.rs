//! What makes a retry safe.
//!
//! A client that does not know whether its request arrived sends it again with the same request id (AIP-155), and gets
//! the same operation. Requests with one id are dealt with one after the other; a keyed hash of the body tells a
//! retry from another request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hmac::{Hmac, Mac};
use insula_store::{Store, StoreError};
use insula_types::{
    AuditEntry, OperationKind, OperationRecord, OperationState, Progress, Reason, RequestId, Requester,
};
use sha2::Sha256;

use crate::journal::execution::blank_record;
use crate::model::asked::Asked;
use crate::{Engine, EngineError, VpsHandle, now_ms};

/// The requests that are being dealt with, by who asks and id: one at a time.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    turns: Mutex<HashMap<(String, RequestId), Turn>>,
}

/// Held by the request that is being dealt with.
type Turn = Arc<tokio::sync::Mutex<()>>;

impl Retries {
    /// Waits for the turn of a request.
    async fn turn(&self, asked: &Asked, id: &RequestId) -> tokio::sync::OwnedMutexGuard<()> {
        let key = (asked.requester.name.clone(), id.clone());
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1); // nobody waits for them
            turns.entry(key).or_default().clone()
        };
        turn.lock_owned().await
    }
}

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
                .hint("give each request an id of its own, and a retry the id and the body of the first"));
        }
        self.operation(record.id).await.map(Some)
    }

    /// What tells a retry from another request: keyed, because a body may hold a password.
    pub(crate) fn digest(&self, asked: &Asked) -> String {
        if asked.request_id.is_none() {
            return String::new();
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("a key of any length will do");
        mac.update(&asked.body);
        format!("{:x}", mac.finalize().into_bytes())
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

    /// Notes in the audit log who has entered a VPS, or has tried to. What is run there may hold secrets, and is not noted.
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
