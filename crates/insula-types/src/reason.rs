//! Why something was refused or failed: stable words that programs may branch on.

use std::fmt;
use std::str::FromStr;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)*) => {
        /// Why something was refused or failed. The words are part of the API (`google.rpc.ErrorInfo.reason`) and
        /// never change; new ones may come.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Reason {
            /// All of its values.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable word.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// What it means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)*
                }
            }
        }
    };
}

reasons! {
    /// A field of the request is wrong by itself.
    InvalidArgument = "INVALID_ARGUMENT",
    /// There is no such VPS.
    VpsNotFound = "VPS_NOT_FOUND",
    /// There is no such image.
    ImageNotFound = "IMAGE_NOT_FOUND",
    /// There is no such profile.
    ProfileNotFound = "PROFILE_NOT_FOUND",
    /// There is no such network.
    NetworkNotFound = "NETWORK_NOT_FOUND",
    /// There is no such pool.
    PoolNotFound = "POOL_NOT_FOUND",
    /// The VPS has no such snapshot.
    SnapshotNotFound = "SNAPSHOT_NOT_FOUND",
    /// There is no such operation, or it is no longer kept.
    OperationNotFound = "OPERATION_NOT_FOUND",
    /// Another VPS has the name.
    VpsExists = "VPS_EXISTS",
    /// The VPS has a snapshot of this name.
    SnapshotExists = "SNAPSHOT_EXISTS",
    /// The address is not one that the network may assign.
    AddressOutOfRange = "ADDRESS_OUT_OF_RANGE",
    /// Another VPS has the address.
    AddressInUse = "ADDRESS_IN_USE",
    /// The network has no free address.
    AddressesExhausted = "ADDRESSES_EXHAUSTED",
    /// The host has no free range of user ids.
    IdsExhausted = "IDS_EXHAUSTED",
    /// Another operation works on the VPS.
    VpsBusy = "VPS_BUSY",
    /// The VPS must run for this, but does not.
    VpsNotRunning = "VPS_NOT_RUNNING",
    /// The VPS must be stopped for this, but is not.
    VpsRunning = "VPS_RUNNING",
    /// The VPS is paused, and must be resumed first.
    VpsPaused = "VPS_PAUSED",
    /// The pool is full.
    PoolFull = "POOL_FULL",
    /// The host's own disk is full.
    HostDiskFull = "HOST_DISK_FULL",
    /// The host's kernel or a program lacks what a limit or feature needs.
    FacilityMissing = "FACILITY_MISSING",
    /// The guest could not be booted.
    StartFailed = "START_FAILED",
    /// The guest ended, or the time ran out, before it said that it had booted.
    NotReady = "NOT_READY",
    /// The program could not be executed inside the VPS.
    ExecFailed = "EXEC_FAILED",
    /// The VPS has no such program, or no such working directory.
    CommandNotFound = "COMMAND_NOT_FOUND",
    /// The program exists in the VPS, but can't be executed.
    CommandNotExecutable = "COMMAND_NOT_EXECUTABLE",
    /// The image could not be built.
    BuildFailed = "BUILD_FAILED",
    /// The agent ended during the operation; what was done has been rolled back.
    Interrupted = "INTERRUPTED",
    /// Somebody else has changed the object since the client read it.
    EtagMismatch = "ETAG_MISMATCH",
    /// The request id was used before, for another request.
    RequestIdReused = "REQUEST_ID_REUSED",
    /// The VPS is suspended, and may not be started.
    VpsSuspended = "VPS_SUSPENDED",
    /// The VPS is in the trash.
    VpsDeleted = "VPS_DELETED",
    /// The VPS lives on another host. This one does not run it, and touches nothing that it has.
    VpsElsewhere = "VPS_ELSEWHERE",
    /// The VPS is protected from being deleted.
    DeleteProtected = "DELETE_PROTECTED",
    /// There is a profile of this name already.
    ProfileExists = "PROFILE_EXISTS",
    /// VPSes have the profile.
    ProfileInUse = "PROFILE_IN_USE",
    /// The kernel can't apply these limits to a running VPS, such as less memory than it holds.
    LimitRefused = "LIMIT_REFUSED",
    /// The VPS runs with a monitor of an older version, which does not support the request.
    MonitorTooOld = "MONITOR_TOO_OLD",
    /// The VPS has no such user.
    UserNotFound = "USER_NOT_FOUND",
    /// The operation was cancelled by somebody.
    Cancelled = "CANCELLED",
    /// The operation is over, or beyond the point where it could be cancelled.
    NotCancellable = "NOT_CANCELLABLE",
    /// The events after the cursor are no longer kept.
    CursorExpired = "CURSOR_EXPIRED",
    /// There is no such client of the API.
    ClientNotFound = "CLIENT_NOT_FOUND",
    /// Another client has the name.
    ClientExists = "CLIENT_EXISTS",
    /// The token is wrong, was used, was revoked, or has expired.
    TokenRefused = "TOKEN_REFUSED",
    /// The caller has not proven its identity, or its access was revoked.
    Unauthenticated = "UNAUTHENTICATED",
    /// The client sends too many requests, or asks for too much at once.
    RateLimited = "RATE_LIMITED",
    /// The caller may not do this.
    PermissionDenied = "PERMISSION_DENIED",
    /// The agent does not answer.
    AgentUnreachable = "AGENT_UNREACHABLE",
    /// The VPS has no such file or directory.
    FileNotFound = "FILE_NOT_FOUND",
    /// There is a directory instead of a file, a file instead of a directory, or a pipe, socket or device.
    FileWrongKind = "FILE_WRONG_KIND",
    /// A file could not be read or written inside the VPS.
    FileFailed = "FILE_FAILED",
    /// The VPS's own disk, or a quota inside it, is full.
    VpsDiskFull = "VPS_DISK_FULL",
    /// The client has no such session, or it has ended.
    SessionNotFound = "SESSION_NOT_FOUND",
    /// The message is not the next one of its session, or the input of the session has ended.
    InputOutOfOrder = "INPUT_OUT_OF_ORDER",
    /// A fault of Insula or of its host.
    Internal = "INTERNAL",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason {0:?}")]
pub struct UnknownReason(String);

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        let found = Self::ALL.iter().find(|reason| reason.as_str() == text);
        found.copied().ok_or_else(|| UnknownReason(text.chars().take(80).collect()))
    }
}
