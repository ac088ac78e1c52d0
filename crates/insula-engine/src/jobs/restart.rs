//! Shuts a VPS down and boots it again.

use std::sync::Arc;
use std::time::Duration;

use insula_types::{OperationRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::{Boot, Plan, Stop};
use crate::model::policy::Request;
use crate::{Engine, EngineError, VpsHandle};

/// Shut it down and boot it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RestartJob {
    pub vps: VpsId,
    pub stop: Stop,
    pub boot: Boot,
}

impl Engine {
    /// Shuts a VPS down and boots it.
    pub async fn restart_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        force: bool,
        timeout: Option<Duration>,
        wait_ready: bool,
    ) -> Result<OperationRecord, EngineError> {
        let stop = self.stop(force, timeout);
        let job = RestartJob { vps: handle.id, stop, boot: Boot { wait_ready } };
        self.request(asked, handle, job).await
    }
}

impl JobSpec for RestartJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Restart)
    }

    fn plan(&self) -> Plan {
        Plan::lasting(std::iter::once(self.stop.step()).chain(self.boot.steps()))
    }
}
