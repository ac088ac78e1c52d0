//! The steps that jobs are made of, as data. [`crate::steps::apply`] carries them out.

use std::time::Duration;

use insula_types::{
    CrashPolicy, Features, Fingerprint, ImageAlias, ImageInfo, InitKind, Labels, Limits, OperationId,
    ProfileName, SnapshotName, Supervision, Suspension, TenantName, Trash, VpsId, VpsName, VpsSpec,
};
use serde::{Deserialize, Serialize};

/// One step: idempotent, with an undo where the plan needs one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Let its interfaces send from its addresses only. Undone: no such rule.
    GuardAddresses,
    /// Clone the root from the image. Undone: no root.
    CloneRoot,
    /// Clone the root from another VPS, and make it a machine of its own. Undone: no root.
    CloneFrom(CloneSource),
    /// Write host name, keys and resolver into the root. Undone with the root.
    WriteGuestFiles,
    /// Set a user's password in the root. Undone with the root, if at all.
    SetPassword { user: String, hash: String },
    /// Put keys into root's file of those that may log in, and take others out.
    WriteSshKeys { add: Vec<String>, remove: Vec<String> },
    /// Note that a VPS whose making failed no longer exists. Runs only when it is undone.
    ReserveVps,
    /// Note that the VPS should run, and execute its init.
    Launch,
    /// Wait until the guest has booted; other operations may come in.
    AwaitReady,
    /// Note that the VPS should not run, and end its processes.
    ShutDown { force: bool, timeout: Duration },
    /// Freeze or thaw the processes.
    SetPaused(bool),
    /// Limit what it may write. Undone: to what the limit was.
    SetDiskLimit(Swap<Limits>),
    /// Give what runs its limits. Undone: to what they were.
    SetLimits(Swap<Limits>),
    /// Tell the monitor of what runs what follows when it crashes. Undone: what it was.
    SetOnCrash(Swap<CrashPolicy>),
    /// Change what is written down of the VPS. Undone: to what was.
    Change(Swap<Change>),
    /// Remove the snapshots' volumes.
    RemoveSnapshotVolumes,
    /// Remove the root.
    RemoveRoot,
    /// Forget the VPS, its addresses, its ids, and the rule for its interfaces.
    ForgetVps,
    /// Note that a snapshot that was not taken no longer exists. Runs only when it is undone.
    ReserveSnapshot(SnapshotName),
    /// Take the snapshot. Undone: no volume, no row.
    TakeSnapshot(SnapshotName),
    /// Clone the snapshot beside the root. Undone: no such clone.
    CloneIncoming(SnapshotName),
    /// Clone the image beside the root. Undone: no such clone.
    CloneIncomingImage(Fingerprint),
    /// Move the root away. Undone: moved back.
    RetireRoot,
    /// Put the clone into its place. Undone: put back.
    InstallIncoming,
    /// Remove the old root.
    RemoveOutgoing,
    /// Remove the snapshot's volume.
    RemoveSnapshotVolume(SnapshotName),
    /// Forget the snapshot.
    ForgetSnapshot(SnapshotName),
    /// Build the tree in a staging volume. Undone: no such volume.
    BuildTree { definition: String, staging: OperationId },
    /// Find out what the tree is. Its output: the image.
    FingerprintTree { definition: String, staging: OperationId },
    /// Seal the tree as the image that it was found to be, and point the alias to it.
    PublishImage { staging: OperationId, alias: ImageAlias },
    /// Forget the image.
    ForgetImage(Fingerprint),
    /// Remove the image's volume.
    RemoveImageVolume(Fingerprint),
}

/// What a step found out or was given, for the steps after it, for its undo, and for the agent after this one. The journal
/// has it by the step's name, from the moment on at which the step is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// The image that a tree is.
    Image(Box<ImageInfo>),
}

/// What becomes of an operation whose agent died in the middle of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// It goes on with the step.
    Resume,
    /// It is taken back: the step takes too long to be repeated unasked.
    TakeBack,
    /// Someone else knows whether the step was done, such as another host. The operation is in doubt until there is an answer.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "no step of today has anybody to ask; that of a migration will")
    )]
    Ask,
}

