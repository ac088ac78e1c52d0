//! What every job says of itself, and what it is judged by.
//!
//! A job is judged by one [`JobSpec::check`], when it is accepted and again when its turn comes, if it had to wait.
//! Between the two, others may have changed, protected, or given away its VPS, and have taken the name that it wants.
//!
//! ```text
//!              claim is free: check at its turn
//! asked for ──┬──────────────────────────────────────────────> begun
//!             └─> check in line ─> queued ─> check at its turn ──^
//! ```

use std::fmt;
use std::sync::Arc;

use insula_storage::{Volume, VolumeError};
use insula_types::{
    Fingerprint, ImageAlias, ImageRef, Reason, Requester, SnapshotName, VpsId, VpsName, VpsSpec, VpsState,
};

use crate::model::checks::{name_taken, snapshot_taken};
use crate::model::plan::Plan;
use crate::model::policy::{self, Request};
use crate::vps::table::no_such_vps;
use crate::{Engine, EngineError, VpsHandle};

/// What every job says of itself. The file of a job is all that there is to know of it.
pub(crate) trait JobSpec: fmt::Debug {
    /// What it works on.
    fn target(&self) -> Target;

    /// The VPS whose root must not change meanwhile, beside the one that it works on.
    fn source(&self) -> Option<VpsId> {
        None
    }

    /// What it wants of its VPS, for the policy; `None` where it makes the VPS, or has none.
    fn request(&self) -> Option<Request> {
        None
    }

    /// Whether it may be done to the VPS as it is now. What it has to know of the VPS, it looks up again.
    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.admit(self.request())
    }

    /// The snapshot that it takes, whose name is taken together with the operation's record.
    fn snapshot(&self) -> Option<&SnapshotName> {
        None
    }

    /// Its steps. A pure function: the same job, read from the journal, has the same steps.
    fn plan(&self) -> Plan;

    /// Drops what must not be kept when it is over.
    fn forget_secrets(&mut self) {}
}

/// What a job works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A VPS.
    Vps(VpsId),
    /// An image that is there.
    Image(Fingerprint),
    /// An image that is being built.
    NewImage(ImageAlias),
}

impl Target {
    /// The VPS, where it is one.
    pub fn vps(&self) -> Option<VpsId> {
        match self {
            Self::Vps(vps) => Some(*vps),
            Self::Image(_) | Self::NewImage(_) => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vps(vps) => vps.fmt(f),
            Self::Image(image) => image.fmt(f),
            Self::NewImage(alias) => alias.fmt(f),
        }
    }
}

/// What a check says of a job that may be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Admission {
    /// Whether it has anything to do.
    pub is_needed: bool,
    /// What the client should know about the result.
    pub notes: Vec<String>,
}

/// When a job is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Others work on its VPS. The state that it will meet is not known yet.
    InLine,
    /// Nobody else works on its VPS.
    AtItsTurn,
}

/// What a job is judged by: the host and the VPS, as they are now.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub engine: &'a Engine,
    pub vps: &'a Arc<VpsHandle>,
    requester: &'a Requester,
    moment: Moment,
    /// What the VPS was left as: that it is being worked on, by this operation, would be a state of its own.
    pub state: VpsState,
}

impl<'a> Context<'a> {
    pub fn new(
        engine: &'a Engine,
        vps: &'a Arc<VpsHandle>,
        requester: &'a Requester,
        moment: Moment,
    ) -> Self {
        Self { engine, vps, requester, moment, state: vps.resting_state() }
    }

    /// Whether the job may be done: the VPS is there, the requester may still reach it, and its own check agrees.
    pub fn judge(&self, job: &mut dyn JobSpec) -> Result<Admission, EngineError> {
        self.check_reachable()?;
        job.check(self)
    }

    /// Refuses a VPS that has gone meanwhile, or to another tenant.
    pub fn check_reachable(&self) -> Result<(), EngineError> {
        let spec = self.spec();
        if self.engine.table.by_id(&self.vps.id).is_none() {
            let message = format!("VPS {:?} has just been deleted", spec.name.as_str());
            return Err(EngineError::new(Reason::VpsNotFound, message));
        }
        // A client of a tenant meets VPSes of others as if they were not there: its new name is none of its business.
        if self.requester.tenant.is_some() && self.requester.tenant != spec.tenant {
            return Err(no_such_vps(&self.vps.id.to_string()));
        }
        Ok(())
    }

    /// The VPS as it should be.
    pub fn spec(&self) -> Arc<VpsSpec> {
        self.vps.spec()
    }

    /// Asks the policy, if the state is known that the job will meet.
    pub fn admit(&self, request: Option<Request>) -> Result<Admission, EngineError> {
        let is_needed = match (self.moment, request) {
            (Moment::AtItsTurn, Some(request)) => {
                policy::admit(request, self.vps.name().as_str(), self.state)?
            }
            _ => true,
        };
        Ok(Admission { is_needed, notes: vec![] })
    }

    /// Refuses what would destroy a VPS that is protected.
    pub fn check_unprotected(&self) -> Result<(), EngineError> {
        let spec = self.spec();
        if !spec.delete_protection {
            return Ok(());
        }
        let message = format!("VPS {:?} is protected from deletion", spec.name.as_str());
        let hint = format!("insula set {} delete-protection=false", spec.name);
        Err(EngineError::new(Reason::DeleteProtected, message).hint(hint))
    }

    /// Refuses a name that another VPS has.
    pub fn check_name_free(&self, name: &VpsName) -> Result<(), EngineError> {
        match self.engine.table.find(name.as_str()) {
            Ok(other) if other.id != self.vps.id => Err(name_taken(name)),
            _ => Ok(()),
        }
    }

    /// Refuses a name that another snapshot of the VPS has.
    pub fn check_snapshot_free(&self, name: &SnapshotName) -> Result<(), EngineError> {
        match self.has_snapshot(name) {
            true => Err(snapshot_taken(name)),
            false => Ok(()),
        }
    }

    /// Refuses a snapshot that the VPS does not have.
    pub fn check_snapshot(&self, name: &SnapshotName) -> Result<(), EngineError> {
        if self.has_snapshot(name) {
            return Ok(());
        }
        let vps = self.vps.name();
        let message = format!("VPS {:?} has no snapshot {:?}", vps.as_str(), name.as_str());
        Err(EngineError::new(Reason::SnapshotNotFound, message)
            .hint(format!("list its snapshots: insula snapshot list {vps}")))
    }

    /// Refuses an image that is no longer there.
    pub fn check_image(&self, image: &Fingerprint) -> Result<(), EngineError> {
        let image = self.engine.images.find(&ImageRef::Prefix(image.to_string()))?;
        self.engine.pools.of(&self.spec())?.check_image(&image)
    }

    /// Refuses to replace a root while one that was replaced before is still there: to the driver the two together are a
    /// replacement of which it may take back what the VPS has written since.
    pub fn check_replaceable(&self) -> Result<(), EngineError> {
        let spec = self.spec();
        match self.engine.pools.of(&spec)?.driver().open(&Volume::Outgoing(spec.id)) {
            Err(VolumeError::Missing(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let name = &spec.name;
        let message =
            format!("an earlier replacement of the root of VPS {:?} was not completed", name.as_str());
        Err(EngineError::new(Reason::Internal, message).hint(format!(
            "see why: insula operation list --vps {name}; insulad removes the old root when it starts again"
        )))
    }

    fn has_snapshot(&self, name: &SnapshotName) -> bool {
        self.vps.snapshots().iter().any(|snapshot| snapshot.name == *name)
    }
}
