//! Shuts a VPS down, or kills it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use insula_types::{OperationRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::{Plan, Stop};
use crate::model::policy::Request;
use crate::{Engine, EngineError, VpsHandle};

/// Shut it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopJob {
    pub vps: VpsId,
    pub stop: Stop,
}

impl Engine {
    /// Shuts a VPS down; by force, or when the time is over, it is killed.
    pub async fn stop_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        force: bool,
        timeout: Option<Duration>,
    ) -> Result<OperationRecord, EngineError> {
        let job = StopJob { vps: handle.id, stop: self.stop(force, timeout) };
        self.request(asked, handle, job).await
    }

    /// How a VPS is stopped where no time is named: in that of the settings.
    pub(crate) fn stop(&self, force: bool, timeout: Option<Duration>) -> Stop {
        let timeout = timeout.unwrap_or(self.settings.stop_timeout());
        Stop { force, timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) }
    }
}

impl JobSpec for StopJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Stop)
    }

    /// One that is off may be about to be started, since the host has booted: that is called off.
    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        let mut admission = context.admit(self.request())?;
        admission.is_needed |= context.vps.awaits_autostart.load(Ordering::Relaxed);
        Ok(admission)
    }

    fn plan(&self) -> Plan {
        Plan::lasting([self.stop.step()])
    }
}
