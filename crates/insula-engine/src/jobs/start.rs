//! Boots a VPS.

use std::sync::Arc;

use insula_types::{OperationRecord, VpsId, VpsState};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::{Boot, Plan};
use crate::model::policy::Request;
use crate::{Engine, EngineError, VpsHandle};

/// Boot it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartJob {
    pub vps: VpsId,
    pub boot: Boot,
    pub override_suspension: bool,
}

impl Engine {
    /// Boots a VPS. Nothing to do when it runs, but for the waiting.
    pub async fn start_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        wait_ready: bool,
        override_suspension: bool,
    ) -> Result<OperationRecord, EngineError> {
        let job = StartJob { vps: handle.id, boot: Boot { wait_ready }, override_suspension };
        self.request(asked, handle, job).await
    }
}

impl JobSpec for StartJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Start { override_suspension: self.override_suspension })
    }

    /// One that runs may still be waited for.
    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        let mut admission = context.admit(self.request())?;
        admission.is_needed |= self.boot.wait_ready && context.state != VpsState::Ready;
        Ok(admission)
    }

    fn plan(&self) -> Plan {
        Plan::lasting(self.boot.steps())
    }
}
