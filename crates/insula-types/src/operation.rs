//! Operations: jobs that take longer than one call, as clients and the journal see them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

use crate::{OperationId, Reason, RequestId, Requester, TenantName};

/// The kind of an operation: what it does, and to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Create a VPS.
    CreateVps,
    /// Boot a VPS.
    StartVps,
    /// Stop a VPS.
    StopVps,
    /// Stop a VPS, then start it.
    RestartVps,
    /// Remove a VPS and all that belongs to it, for good.
    DeleteVps,
    /// Change the limits, features or notes of a VPS.
    UpdateVps,
    /// Rename a VPS.
    RenameVps,
    /// Move a VPS to the trash.
    TrashVps,
    /// Restore a VPS from the trash.
    UndeleteVps,
    /// Create a VPS as a copy of another.
    CloneVps,
    /// Give a VPS a new root from an image.
    RebuildVps,
    /// Freeze a VPS's processes.
    PauseVps,
    /// Thaw a VPS's processes.
    ResumeVps,
    /// Suspend a VPS: place an administrative hold on it.
    SuspendVps,
    /// Unsuspend a VPS: end the hold on it.
    UnsuspendVps,
    /// Set a password inside a VPS.
    SetVpsPassword,
    /// Change which keys may log in as root of a VPS.
    ChangeVpsSshKeys,
    /// Take a snapshot.
    CreateSnapshot,
    /// Roll a VPS's root back to a snapshot.
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
    /// The kind's word in JSON and in messages.
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
    /// It waits until another operation on the same VPS has ended.
    Queued,
    /// Its steps are running.
    Running,
    /// Its steps are being undone.
    Undoing,
    /// Another host has to be asked whether its current step was done, and has not answered yet.
    #[serde(rename = "in-doubt")]
    InDoubt,
    /// It succeeded.
    Succeeded,
    /// It failed, and its steps have been undone.
    Failed,
}

impl OperationState {
    /// Whether the state is final and will not change again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// How far an operation has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The part that is done, in percent, 0 to 100.
    pub percent: u8,
    /// What the operation is doing now, for people.
    pub message: String,
}

/// Why an operation failed, as the journal keeps it. Fields may be added but not removed, because
/// old rows are read for as long as operations are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The stable reason. It is a text because a newer agent may have written a reason that this
    /// one does not know.
    pub reason: String,
    /// First what was being done to what, then each cause below it. Never empty.
    pub messages: Vec<String>,
    /// What a person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The errors that occurred while the operation was undone, one chain of causes each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undo: Vec<String>,
}

impl Failure {
    /// Makes a failure without further causes.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason: reason.to_string(), messages: vec![message.into()], hint: None, undo: vec![] }
    }
}

/// An operation as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// The operation's id.
    pub id: OperationId,
    /// What the operation does.
    pub kind: OperationKind,
    /// The id of the object that the operation is about, such as a VPS id or a fingerprint.
    pub target: String,
    /// The name of that object, for people.
    pub target_name: String,
    /// What the operation's steps need to know, as JSON.
    pub request: String,
    /// The operation's state.
    pub state: OperationState,
    /// The number of the step that is being done or undone, counted from 0.
    pub step: u32,
    /// How far the operation has come.
    pub progress: Progress,
    /// Why the operation failed, or is being undone.
    pub error: Option<Failure>,
    /// What the operation does step by step, in words for people.
    pub steps: Vec<String>,
    /// The names of these steps. A newer agent, whose plan may differ, sees by them which steps
    /// were done. Empty if the record was written by an agent that gave steps no names.
    pub step_names: Vec<String>,
    /// What steps found out or received, as JSON, by the step's name.
    pub outputs: BTreeMap<String, String>,
    /// What the caller should know about the result.
    pub notes: Vec<String>,
    /// The caller that asked for the operation.
    pub requester: Requester,
    /// The client's id for the request, which makes a retry safe.
    pub request_id: Option<RequestId>,
    /// A keyed hash of the request, in hexadecimal digits. It tells a retry from another request
    /// with the same id.
    pub digest: String,
    /// The tenant whose VPS the operation is about.
    pub tenant: Option<TenantName>,
    /// When the operation was accepted, in milliseconds since 1970, UTC.
    pub created_at_ms: i64,
    /// When the record last changed, in milliseconds since 1970, UTC.
    pub updated_at_ms: i64,
}
