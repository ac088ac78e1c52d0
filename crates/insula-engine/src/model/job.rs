//! What operations do, as data: a job is planned as a fixed list of steps, which [`crate::steps::apply`] carries out.
//!
//! A plan is a pure function of the job, so the journal keeps the job and the number of the step: after a crash the
//! same plan goes on there. Every step may run twice.

use std::time::Duration;

use insula_types::{
    Fingerprint, ImageAlias, InitKind, OperationId, OperationKind, SnapshotName, Suspension, Trash, VpsId,
    VpsName,
};
use serde::{Deserialize, Serialize};

use crate::model::policy::Request;
use crate::model::step::{Change, CloneSource, Step, Swap, Terms};
use crate::requests::changes::UpdateVps;

/// An operation's task, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "kebab-case")]
pub enum Job {
    /// Make the VPS whose spec was journaled with it.
    CreateVps { vps: VpsId, password: Option<String>, boot: Option<Boot> },
    /// Make the VPS whose spec was journaled with it, from another.
    CloneVps { vps: VpsId, source: CloneSource, boot: Option<Boot> },
    /// Boot it.
    StartVps { vps: VpsId, boot: Boot, override_suspension: bool },
    /// Shut it down.
    StopVps { vps: VpsId, stop: Stop },
    /// Shut it down and boot it.
    RestartVps { vps: VpsId, stop: Stop, boot: Boot },
    /// Freeze its processes.
    PauseVps { vps: VpsId },
    /// Thaw its processes.
    ResumeVps { vps: VpsId },
    /// Change what it may use and what is noted about it.
    UpdateVps { vps: VpsId, update: Box<UpdateVps>, terms: Option<Box<Swap<Terms>>> },
    /// Give it another name.
    RenameVps { vps: VpsId, name: Swap<VpsName> },
    /// Hold it.
    SuspendVps { vps: VpsId, suspension: Suspension, stop: Stop },
    /// End the hold.
    UnsuspendVps { vps: VpsId, suspension: Option<Suspension> },
    /// Set a user's password.
    SetVpsPassword { vps: VpsId, user: String, hash: String },
    /// Change which keys may log in as root. `keys`: those it was given.
    ChangeVpsSshKeys { vps: VpsId, add: Vec<String>, remove: Vec<String>, keys: Swap<Vec<String>> },
    /// Give it a new root; the old one becomes a snapshot.
    RebuildVps {
        vps: VpsId,
        image: Swap<(Fingerprint, InitKind)>,
        snapshot: SnapshotName,
        force: bool,
        boot: Option<Boot>,
    },
    /// Move it to the trash.
    TrashVps { vps: VpsId, trash: Trash, name: VpsName, force: bool },
    /// Take it out of the trash.
    UndeleteVps { vps: VpsId, trash: Trash, name: Swap<VpsName> },
    /// Remove it for good.
    DeleteVps { vps: VpsId, force: bool },
    /// Take a snapshot.
    CreateSnapshot { vps: VpsId, snapshot: SnapshotName },
    /// Go back to a snapshot.
    RestoreSnapshot { vps: VpsId, snapshot: SnapshotName },
    /// Remove a snapshot.
    DeleteSnapshot { vps: VpsId, snapshot: SnapshotName },
    /// Build an image from the text of its definition.
    BuildImage { definition: String, alias: ImageAlias, staging: OperationId },
    /// Remove an image.
    DeleteImage { image: Fingerprint },
}

/// How a VPS is booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Whether it is done only when the guest has booted.
    pub wait_ready: bool,
}

/// How a VPS is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Kill it at once.
    pub force: bool,
    /// What the guest has to shut down before it is killed.
    pub timeout_ms: u64,
}

/// What a job does, step by step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// How many of them are taken back when one of them fails. From this step on, what was done stays.
    pub commit: usize,
}

/// What becomes of a job whose agent died in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// It goes on with the step that was under way.
    Resume,
    /// It is taken back: too long to be repeated unasked.
    TakeBack,
}

