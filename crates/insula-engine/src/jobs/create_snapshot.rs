//! Takes a snapshot of a VPS's root.

use std::sync::Arc;

use insula_types::{OperationRecord, Reason, SnapshotName, VpsId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::Step;
use crate::{Engine, EngineError, Power, VpsHandle, now_ms};

/// Take a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreateSnapshotJob {
    pub vps: VpsId,
    pub snapshot: SnapshotName,
}

impl Engine {
    /// Takes a snapshot; without a name, one named after the time.
    pub async fn create_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: Option<SnapshotName>,
    ) -> Result<OperationRecord, EngineError> {
        let snapshot = name.unwrap_or_else(|| time_name("", now_ms() / 1000));
        self.request(asked, handle, CreateSnapshotJob { vps: handle.id, snapshot }).await
    }

    /// A pool without snapshots copies file by file: what runs meanwhile would change what is copied.
    pub(crate) fn check_copyable(&self, handle: &VpsHandle) -> Result<(), EngineError> {
        if self.pools.of(&handle.spec())?.abilities().instant_copies
            || handle.observed.borrow().power == Power::Off
        {
            return Ok(());
        }
        let name = handle.name();
        let message = format!("VPS {:?} is running, and its pool copies file by file", name.as_str());
        Err(EngineError::new(Reason::VpsRunning, message)
            .hint(format!("stop the VPS first: insula stop {name}")))
    }
}

impl JobSpec for CreateSnapshotJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Snapshot)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_snapshot_free(&self.snapshot)?;
        let admission = context.admit(self.request())?;
        context.engine.check_copyable(context.vps)?;
        Ok(admission)
    }

    fn snapshot(&self) -> Option<&SnapshotName> {
        Some(&self.snapshot)
    }

    fn plan(&self) -> Plan {
        Plan::undoable([Step::TakeSnapshot(self.snapshot.clone())])
    }
}

/// `20261123-101500`: the time in UTC as a snapshot's name, after a prefix.
pub(crate) fn time_name(prefix: &str, seconds: i64) -> SnapshotName {
    let time = Timestamp::from_second(seconds).expect("a clock within ten thousand years");
    format!("{prefix}{}", time.strftime("%Y%m%d-%H%M%S")).parse().expect("letters, digits and hyphens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_a_name_is_named_after_the_time() {
        for (seconds, name) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_795_428_900, "20261123-101500"),
        ] {
            assert_eq!(time_name("", seconds).as_str(), name);
        }
    }
}