/// What a step changes, and what it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap<T> {
    /// The value before the change.
    pub from: T,
    /// The value after the change.
    pub to: T,
}

/// A root to clone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneSource {
    /// The VPS whose root it is.
    pub vps: VpsId,
    /// Of which time; `None`: as it is now.
    pub snapshot: Option<SnapshotName>,
}

/// What can be changed of what is written down of a VPS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The VPS's name.
    Name(VpsName),
    /// The suspension of the VPS.
    Suspension(Option<Suspension>),
    /// Whether it is in the trash, and the name it has there or takes when it leaves.
    Trash(Option<Trash>, VpsName),
    /// The image of its root.
    Image(Fingerprint, InitKind),
    /// What it may use, and what is noted about it.
    Terms(Box<Terms>),
    /// The keys that its root was given.
    SshKeys(Vec<String>),
}

/// What a VPS may use, and what is noted about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The profile.
    pub profile: ProfileName,
    /// The plan's limits, and its own in their places.
    pub limits: Limits,
    /// Its own limits, in place of the profile's.
    pub own_limits: Limits,
    /// What is open to it.
    #[serde(default)]
    pub features: Features,
    /// Its own features, in place of the profile's.
    #[serde(default)]
    pub own_features: Option<Features>,
    /// What follows when it crashes or the host boots: the plan's, and its own in its place.
    #[serde(default)]
    pub supervision: Supervision,
    /// Its own.
    #[serde(default)]
    pub own_supervision: Supervision,
    /// Labels: what clients note about it, such as the id of a service in their own database.
    pub labels: Labels,
    /// The tenant that owns the VPS.
    pub tenant: Option<TenantName>,
    /// The guest's host name.
    pub hostname: String,
    /// Whether it refuses to be deleted.
    pub delete_protection: bool,
}

impl Terms {
    /// The settings of a VPS.
    pub fn of(spec: &VpsSpec) -> Self {
        Self {
            profile: spec.profile.clone(),
            limits: spec.limits.clone(),
            own_limits: spec.own_limits.clone(),
            features: spec.features.clone(),
            own_features: spec.own_features.clone(),
            supervision: spec.supervision,
            own_supervision: spec.own_supervision,
            labels: spec.labels.clone(),
            tenant: spec.tenant.clone(),
            hostname: spec.hostname.clone(),
            delete_protection: spec.delete_protection,
        }
    }
}

impl Change {
    /// Makes the change.
    pub fn apply(&self, spec: &mut VpsSpec) {
        match self.clone() {
            Self::Name(name) => spec.name = name,
            Self::Suspension(suspension) => spec.suspension = suspension,
            Self::Trash(trash, name) => (spec.trash, spec.name) = (trash, name),
            Self::SshKeys(keys) => spec.ssh_keys = keys,
            Self::Image(image, init) => (spec.image, spec.init) = (image, init),
            Self::Terms(terms) => {
                let terms = *terms;
                (spec.profile, spec.limits, spec.own_limits) =
                    (terms.profile, terms.limits, terms.own_limits);
                (spec.supervision, spec.own_supervision) = (terms.supervision, terms.own_supervision);
                (spec.labels, spec.tenant) = (terms.labels, terms.tenant);
                (spec.hostname, spec.delete_protection) = (terms.hostname, terms.delete_protection);
                (spec.features, spec.own_features) = (terms.features, terms.own_features);
            }
        }
    }
}

/// The step that finds out which image a tree is.
pub(crate) const FINGERPRINT_TREE: &str = "fingerprint-tree";

