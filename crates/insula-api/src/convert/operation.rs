//! Conversions of operations, and of the errors that the journal keeps with them.

use insula_types::{Failure, OperationRecord, OperationState, Reason};

use super::field::timestamp_ms;
use crate::error::ApiError;
use crate::v1;

impl From<OperationState> for v1::operation::State {
    fn from(state: OperationState) -> Self {
        match state {
            OperationState::Queued => Self::Queued,
            OperationState::Running => Self::Running,
            OperationState::Undoing => Self::Undoing,
            OperationState::InDoubt => Self::InDoubt,
            OperationState::Succeeded => Self::Succeeded,
            OperationState::Failed => Self::Failed,
        }
    }
}

impl From<&OperationRecord> for v1::Operation {
    fn from(record: &OperationRecord) -> Self {
        Self {
            id: record.id.to_string(),
            host: String::new(), // the agent knows it, the record does not
            kind: record.kind.to_string(),
            target: record.target.clone(),
            target_name: record.target_name.clone(),
            state: v1::operation::State::from(record.state).into(),
            percent: record.progress.percent.into(),
            message: record.progress.message.clone(),
            error: record.error.as_ref().map(|failure| (&recorded_error(failure)).into()),
            create_time: Some(timestamp_ms(record.created_at_ms)),
            update_time: Some(timestamp_ms(record.updated_at_ms)),
            steps: record.steps.clone(),
            step: record.step,
            requester: record.requester.name.clone(),
            request_id: record.request_id.as_ref().map(ToString::to_string).unwrap_or_default(),
            notes: record.notes.clone(),
            tenant: record.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// Converts the error of an operation as the journal keeps it. Errors of its undo follow its
/// causes.
fn recorded_error(failure: &Failure) -> ApiError {
    let reason = failure.reason.parse().unwrap_or(Reason::Internal);
    let mut messages = failure.messages.iter().cloned();
    let error = ApiError::new(reason, messages.next().unwrap_or_default());
    let undo = failure.undo.iter().map(|chain| format!("the rollback failed, too: {chain}"));
    let error = error.with_causes(messages.chain(undo));
    failure.hint.iter().fold(error, ApiError::with_hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::{OperationId, OperationKind, Progress, Requester};

    #[test]
    fn the_journal_keeps_reason_and_chain() {
        let record = OperationRecord {
            id: OperationId::new(),
            kind: OperationKind::CreateVps,
            target: String::new(),
            target_name: "web1".into(),
            request: String::new(),
            state: OperationState::Failed,
            step: 0,
            progress: Progress::default(),
            error: Some(Failure {
                messages: vec!["failed to create VPS web1".into(), "no room".into()],
                hint: Some("delete a snapshot".into()),
                undo: vec!["the pool refused: EIO".into()],
                ..Failure::new(Reason::PoolFull, "")
            }),
            steps: vec![],
            step_names: vec![],
            outputs: Default::default(),
            notes: vec![],
            requester: Requester::root(),
            request_id: None,
            digest: String::new(),
            tenant: None,
            created_at_ms: 0,
            updated_at_ms: 0,
        };
        let message = v1::Operation::from(&record);
        let error = ApiError::from(&message.error.unwrap());
        assert_eq!(error.reason(), Some(Reason::PoolFull));
        let chain =
            ["failed to create VPS web1", "no room", "the rollback failed, too: the pool refused: EIO"];
        assert_eq!(error.chain, chain);
        assert_eq!(error.hint(), Some("delete a snapshot"));
    }
}
