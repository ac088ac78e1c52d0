//! Takes the root of a stopped VPS back to a snapshot.

use std::sync::Arc;

use insula_types::{OperationRecord, SnapshotName, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::Step;
use crate::{Engine, EngineError, VpsHandle};

/// Go back to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestoreSnapshotJob {
    pub vps: VpsId,
    pub snapshot: SnapshotName,
}

impl Engine {
    /// Takes the root of a stopped VPS back to a snapshot.
    pub async fn restore_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: SnapshotName,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, RestoreSnapshotJob { vps: handle.id, snapshot: name }).await
    }
}

impl JobSpec for RestoreSnapshotJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Restore)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_snapshot(&self.snapshot)?;
        let admission = context.admit(self.request())?;
        context.check_replaceable()?;
        Ok(admission)
    }

    fn plan(&self) -> Plan {
        let exchange = [Step::CloneIncoming(self.snapshot.clone()), Step::RetireRoot, Step::InstallIncoming];
        Plan::undoable(exchange).and_then([Step::RemoveOutgoing])
    }
}