impl Step {
    /// What it does, for people.
    pub fn message(&self) -> &'static str {
        match self {
            Self::GuardAddresses => "guarding the addresses",
            Self::CloneRoot | Self::CloneIncomingImage(_) => "cloning the image",
            Self::CloneFrom(_) => "cloning the root",
            Self::WriteGuestFiles => "preparing the root",
            Self::SetPassword { .. } => "setting the password",
            Self::WriteSshKeys { .. } => "writing SSH keys",
            Self::ReserveVps => "assigning name, address and ids",
            Self::Launch => "starting",
            Self::AwaitReady => "booting",
            Self::ShutDown { force: true, .. } => "killing",
            Self::ShutDown { force: false, .. } => "shutting down",
            Self::SetPaused(true) => "freezing",
            Self::SetPaused(false) => "thawing",
            Self::SetDiskLimit(_) => "limiting the disk",
            Self::SetLimits(_) => "setting limits",
            Self::SetOnCrash(_) => "telling the monitor",
            Self::Change(Swap { to: Change::Trash(Some(_), _), .. }) => "moving to the trash",
            Self::Change(_) => "noting the change",
            Self::RemoveSnapshotVolumes => "removing snapshots",
            Self::RemoveRoot => "removing the root",
            Self::ForgetVps => "releasing name, address and ids",
            Self::ReserveSnapshot(_) | Self::TakeSnapshot(_) => "taking the snapshot",
            Self::CloneIncoming(_) => "cloning the snapshot",
            Self::RetireRoot | Self::InstallIncoming => "exchanging the root",
            Self::RemoveOutgoing => "removing the old root",
            Self::RemoveSnapshotVolume(_) | Self::ForgetSnapshot(_) => "removing the snapshot",
            Self::BuildTree { .. } => "building",
            Self::FingerprintTree { .. } => "fingerprinting",
            Self::PublishImage { .. } => "publishing the image",
            Self::ForgetImage(_) | Self::RemoveImageVolume(_) => "removing the image",
        }
    }

    /// Its name in the journal, which stays when the message or the place in the plan changes. No plan has a name twice.
    pub fn name(&self) -> &'static str {
        match self {
            Self::GuardAddresses => "guard-addresses",
            Self::CloneRoot => "clone-root",
            Self::CloneFrom(_) => "clone-from",
            Self::WriteGuestFiles => "write-guest-files",
            Self::SetPassword { .. } => "set-password",
            Self::WriteSshKeys { .. } => "write-ssh-keys",
            Self::ReserveVps => "reserve-vps",
            Self::Launch => "launch",
            Self::AwaitReady => "await-ready",
            Self::ShutDown { .. } => "shut-down",
            Self::SetPaused(_) => "set-paused",
            Self::SetDiskLimit(_) => "set-disk-limit",
            Self::SetLimits(_) => "set-limits",
            Self::SetOnCrash(_) => "set-on-crash",
            Self::Change(_) => "change",
            Self::RemoveSnapshotVolumes => "remove-snapshot-volumes",
            Self::RemoveRoot => "remove-root",
            Self::ForgetVps => "forget-vps",
            Self::ReserveSnapshot(_) => "reserve-snapshot",
            Self::TakeSnapshot(_) => "take-snapshot",
            Self::CloneIncoming(_) => "clone-incoming",
            Self::CloneIncomingImage(_) => "clone-incoming-image",
            Self::RetireRoot => "retire-root",
            Self::InstallIncoming => "install-incoming",
            Self::RemoveOutgoing => "remove-outgoing",
            Self::RemoveSnapshotVolume(_) => "remove-snapshot-volume",
            Self::ForgetSnapshot(_) => "forget-snapshot",
            Self::BuildTree { .. } => "build-tree",
            Self::FingerprintTree { .. } => FINGERPRINT_TREE,
            Self::PublishImage { .. } => "publish-image",
            Self::ForgetImage(_) => "forget-image",
            Self::RemoveImageVolume(_) => "remove-image-volume",
        }
    }

    /// What becomes of its operation when the agent dies in its middle.
    pub fn recovery(&self) -> Recovery {
        match self {
            Self::BuildTree { .. } => Recovery::TakeBack,
            _ => Recovery::Resume,
        }
    }

    /// Whether other operations on the VPS must wait until it is done.
    pub fn is_exclusive(&self) -> bool {
        !self.is_wait()
    }

    /// Whether it only waits, so that it may be given up at any time.
    pub fn is_wait(&self) -> bool {
        matches!(self, Self::AwaitReady)
    }
}
