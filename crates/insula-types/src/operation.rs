//! Jobs that take longer than a call.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use crate::{OperationId, Reason, RequestId, Requester, TenantName};

/// The kind of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Create a VPS.
    CreateVps,
    /// Boot a VPS.
    StartVps,
    /// End a VPS's processes.
    StopVps,
    /// Stop, then start.
    RestartVps,
    /// Remove a VPS and all that it has, for good.
    DeleteVps,
    /// Change a VPS's limits, profile, labels and other settings.
    UpdateVps,
    /// Rename a VPS.
    RenameVps,
    /// Move a VPS to the trash.
    TrashVps,
    /// Restore a VPS from the trash.
    UndeleteVps,
    /// Create a VPS from the root of another one.
    CloneVps,
    /// Give a VPS a new root from an image.
    RebuildVps,
    /// Freeze a VPS's processes.
    PauseVps,
    /// Thaw a VPS's processes.
    ResumeVps,
    /// Suspend a VPS: stop it, and keep it from starting.
    SuspendVps,
    /// Lift the suspension of a VPS.
    UnsuspendVps,
    /// Set a password inside a VPS.
    SetVpsPassword,
    /// Change which keys may log in as root of a VPS.
    ChangeVpsSshKeys,
    /// Take a snapshot.
    CreateSnapshot,
    /// Reset a VPS's root to a snapshot.
    RestoreSnapshot,
    /// Remove a snapshot.
    DeleteSnapshot,
    /// Build an image from its definition.
    BuildImage,
    /// Remove an image.
    DeleteImage,
    /// Point an alias to an image.
    SetImageAlias,
    /// Remove an alias.
    DeleteImageAlias,
    /// Create a profile.
    CreateProfile,
    /// Change a profile.
    UpdateProfile,
    /// Remove a profile.
    DeleteProfile,
    /// Create a token for a new client.
    CreateAccessToken,
    /// Revoke the access of a client.
    RevokeClient,
}

impl OperationKind {
    /// The word for people and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateVps => "create-vps",
            Self::StartVps => "start-vps",
            Self::StopVps => "stop-vps",
            Self::RestartVps => "restart-vps",
            Self::DeleteVps => "delete-vps",
            Self::UpdateVps => "update-vps",
            Self::RenameVps => "rename-vps",
            Self::TrashVps => "trash-vps",
            Self::UndeleteVps => "undelete-vps",
            Self::CloneVps => "clone-vps",
            Self::RebuildVps => "rebuild-vps",
            Self::PauseVps => "pause-vps",
            Self::ResumeVps => "resume-vps",
            Self::SuspendVps => "suspend-vps",
            Self::UnsuspendVps => "unsuspend-vps",
            Self::SetVpsPassword => "set-vps-password",
            Self::ChangeVpsSshKeys => "change-vps-ssh-keys",
            Self::CreateSnapshot => "create-snapshot",
            Self::RestoreSnapshot => "restore-snapshot",
            Self::DeleteSnapshot => "delete-snapshot",
            Self::BuildImage => "build-image",
            Self::DeleteImage => "delete-image",
            Self::SetImageAlias => "set-image-alias",
            Self::DeleteImageAlias => "delete-image-alias",
            Self::CreateProfile => "create-profile",
            Self::UpdateProfile => "update-profile",
            Self::DeleteProfile => "delete-profile",
            Self::CreateAccessToken => "create-access-token",
            Self::RevokeClient => "revoke-client",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The state of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationState {
    /// It waits for another operation on the same VPS.
    Queued,
    /// Its steps are being carried out.
    Running,
    /// Its steps are being undone.
    Undoing,
    /// Whether its step was done has to be asked elsewhere first, and there was no answer yet.
    #[serde(rename = "in-doubt")]
    InDoubt,
    /// It is done.
    Succeeded,
    /// It failed or was cancelled, and what it had done was undone.
    Failed,
}

impl OperationState {
    /// Whether it is over, and will no longer change.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// How far an operation is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Percent done, 0 to 100.
    pub percent: u8,
    /// What is being done at the moment, for people.
    pub message: String,
}

/// Why an operation failed, as the journal keeps it. Fields may come, none may go: old rows are read for as long as
/// operations are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable reason, in the words of the table of errors. A newer agent may have written one that this one does
    /// not know.
    pub reason: String,
    /// What was being done to what, then each cause below it. Never empty.
    pub messages: Vec<String>,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What went wrong during the rollback: one error chain each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
}

impl Failure {
    /// A failure without causes.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: reason.to_string(), messages: vec![message.into()], hint: None, undo: vec![] }
    }
}

/// An operation as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// Its id.
    pub id: OperationId,
    /// The operation's kind.
    pub kind: OperationKind,
    /// The id of its object: a VPS's id, or an image's fingerprint.
    pub target: String,
    /// The name of its object, for people.
    pub target_name: String,
    /// The job, as JSON: all that its steps need to know.
    pub request: String,
    /// The operation's state.
    pub state: OperationState,
    /// The step that is being carried out or undone, counted from 0.
    pub step: u32,
    /// How far it is.
    pub progress: Progress,
    /// Why it failed, or is being undone.
    pub error: Option<Failure>,
    /// Its steps, described for people.
    pub steps: Vec<String>,
    /// The names of these steps: a newer agent, whose plan may be another, knows by them what was done. Empty when an agent
    /// wrote it that gave steps no names.
    pub step_names: Vec<String>,
    /// What steps found out or were given, by the step's name, as JSON.
    pub outputs: BTreeMap<String, String>,
    /// What the requester should know about the result.
    pub notes: Vec<String>,
    /// The requester.
    pub requester: Requester,
    /// The client's own id for the request, which makes a retry safe.
    pub request_id: Option<RequestId>,
    /// What tells a retry from another request with the same id: a keyed hash of the request, in hexadecimal digits.
    pub digest: String,
    /// The tenant whose VPS it is about.
    pub tenant: Option<TenantName>,
    /// When it began: milliseconds since 1970, UTC.
    pub created_at_ms: i64,
    /// When it last changed: milliseconds since 1970, UTC.
    pub updated_at_ms: i64,
}
