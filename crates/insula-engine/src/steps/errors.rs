//! The errors of steps whose driver or runtime refuses.

use insula_runtime::cgroup::CgroupError;
use insula_runtime::{GuestRootError, PasswordError};
use insula_types::Reason;

use crate::EngineError;

/// What preparing a root may say.
pub(super) fn not_prepared(error: GuestRootError) -> EngineError {
    EngineError::new(Reason::Internal, "failed to prepare the root").caused_by(error)
}

/// A limit that the kernel refuses to something that runs is no fault of ours.
pub(super) fn limit_error(error: CgroupError) -> EngineError {
    let reason = match &error {
        CgroupError::InUse { .. } => Reason::LimitRefused,
        _ => Reason::Internal,
    };
    let failed = EngineError::new(reason, "failed to change the limits").caused_by(error);
    match reason {
        Reason::LimitRefused => failed.hint("choose a higher limit, or stop the VPS first"),
        _ => failed,
    }
}

/// What writing keys into a root may say.
pub(super) fn ssh_keys_error(error: GuestRootError) -> EngineError {
    let is_full = |error: &GuestRootError| {
        let kind = match error {
            GuestRootError::Refused { source, .. } => source.kind(),
            _ => return false,
        };
        matches!(kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    };
    let reason = match &error {
        error if is_full(error) => Reason::VpsDiskFull,
        GuestRootError::NotAFile { .. } => Reason::FileWrongKind,
        _ => Reason::FileFailed,
    };
    EngineError::new(reason, "failed to write the keys that may log in as root").caused_by(error)
}

/// What setting a password in a root may say.
pub(super) fn password_error(error: PasswordError) -> EngineError {
    let reason = match &error {
        PasswordError::NoSuchUser { .. } => Reason::UserNotFound,
        _ => Reason::Internal,
    };
    EngineError::new(reason, "failed to set the password").caused_by(error)
}
