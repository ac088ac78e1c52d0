//! Making a VPS from another: the same root and limits, other addresses, ids and keys of the host.

use std::net::Ipv4Addr;
use std::sync::Arc;

use insula_types::{DesiredPower, OperationRecord, SnapshotName, VpsId, VpsName, VpsSpec};

use crate::journal::retries::Asked;
use crate::model::job::{Boot, Job};
use crate::model::policy::{Request, admit};
use crate::model::step::CloneSource;
use crate::requests::create::check_hostname;
use crate::requests::snapshots::check_snapshot;
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
    /// Addresses of its first interface; empty: the next free one.
    pub addresses: Vec<Ipv4Addr>,
    /// Boot it, and how.
    pub boot: Option<Boot>,
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
        let model = source.spec();
        admit(Request::Snapshot, model.name.as_str(), source.state())?;
        match &request.snapshot {
            Some(snapshot) => check_snapshot(source, snapshot)?,
            None => self.check_copyable(source)?,
        }
        let hostname = check_hostname(request.hostname.as_deref().unwrap_or(request.name.as_str()))?;
        let networks = model.nics.iter().map(|nic| self.network(nic.network.as_str()));
        let networks = networks.collect::<Result<Vec<_>, _>>()?;
        self.check_room().await?;

        let assigning = self.assigning.lock().await;
        self.check_name(&request.name)?;
        let id = VpsId::new();
        let nics = self.assign_addresses(&id, &networks, &request.addresses).await?;
        let spec = VpsSpec {
            id,
            name: request.name,
            hostname,
            ids: self.assign_ids(&model.features).await?,
            nics,
            power: DesiredPower::Off,
            created_at: now_ms() / 1000,
            delete_protection: false,
            suspension: None,
            revision: 1,
            ..(*model).clone()
        };
        let cloned = CloneSource { vps: source.id, snapshot: request.snapshot };
        let job = Job::CloneVps { vps: id, source: cloned, boot: request.boot };
        let record = self.reserve(asked, spec, job, Some(source)).await?;
        drop(assigning);
        Ok(record)
    }
}
