//! Makes a VPS from another: the same root and limits, but addresses, ids and host keys of its own.

use std::net::IpAddr;
use std::sync::Arc;

use insula_types::{
    DesiredPower, OperationId, OperationKind, OperationRecord, SnapshotName, VpsId, VpsName, VpsSpec,
};
use serde::{Deserialize, Serialize};

use crate::host::networks::WantedNic;
use crate::jobs::spec::{Context, JobSpec, Moment, Target};
use crate::model::asked::Asked;
use crate::model::checks::check_hostname;
use crate::model::plan::{Boot, Plan};
use crate::model::policy::Request;
use crate::model::step::{CloneSource, Step};
use crate::vps::handle::Work;
use crate::{Engine, EngineError, VpsHandle, now_ms};

/// What a clone is to be.
#[derive(Debug, Clone)]
pub struct CloneVps {
    /// Its name.
    pub name: VpsName,
    /// The time to clone; absent: now.
    pub snapshot: Option<SnapshotName>,
    /// What it calls itself; absent: its name.
    pub hostname: Option<String>,
    /// Addresses that it is to have, each of one of its networks. A network without one gives its next free one.
    pub addresses: Vec<IpAddr>,
    /// Boot it, and how.
    pub boot: Option<Boot>,
}

/// Make the VPS whose spec was journaled with it, from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CloneJob {
    pub vps: VpsId,
    pub source: CloneSource,
    pub boot: Option<Boot>,
}

impl JobSpec for CloneJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn source(&self) -> Option<VpsId> {
        Some(self.source.vps)
    }

    fn plan(&self) -> Plan {
        let cloned = Step::CloneFrom(self.source.clone());
        Plan::undoable([Step::ReserveVps, Step::GuardAddresses, cloned, Step::WriteGuestFiles])
            .and_then(self.boot.into_iter().flat_map(Boot::steps))
    }
}

impl CloneJob {
    /// Whether the root is there to be cloned, as it is or was.
    fn check_source(&self, context: &Context<'_>) -> Result<(), EngineError> {
        context.check_reachable()?;
        context.admit(Some(Request::Snapshot))?;
        match &self.source.snapshot {
            Some(snapshot) => context.check_snapshot(snapshot),
            None => context.engine.check_copyable(context.vps),
        }
    }
}

impl Engine {
    /// Makes a VPS from the root of another, or from a snapshot of it.
    pub async fn clone_vps(
        &self,
        asked: &Asked,
        source: &Arc<VpsHandle>,
        request: CloneVps,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || self.clone_now(asked, source, request)).await
    }

    async fn clone_now(
        &self,
        asked: &Asked,
        source: &Arc<VpsHandle>,
        request: CloneVps,
    ) -> Result<OperationRecord, EngineError> {
        let id = VpsId::new();
        let cloned = CloneSource { vps: source.id, snapshot: request.snapshot };
        let job = CloneJob { vps: id, source: cloned, boot: request.boot };
        let work = Work::new(OperationId::new(), OperationKind::CloneVps, Some(id));
        let claim = source.claim(work)?; // what is checked of it stays so
        job.check_source(&Context::new(self, source, &asked.requester, Moment::AtItsTurn))?;
        let model = source.spec();
        let hostname = check_hostname(request.hostname.as_deref().unwrap_or(request.name.as_str()))?;
        let nics: Vec<WantedNic> = model.nics.iter().map(WantedNic::like).collect();
        self.pools.of(&model)?.check_room().await?;

        let assigning = self.assigning.lock().await;
        self.check_name(&request.name)?;
        let (nics, addresses) = self.networks.assign(&id, &nics, &request.addresses).await?;
        let ids = self.ids.assign(&model.features, &self.table.taken_ids()).await?;
        let spec = VpsSpec {
            id,
            name: request.name,
            hostname,
            nics,
            power: DesiredPower::Off,
            created_at: now_ms() / 1000,
            delete_protection: false,
            suspension: None,
            revision: 1,
            placement: self.first_placement(model.placement.pool.clone(), ids, addresses),
            ..(*model).clone()
        };
        let record = self.reserve(asked, work, spec, job, Some(claim)).await?;
        drop(assigning);
        Ok(record)
    }
}
