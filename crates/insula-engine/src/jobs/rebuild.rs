//! Gives a VPS a new root; the old one becomes a snapshot.

use std::sync::Arc;

use insula_types::{Fingerprint, ImageRef, InitKind, OperationRecord, SnapshotName, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::create_snapshot::time_name;
use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::{Boot, KILL, Plan};
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap};
use crate::{Engine, EngineError, VpsHandle, now_ms};

/// Give it a new root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RebuildJob {
    pub vps: VpsId,
    pub image: Swap<(Fingerprint, InitKind)>,
    /// What becomes of the old root.
    pub snapshot: SnapshotName,
    pub force: bool,
    pub boot: Option<Boot>,
}

impl Engine {
    /// Gives a stopped VPS a new root from an image; by force also one that runs. The old root becomes a snapshot.
    pub async fn rebuild_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        image: ImageRef,
        force: bool,
        boot: Option<Boot>,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let (image, spec) = (self.images.find(&image)?, handle.spec());
            let snapshot = time_name("before-rebuild-", now_ms() / 1000);
            let image = Swap { from: (spec.image, spec.init), to: (image.fingerprint, image.init) };
            let job = RebuildJob { vps: handle.id, image, snapshot, force, boot };
            self.request_now(asked, handle, job).await
        })
        .await
    }
}

impl JobSpec for RebuildJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Rebuild { force: self.force })
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_image(&self.image.to.0)?;
        context.check_snapshot_free(&self.snapshot)?;
        let spec = context.spec();
        self.image.from = (spec.image, spec.init);
        let admission = context.admit(self.request())?;
        context.check_replaceable()?;
        Ok(admission)
    }

    fn snapshot(&self) -> Option<&SnapshotName> {
        Some(&self.snapshot)
    }

    fn plan(&self) -> Plan {
        let kill = self.force.then_some(KILL);
        let exchange = [
            Step::TakeSnapshot(self.snapshot.clone()),
            Step::CloneIncomingImage(self.image.to.0),
            Step::RetireRoot,
            Step::InstallIncoming,
            Step::WriteGuestFiles,
            Step::Change(self.image.clone().map(|(image, init)| Change::Image(image, init))),
        ];
        let begin = [Step::ReserveSnapshot(self.snapshot.clone())].into_iter().chain(kill);
        Plan::undoable(begin.chain(exchange))
            .and_then([Step::RemoveOutgoing])
            .and_then(self.boot.into_iter().flat_map(Boot::steps))
    }
}
