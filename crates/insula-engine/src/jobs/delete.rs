//! Removes a VPS for good, or moves it to the trash where that is asked for.

use std::sync::Arc;

use insula_types::{OperationRecord, Trash, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::jobs::trash::TrashJob;
use crate::model::asked::Asked;
use crate::model::plan::{KILL, Plan};
use crate::model::policy::Request;
use crate::model::step::Step;
use crate::{DAY_MS, Engine, EngineError, VpsHandle, now_ms};

/// Remove it for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeleteJob {
    pub vps: VpsId,
    pub force: bool,
}

impl Engine {
    /// Moves a VPS to the trash, or removes it for good; by force also when it runs.
    pub async fn delete_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        force: bool,
        now: bool,
    ) -> Result<OperationRecord, EngineError> {
        let keep_ms = i64::from(self.settings.keep_deleted_days) * DAY_MS;
        if now || keep_ms == 0 {
            return self.request(asked, handle, DeleteJob { vps: handle.id, force }).await;
        }
        let deleted_at_ms = now_ms();
        let trash = Trash { deleted_at_ms, expires_at_ms: deleted_at_ms + keep_ms };
        self.request(asked, handle, TrashJob { vps: handle.id, trash, name: handle.name(), force }).await
    }
}

impl JobSpec for DeleteJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Delete { force: self.force })
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_unprotected()?;
        context.admit(self.request())
    }

    fn plan(&self) -> Plan {
        Plan::lasting([KILL, Step::RemoveSnapshotVolumes, Step::RemoveRoot, Step::ForgetVps])
    }
}
