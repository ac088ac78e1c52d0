//! Suspends a VPS: it is shut down, and may not be started until the hold ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use insula_types::{OperationRecord, Suspension, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::{Plan, Stop};
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap};
use crate::vps::handle::is_on;
use crate::{Engine, EngineError, VpsHandle, now_ms};

/// Hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuspendJob {
    pub vps: VpsId,
    pub suspension: Suspension,
    pub stop: Stop,
}

impl Engine {
    /// Holds a VPS: it is shut down, and may not be started.
    pub async fn suspend_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        reason: String,
        force: bool,
        timeout: Option<Duration>,
    ) -> Result<OperationRecord, EngineError> {
        let suspension = Suspension { reason: check_hold(&reason)?, at_ms: now_ms(), was_running: false };
        let job = SuspendJob { vps: handle.id, suspension, stop: self.stop(force, timeout) };
        self.request(asked, handle, job).await
    }
}

impl JobSpec for SuspendJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Hold)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        // One that is suspended again has another reason, and is remembered as it was.
        let before = context.spec().suspension.as_ref().map(|suspension| suspension.was_running);
        self.suspension.was_running = before
            .unwrap_or_else(|| is_on(context.state) || context.vps.awaits_autostart.load(Ordering::Relaxed));
        context.admit(self.request())
    }

    fn plan(&self) -> Plan {
        let hold = Swap { from: None, to: Some(self.suspension.clone()) };
        Plan::lasting([Step::Change(hold.map(Change::Suspension)), self.stop.step()])
    }
}

fn check_hold(reason: &str) -> Result<String, EngineError> {
    let reason = reason.trim();
    match reason.chars().count() {
        0 => Err(EngineError::invalid("reason", "a suspension needs a reason, for people who find it later")),
        1..=500 if !reason.contains(char::is_control) => Ok(reason.to_owned()),
        _ => Err(EngineError::invalid(
            "reason",
            "a reason is one line of at most 500 characters, without control characters",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_plain_line() {
        assert_eq!(check_hold(" unpaid ").unwrap(), "unpaid");
        for bad in ["", "  ", "a\nb", &"x".repeat(501)] {
            assert!(check_hold(bad).is_err(), "{bad:?}");
        }
    }
}
