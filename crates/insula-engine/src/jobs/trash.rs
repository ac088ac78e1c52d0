//! Moves a VPS to the trash.

use insula_types::{Trash, VpsId, VpsName};
use serde::{Deserialize, Serialize};

use crate::EngineError;
use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::plan::{KILL, Plan};
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap};

/// Move it to the trash. Asked for by [`crate::Engine::delete_vps`], where the host keeps what is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrashJob {
    pub vps: VpsId,
    pub trash: Trash,
    pub name: VpsName,
    pub force: bool,
}

impl JobSpec for TrashJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Trash { force: self.force })
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_unprotected()?;
        self.name = context.vps.name();
        context.admit(self.request())
    }

    fn plan(&self) -> Plan {
        let swap = Swap { from: None, to: Some(self.trash) };
        Plan::lasting([KILL, Step::Change(swap.map(|trash| Change::Trash(trash, self.name.clone())))])
    }
}
