//! Takes a VPS out of the trash, under another name where one is asked for.

use std::sync::Arc;

use insula_types::{OperationRecord, Trash, VpsId, VpsName};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap};
use crate::{Engine, EngineError, VpsHandle};

/// Take it out of the trash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UndeleteJob {
    pub vps: VpsId,
    /// What it was in the trash for.
    pub trash: Trash,
    pub name: Swap<VpsName>,
}

impl Engine {
    /// Takes a VPS out of the trash, perhaps with another name.
    pub async fn undelete_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: Option<VpsName>,
    ) -> Result<OperationRecord, EngineError> {
        let from = handle.name();
        let name = Swap { to: name.unwrap_or_else(|| from.clone()), from };
        let trash = Trash { deleted_at_ms: 0, expires_at_ms: 0 }; // known when it is checked
        self.request(asked, handle, UndeleteJob { vps: handle.id, trash, name }).await
    }
}

impl JobSpec for UndeleteJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Undelete)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        let another = || format!("insula undelete {} --as NAME", self.vps);
        context.check_name_free(&self.name.to).map_err(|error| error.hint(another()))?;
        let spec = context.spec();
        self.trash = spec.trash.unwrap_or(self.trash);
        self.name.from = spec.name.clone();
        context.admit(self.request())
    }

    fn plan(&self) -> Plan {
        let Swap { from, to } = self.name.clone();
        let change = Swap { from: Change::Trash(Some(self.trash), from), to: Change::Trash(None, to) };
        Plan::undoable([Step::Change(change)])
    }
}
