//! Records of operations: as they are before anything is done, and what their steps found out. All of it is pure, but for
//! ids and times.

use std::collections::BTreeMap;

use insula_types::{OperationId, OperationKind, OperationRecord, OperationState, Progress, Reason};
use tokio::sync::watch;

use crate::clock::now_ms;
use crate::error::EngineError;
use crate::model::asked::Asked;
use crate::model::step::Output;

/// A record of an operation without steps.
pub(crate) fn blank_record(
    kind: OperationKind,
    target: String,
    target_name: &str,
    asked: &Asked,
    digest: String,
) -> OperationRecord {
    let now = now_ms();
    OperationRecord {
        id: OperationId::new(),
        kind,
        target,
        target_name: target_name.to_owned(),
        request: "null".to_owned(),
        state: OperationState::Running,
        step: 0,
        progress: Progress::default(),
        error: None,
        steps: vec![],
        step_names: vec![],
        outputs: BTreeMap::new(),
        notes: vec![],
        requester: asked.requester.clone(),
        request_id: asked.request_id.clone(),
        digest,
        tenant: None,
        created_at_ms: now,
        updated_at_ms: now,
    }
}

/// What a step of the operation that is over has found out.
pub(crate) fn output(record: &watch::Sender<OperationRecord>, step: &str) -> Result<Output, EngineError> {
    let record = record.borrow();
    let kept = record.outputs.get(step).ok_or_else(|| {
        EngineError::new(Reason::Internal, format!("the journal lacks the output of step {step}"))
    })?;
    serde_json::from_str(kept).map_err(|error| EngineError::internal("failed to read the journal", error))
}
