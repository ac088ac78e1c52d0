//! Gives a VPS another name.

use std::sync::Arc;

use insula_types::{OperationRecord, VpsId, VpsName};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap};
use crate::{Engine, EngineError, VpsHandle};

/// Give it another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RenameJob {
    pub vps: VpsId,
    pub name: Swap<VpsName>,
}

impl Engine {
    /// Gives a VPS another name. Its host name stays.
    pub async fn rename_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: VpsName,
    ) -> Result<OperationRecord, EngineError> {
        let name = Swap { from: handle.name(), to: name };
        self.request(asked, handle, RenameJob { vps: handle.id, name }).await
    }
}

impl JobSpec for RenameJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Change)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_name_free(&self.name.to)?;
        self.name.from = context.vps.name();
        context.admit(self.request())
    }

    fn plan(&self) -> Plan {
        Plan::undoable([Step::Change(self.name.clone().map(Change::Name))])
    }
}
