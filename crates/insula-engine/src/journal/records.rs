//! Records of operations as they are before anything is done. All of it is pure, but for their ids and times.

use std::collections::BTreeMap;

use insula_types::{OperationId, OperationKind, OperationRecord, OperationState, Progress};

use crate::clock::now_ms;
use crate::model::asked::Asked;

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