impl Job {
    /// Its kind.
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::CreateVps { .. } => OperationKind::CreateVps,
            Self::CloneVps { .. } => OperationKind::CloneVps,
            Self::StartVps { .. } => OperationKind::StartVps,
            Self::StopVps { .. } => OperationKind::StopVps,
            Self::RestartVps { .. } => OperationKind::RestartVps,
            Self::PauseVps { .. } => OperationKind::PauseVps,
            Self::ResumeVps { .. } => OperationKind::ResumeVps,
            Self::UpdateVps { .. } => OperationKind::UpdateVps,
            Self::RenameVps { .. } => OperationKind::RenameVps,
            Self::SuspendVps { .. } => OperationKind::SuspendVps,
            Self::UnsuspendVps { .. } => OperationKind::UnsuspendVps,
            Self::SetVpsPassword { .. } => OperationKind::SetVpsPassword,
            Self::ChangeVpsSshKeys { .. } => OperationKind::ChangeVpsSshKeys,
            Self::RebuildVps { .. } => OperationKind::RebuildVps,
            Self::TrashVps { .. } => OperationKind::TrashVps,
            Self::UndeleteVps { .. } => OperationKind::UndeleteVps,
            Self::DeleteVps { .. } => OperationKind::DeleteVps,
            Self::CreateSnapshot { .. } => OperationKind::CreateSnapshot,
            Self::RestoreSnapshot { .. } => OperationKind::RestoreSnapshot,
            Self::DeleteSnapshot { .. } => OperationKind::DeleteSnapshot,
            Self::BuildImage { .. } => OperationKind::BuildImage,
            Self::DeleteImage { .. } => OperationKind::DeleteImage,
        }
    }

    /// The VPS that it works on.
    pub fn vps(&self) -> Option<VpsId> {
        match self {
            Self::CreateVps { vps, .. }
            | Self::CloneVps { vps, .. }
            | Self::StartVps { vps, .. }
            | Self::StopVps { vps, .. }
            | Self::RestartVps { vps, .. }
            | Self::PauseVps { vps }
            | Self::ResumeVps { vps }
            | Self::UpdateVps { vps, .. }
            | Self::RenameVps { vps, .. }
            | Self::SuspendVps { vps, .. }
            | Self::UnsuspendVps { vps, .. }
            | Self::SetVpsPassword { vps, .. }
            | Self::ChangeVpsSshKeys { vps, .. }
            | Self::RebuildVps { vps, .. }
            | Self::TrashVps { vps, .. }
            | Self::UndeleteVps { vps, .. }
            | Self::DeleteVps { vps, .. }
            | Self::CreateSnapshot { vps, .. }
            | Self::RestoreSnapshot { vps, .. }
            | Self::DeleteSnapshot { vps, .. } => Some(*vps),
            Self::BuildImage { .. } | Self::DeleteImage { .. } => None,
        }
    }

    /// The VPS whose root must not change meanwhile, beside the one that it works on.
    pub fn source(&self) -> Option<VpsId> {
        match self {
            Self::CloneVps { source, .. } => Some(source.vps),
            _ => None,
        }
    }

    /// What it wants of its VPS, for the policy; `None` where it makes the VPS, or has none.
    pub fn request(&self) -> Option<Request> {
        Some(match self {
            Self::CreateVps { .. }
            | Self::CloneVps { .. }
            | Self::BuildImage { .. }
            | Self::DeleteImage { .. } => return None,
            Self::StartVps { override_suspension, .. } => {
                Request::Start { override_suspension: *override_suspension }
            }
            Self::StopVps { .. } => Request::Stop,
            Self::RestartVps { .. } => Request::Restart,
            Self::PauseVps { .. } => Request::Pause,
            Self::ResumeVps { .. } => Request::Resume,
            Self::UpdateVps { .. }
            | Self::RenameVps { .. }
            | Self::SetVpsPassword { .. }
            | Self::ChangeVpsSshKeys { .. } => Request::Change,
            Self::SuspendVps { .. } | Self::UnsuspendVps { .. } => Request::Hold,
            Self::RebuildVps { force, .. } => Request::Rebuild { force: *force },
            Self::TrashVps { force, .. } => Request::Trash { force: *force },
            Self::UndeleteVps { .. } => Request::Undelete,
            Self::DeleteVps { force, .. } => Request::Delete { force: *force },
            Self::CreateSnapshot { .. } | Self::DeleteSnapshot { .. } => Request::Snapshot,
            Self::RestoreSnapshot { .. } => Request::Restore,
        })
    }

    /// The id of what it works on.
    pub fn target(&self) -> String {
        match self {
            Self::BuildImage { alias, .. } => alias.to_string(),
            Self::DeleteImage { image } => image.to_string(),
            _ => self.vps().map(|vps| vps.to_string()).unwrap_or_default(),
        }
    }

    /// What becomes of it when the agent dies in the middle.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::BuildImage { .. } => Recovery::TakeBack,
            _ => Recovery::Resume,
        }
    }

    /// The same without what must not be kept when it is over.
    pub fn without_secrets(&self) -> Self {
        match self.clone() {
            Self::CreateVps { vps, boot, .. } => Self::CreateVps { vps, password: None, boot },
            Self::SetVpsPassword { vps, user, .. } => Self::SetVpsPassword { vps, user, hash: String::new() },
            job => job,
        }
    }

    /// Its steps.
    pub fn plan(&self) -> Plan {
        match self.clone() {
            Self::CreateVps { password, boot, .. } => {
                let password = password.map(|hash| Step::SetPassword { user: "root".into(), hash });
                let made = [Step::ReserveVps, Step::GuardAddresses, Step::CloneRoot, Step::WriteGuestFiles];
                Plan::undoable(made.into_iter().chain(password))
                    .and_then(boot.into_iter().flat_map(Boot::steps))
            }
            Self::CloneVps { source, boot, .. } => {
                let made =
                    [Step::ReserveVps, Step::GuardAddresses, Step::CloneFrom(source), Step::WriteGuestFiles];
                Plan::undoable(made).and_then(boot.into_iter().flat_map(Boot::steps))
            }
            Self::StartVps { boot, .. } => Plan::lasting(boot.steps()),
            Self::StopVps { stop, .. } => Plan::lasting([stop.step()]),
            Self::RestartVps { stop, boot, .. } => {
                Plan::lasting(std::iter::once(stop.step()).chain(boot.steps()))
            }
            Self::PauseVps { .. } => Plan::lasting([Step::SetPaused(true)]),
            Self::ResumeVps { .. } => Plan::lasting([Step::SetPaused(false)]),
            Self::UpdateVps { terms, .. } => {
                terms.map_or_else(|| Plan::lasting([]), |terms| plan_update(*terms))
            }
            Self::RenameVps { name, .. } => Plan::undoable([Step::Change(name.map(Change::Name))]),
            Self::SuspendVps { suspension, stop, .. } => {
                let hold = Swap { from: None, to: Some(suspension) };
                Plan::lasting([Step::Change(hold.map(Change::Suspension)), stop.step()])
            }
            Self::UnsuspendVps { suspension, .. } => {
                let was_running = suspension.as_ref().is_some_and(|suspension| suspension.was_running);
                let hold = Swap { from: suspension, to: None }.map(Change::Suspension);
                let boot = was_running.then_some(Step::Launch);
                Plan::lasting([Step::Change(hold)].into_iter().chain(boot))
            }
            Self::SetVpsPassword { user, hash, .. } => Plan::lasting([Step::SetPassword { user, hash }]),
            // Noted last: what could not be written was not given.
            Self::ChangeVpsSshKeys { add, remove, keys, .. } => {
                Plan::lasting([Step::WriteSshKeys { add, remove }, Step::Change(keys.map(Change::SshKeys))])
            }
            Self::RebuildVps { image, snapshot, force, boot, .. } => {
                plan_rebuild(image, snapshot, force).and_then(boot.into_iter().flat_map(Boot::steps))
            }
            Self::TrashVps { trash, name, .. } => {
                let swap = Swap { from: None, to: Some(trash) };
                Plan::lasting([KILL, Step::Change(swap.map(|trash| Change::Trash(trash, name.clone())))])
            }
            Self::UndeleteVps { trash, name, .. } => Plan::undoable([Step::Change(Swap {
                from: Change::Trash(Some(trash), name.from),
                to: Change::Trash(None, name.to),
            })]),
            Self::DeleteVps { .. } => {
                Plan::lasting([KILL, Step::RemoveSnapshotVolumes, Step::RemoveRoot, Step::ForgetVps])
            }
            Self::CreateSnapshot { snapshot, .. } => Plan::undoable([Step::TakeSnapshot(snapshot)]),
            Self::RestoreSnapshot { snapshot, .. } => {
                Plan::undoable([Step::CloneIncoming(snapshot), Step::RetireRoot, Step::InstallIncoming])
                    .and_then([Step::RemoveOutgoing])
            }
            Self::DeleteSnapshot { snapshot, .. } => {
                Plan::lasting([Step::RemoveSnapshotVolume(snapshot.clone()), Step::ForgetSnapshot(snapshot)])
            }
            Self::BuildImage { definition, alias, staging } => Plan::undoable([
                Step::BuildTree { definition: definition.clone(), staging },
                Step::PublishImage { definition, staging, alias },
            ]),
            Self::DeleteImage { image } => {
                Plan::lasting([Step::ForgetImage(image), Step::RemoveImageVolume(image)])
            }
        }
    }
}

