//! Removes a snapshot of a VPS.

use std::sync::Arc;

use insula_types::{OperationRecord, SnapshotName, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::Step;
use crate::{Engine, EngineError, VpsHandle};

/// Remove a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeleteSnapshotJob {
    pub vps: VpsId,
    pub snapshot: SnapshotName,
}

impl Engine {
    /// Removes a snapshot.
    pub async fn delete_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: SnapshotName,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, DeleteSnapshotJob { vps: handle.id, snapshot: name }).await
    }
}

impl JobSpec for DeleteSnapshotJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Snapshot)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_snapshot(&self.snapshot)?;
        context.admit(self.request())
    }

    fn plan(&self) -> Plan {
        let snapshot = || self.snapshot.clone();
        Plan::lasting([Step::RemoveSnapshotVolume(snapshot()), Step::ForgetSnapshot(snapshot())])
    }
}
