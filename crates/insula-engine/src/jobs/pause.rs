//! Freezes the processes of a VPS.

use std::sync::Arc;

use insula_types::{OperationRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::Step;
use crate::{Engine, EngineError, VpsHandle};

/// Freeze its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PauseJob {
    pub vps: VpsId,
}

impl Engine {
    /// Freezes the processes of a VPS.
    pub async fn pause_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, PauseJob { vps: handle.id }).await
    }
}

impl JobSpec for PauseJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Pause)
    }

    fn plan(&self) -> Plan {
        Plan::lasting([Step::SetPaused(true)])
    }
}