const KILL: Step = Step::ShutDown { force: true, timeout: Duration::ZERO };

/// All limits or none.
fn plan_update(terms: Swap<Terms>) -> Plan {
    let limits = Swap { from: terms.from.limits.clone(), to: terms.to.limits.clone() };
    let disk = (limits.from.disk != limits.to.disk).then(|| Step::SetDiskLimit(limits.clone()));
    let live = (limits.from != limits.to).then(|| Step::SetLimits(limits.clone()));
    let on_crash = |terms: &Terms| terms.supervision.on_crash.unwrap_or_default();
    let on_crash = Swap { from: on_crash(&terms.from), to: on_crash(&terms.to) };
    let told = (on_crash.from != on_crash.to).then_some(Step::SetOnCrash(on_crash));
    let noted = Step::Change(terms.map(|terms| Change::Terms(Box::new(terms))));
    Plan::undoable(disk.into_iter().chain(live).chain(told).chain([noted]))
}

fn plan_rebuild(image: Swap<(Fingerprint, InitKind)>, snapshot: SnapshotName, force: bool) -> Plan {
    let kill = force.then_some(KILL);
    let exchange = [
        Step::TakeSnapshot(snapshot.clone()),
        Step::CloneIncomingImage(image.to.0),
        Step::RetireRoot,
        Step::InstallIncoming,
        Step::WriteGuestFiles,
        Step::Change(image.map(|(image, init)| Change::Image(image, init))),
    ];
    let begin = [Step::ReserveSnapshot(snapshot)].into_iter().chain(kill);
    Plan::undoable(begin.chain(exchange)).and_then([Step::RemoveOutgoing])
}

