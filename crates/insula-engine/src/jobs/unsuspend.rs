//! Ends the hold on a suspended VPS.

use std::sync::Arc;

use insula_types::{OperationRecord, Suspension, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap};
use crate::{Engine, EngineError, VpsHandle};

/// End the hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnsuspendJob {
    pub vps: VpsId,
    /// The hold that ends.
    pub suspension: Option<Suspension>,
}

impl Engine {
    /// Ends the hold on a VPS, and boots it if it ran before.
    pub async fn unsuspend_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, UnsuspendJob { vps: handle.id, suspension: None }).await
    }
}

impl JobSpec for UnsuspendJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Hold)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        self.suspension.clone_from(&context.spec().suspension);
        context.admit(self.request())
    }

    fn plan(&self) -> Plan {
        let was_running = self.suspension.as_ref().is_some_and(|suspension| suspension.was_running);
        let hold = Swap { from: self.suspension.clone(), to: None }.map(Change::Suspension);
        let boot = was_running.then_some(Step::Launch);
        Plan::lasting([Step::Change(hold)].into_iter().chain(boot))
    }
}
