//! Makes a VPS: from what is asked for to a spec with an image, limits, addresses and ids.

use std::net::IpAddr;

use insula_runtime::cgroup::plan_limits;
use insula_runtime::hash_password;
use insula_types::{
    DesiredPower, Features, IdRange, ImageRef, Labels, Limits, NetworkName, NicAddresses, OperationId,
    OperationKind, OperationRecord, Placement, PoolName, Profile, ProfileName, Reason, Supervision,
    TenantName, VpsId, VpsName, VpsSpec,
};
use serde::{Deserialize, Serialize};

use crate::host::features::check_features;
use crate::host::pools::HostPool;
use crate::jobs::spec::{JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::checks::{check_hostname, check_ssh_key, list, name_taken};
use crate::model::plan::{Boot, Plan};
use crate::model::step::Step;
use crate::vps::handle::Work;
use crate::{Engine, EngineError, now_ms};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct CreateVps {
    /// Its name.
    pub name: VpsName,
    /// Its image.
    pub image: ImageRef,
    /// Its profile; absent: the host's default.
    pub profile: Option<ProfileName>,
    /// What differs from the profile.
    pub limits: Limits,
    /// What is open to it; absent: the features of the profile.
    pub features: Option<Features>,
    /// What it calls itself; absent: its name.
    pub hostname: Option<String>,
    /// Its networks; empty: those of the profile.
    pub networks: Vec<NetworkName>,
    /// Addresses that it is to have, each of one of its networks. A network without one gives its next free one.
    pub addresses: Vec<IpAddr>,
    /// Public keys that may log in as root.
    pub ssh_keys: Vec<String>,
    /// Boot it.
    pub start: bool,
    /// Be done only when it has booted.
    pub wait_ready: bool,
    /// Whose it is.
    pub tenant: Option<TenantName>,
    /// Labels: what clients note about it, such as the id of a service in their own database.
    pub labels: Labels,
    /// Root's password.
    pub password: Option<String>,
    /// Whether it refuses to be deleted.
    pub delete_protection: bool,
    /// What differs from the profile of what follows when it crashes or the host boots.
    pub supervision: Supervision,
}

/// Make the VPS whose spec was journaled with it. It has no turn to wait for: the VPS is there from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreateJob {
    pub vps: VpsId,
    /// The hash of root's password; none when it is over.
    pub password: Option<String>,
    pub boot: Option<Boot>,
}

impl JobSpec for CreateJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn plan(&self) -> Plan {
        let password = self.password.clone();
        let password = password.map(|hash| Step::SetPassword { user: "root".into(), hash });
        let made = [Step::ReserveVps, Step::GuardAddresses, Step::CloneRoot, Step::WriteGuestFiles];
        Plan::undoable(made.into_iter().chain(password)).and_then(self.boot.into_iter().flat_map(Boot::steps))
    }

    fn forget_secrets(&mut self) {
        self.password = None;
    }
}

impl Engine {
    /// Makes a VPS. Whatever is wrong with the request is said before anything is touched.
    pub async fn create_vps(
        &self,
        asked: &Asked,
        request: CreateVps,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || self.create_now(asked, request)).await
    }

    async fn create_now(&self, asked: &Asked, request: CreateVps) -> Result<OperationRecord, EngineError> {
        let (image, pool) = (self.images.find(&request.image)?, self.pools.default());
        pool.check_image(&image)?;
        let profile = self.profiles.find(request.profile.as_ref())?;
        let limits = request.limits.clone().or(&profile.limits);
        limits.check().map_err(|error| EngineError::invalid("limits", error))?;
        self.check_enforceable(pool, &limits)?;
        let features = request.features.clone().unwrap_or(profile.features.clone());
        check_features(&features)?;
        request.supervision.check().map_err(|error| EngineError::invalid("supervision", error))?;
        let hostname = check_hostname(request.hostname.as_deref().unwrap_or(request.name.as_str()))?;
        let ssh_keys =
            request.ssh_keys.iter().map(|key| check_ssh_key(key)).collect::<Result<Vec<_>, _>>()?;
        let nics = self.networks.wanted_nics(&request.networks, &profile)?;
        pool.check_room().await?;
        let password = match &request.password {
            Some(password) => Some(hashed(password).await?),
            None => None,
        };

        let assigning = self.assigning.lock().await;
        self.check_name(&request.name)?;
        let id = VpsId::new();
        let (nics, addresses) = self.networks.assign(&id, &nics, &request.addresses).await?;
        let ids = self.ids.assign(&features, &self.table.taken_ids()).await?;
        let spec = VpsSpec {
            id,
            name: request.name,
            hostname,
            image: image.fingerprint,
            init: image.init,
            profile: profile.name,
            limits,
            own_limits: request.limits,
            features,
            own_features: request.features,
            supervision: request.supervision.or(&profile.supervision),
            own_supervision: request.supervision,
            nics,
            ssh_keys,
            power: DesiredPower::Off,
            created_at: now_ms() / 1000,
            tenant: request.tenant,
            labels: request.labels,
            delete_protection: request.delete_protection,
            suspension: None,
            trash: None,
            revision: 1,
            placement: self.first_placement(pool.name().clone(), ids, addresses),
        };
        let boot = request.start.then_some(Boot { wait_ready: request.wait_ready });
        let work = Work::new(OperationId::new(), OperationKind::CreateVps, Some(id));
        let job = CreateJob { vps: id, password, boot };
        let record = self.reserve(asked, work, spec, job, None).await?;
        drop(assigning);
        Ok(record)
    }

    /// The place of a VPS that is new here.
    pub(crate) fn first_placement(&self, pool: PoolName, ids: IdRange, addresses: NicAddresses) -> Placement {
        Placement { host_id: self.host_id(), epoch: Placement::FIRST_EPOCH, pool, ids, addresses }
    }

    pub(crate) fn check_name(&self, name: &VpsName) -> Result<(), EngineError> {
        match self.table.find(name.as_str()) {
            Ok(_) => Err(name_taken(name)),
            Err(_) => Ok(()),
        }
    }

    /// A limit that can't be enforced is refused, never ignored.
    pub(crate) fn check_enforceable(&self, pool: &HostPool, limits: &Limits) -> Result<(), EngineError> {
        self.judge_limits(pool, limits).map_err(|error| {
            let can_be_held = |profile: &Profile| self.judge_limits(pool, &profile.limits).is_ok();
            let profiles: Vec<_> = self.profiles.all().into_iter().filter(can_be_held).collect();
            match profiles.is_empty() {
                true => error,
                false => error.hint(format!(
                    "leave this limit out; profiles that this host can enforce: {}",
                    list(profiles.iter().map(|profile| &profile.name))
                )),
            }
        })
    }

    fn judge_limits(&self, pool: &HostPool, limits: &Limits) -> Result<(), EngineError> {
        pool.check_limit(limits.disk)?;
        plan_limits(&self.layout, limits).map(drop).map_err(|error| {
            EngineError::new(Reason::FacilityMissing, "the host can't enforce the limits").caused_by(error)
        })
    }
}

/// The hash of a password. It is slow on purpose.
pub(crate) async fn hashed(password: &str) -> Result<String, EngineError> {
    let password = password.to_owned();
    crate::blocking("hash a password", move || {
        hash_password(&password).map_err(|error| EngineError::invalid("password", error))
    })
    .await
}