impl Boot {
    fn steps(self) -> impl Iterator<Item = Step> {
        [Some(Step::Launch), self.wait_ready.then_some(Step::AwaitReady)].into_iter().flatten()
    }
}

impl Stop {
    fn step(self) -> Step {
        Step::ShutDown { force: self.force, timeout: Duration::from_millis(self.timeout_ms) }
    }
}

impl<T> Swap<T> {
    /// The same of something that is made of it.
    pub fn map<U>(self, make: impl Fn(T) -> U) -> Swap<U> {
        Swap { from: make(self.from), to: make(self.to) }
    }
}

impl Plan {
    /// Nothing of it is taken back: what it wants is also what a second try wants.
    fn lasting(steps: impl IntoIterator<Item = Step>) -> Self {
        Self { steps: steps.into_iter().collect(), commit: 0 }
    }

    /// All of it is taken back when a step fails.
    fn undoable(steps: impl IntoIterator<Item = Step>) -> Self {
        let steps: Vec<Step> = steps.into_iter().collect();
        Self { commit: steps.len(), steps }
    }

    /// With more steps, behind the point of no return.
    fn and_then(mut self, steps: impl IntoIterator<Item = Step>) -> Self {
        self.steps.extend(steps);
        self
    }

    /// Whether it can be given up while this step is under way.
    pub fn is_cancellable(&self, step: usize) -> bool {
        step < self.commit || self.is_waiting(step)
    }

    /// Whether it does nothing but wait in this step.
    pub fn is_waiting(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(Step::is_wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Vec<Job> {
        let vps = VpsId::new();
        let snapshot: SnapshotName = "one".parse().unwrap();
        let (boot, stop) = (Boot { wait_ready: true }, Stop { force: false, timeout_ms: 1000 });
        let (name, other): (VpsName, VpsName) = ("web1".parse().unwrap(), "web2".parse().unwrap());
        let suspension = Suspension { reason: "unpaid".to_owned(), at_ms: 1, was_running: true };
        let trash = Trash { deleted_at_ms: 1, expires_at_ms: 2 };
        let image = (Fingerprint::from_bytes([0; 32]), InitKind::Systemd);
        vec![
            Job::CreateVps { vps, password: None, boot: None },
            Job::CreateVps { vps, password: Some("$6$x".to_owned()), boot: Some(boot) },
            Job::CloneVps { vps, source: CloneSource { vps, snapshot: None }, boot: None },
            Job::StartVps { vps, boot: Boot { wait_ready: false }, override_suspension: true },
            Job::StopVps { vps, stop },
            Job::RestartVps { vps, stop, boot },
            Job::PauseVps { vps },
            Job::ResumeVps { vps },
            Job::RenameVps { vps, name: Swap { from: name.clone(), to: other.clone() } },
            Job::SuspendVps { vps, suspension: suspension.clone(), stop },
            Job::UnsuspendVps { vps, suspension: Some(suspension) },
            Job::SetVpsPassword { vps, user: "root".to_owned(), hash: "$6$x".to_owned() },
            Job::ChangeVpsSshKeys {
                vps,
                add: vec!["ssh-ed25519 AAAA".to_owned()],
                remove: vec![],
                keys: Swap { from: vec![], to: vec!["ssh-ed25519 AAAA".to_owned()] },
            },
            Job::RebuildVps {
                vps,
                image: Swap { from: image, to: image },
                snapshot: snapshot.clone(),
                force: true,
                boot: Some(boot),
            },
            Job::TrashVps { vps, trash, name: name.clone(), force: true },
            Job::UndeleteVps { vps, trash, name: Swap { from: name, to: other } },
            Job::DeleteVps { vps, force: false },
            Job::CreateSnapshot { vps, snapshot: snapshot.clone() },
            Job::RestoreSnapshot { vps, snapshot: snapshot.clone() },
            Job::DeleteSnapshot { vps, snapshot },
            Job::BuildImage {
                definition: "x".into(),
                alias: "debian-12".parse().unwrap(),
                staging: OperationId::new(),
            },
            Job::DeleteImage { image: image.0 },
        ]
    }

    #[test]
    fn the_journal_gives_back_the_same_plan() {
        for job in jobs() {
            let again: Job = serde_json::from_str(&serde_json::to_string(&job).unwrap()).unwrap();
            assert_eq!((again.plan(), again.kind(), again.target()), (job.plan(), job.kind(), job.target()));
        }
    }

    #[test]
    fn a_plan_has_steps_and_commits_within_them() {
        for job in jobs() {
            let plan = job.plan();
            assert!(!plan.steps.is_empty() && plan.commit <= plan.steps.len(), "{job:?}");
        }
    }

    #[test]
    fn no_secret_is_kept_when_it_is_over() {
        for job in jobs() {
            let kept = serde_json::to_string(&job.without_secrets()).unwrap();
            assert!(!kept.contains("$6$"), "{kept}");
        }
    }

    #[test]
    fn what_is_committed_can_only_be_given_up_while_it_waits() {
        let boot = Some(Boot { wait_ready: true });
        let plan = Job::CreateVps { vps: VpsId::new(), password: None, boot }.plan();
        let cancellable: Vec<bool> = (0..plan.steps.len()).map(|step| plan.is_cancellable(step)).collect();
        assert_eq!(cancellable, [true, true, true, true, false, true]);
    }
}
