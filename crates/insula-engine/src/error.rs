//! Errors of the engine: a stable reason, what was being done to what, a hint, and the chain below.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use insula_storage::{PoolError, VolumeError};
use insula_store::StoreError;
use insula_types::Reason;

/// Why the engine refused or failed. Callers branch on [`EngineError::reason`]; the rest is for people.
#[derive(Debug, Clone)]
pub struct EngineError {
    reason: Reason,
    message: String,
    hint: Option<String>,
    field: Option<&'static str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl EngineError {
    /// An error for the reason; the message says what was being done to what.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), hint: None, field: None, source: None }
    }

    /// A field of a request that is wrong by itself.
    pub fn invalid(field: &'static str, message: impl fmt::Display) -> Self {
        Self { field: Some(field), ..Self::new(Reason::InvalidArgument, message.to_string()) }
    }

    /// A fault of Insula or of its host.
    pub fn internal(message: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self::new(Reason::Internal, message).caused_by(source)
    }

    /// What the person can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error below.
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The stable reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// What the person can do, if we know.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The field of the request that is wrong.
    pub fn field(&self) -> Option<&'static str> {
        self.field
    }

    /// The message and those of all errors below, with `: ` between them.
    pub fn chain(&self) -> String {
        self.messages().join(": ")
    }

    /// The message and those of all errors below, outermost first.
    pub fn messages(&self) -> Vec<String> {
        let mut messages = vec![self.message.clone()];
        let mut below = self.source();
        while let Some(error) = below {
            messages.push(error.to_string());
            below = error.source();
        }
        messages
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let refused = |reason| Self::new(reason, "the host's database refused");
        match &error {
            StoreError::DiskFull { .. } => refused(Reason::HostDiskFull)
                .caused_by(error)
                .hint("free some space on the disk of the agent's state directory; guests keep running"),
            _ => refused(Reason::Internal).caused_by(error),
        }
    }
}

impl From<VolumeError> for EngineError {
    fn from(error: VolumeError) -> Self {
        let reason = error.reason();
        let is_read_only = is_read_only(&error);
        let failed = Self::new(reason, "the pool refused").caused_by(error);
        match reason {
            Reason::PoolFull => failed.hint("delete VPSes or snapshots, or enlarge the pool"),
            _ if is_read_only => failed.hint(
                "btrfs stopped writing after an error, such as a full disk of the host: see dmesg, free some space, \
                stop insulad, run insulad --teardown, and start it again",
            ),
            _ => failed,
        }
    }
}

fn is_read_only(error: &VolumeError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        if kind == Some(std::io::ErrorKind::ReadOnlyFilesystem) {
            return true;
        }
        cause = error.source();
    }
    false
}

impl From<PoolError> for EngineError {
    fn from(error: PoolError) -> Self {
        Self::new(error.reason(), "failed to open the pool").caused_by(error)
    }
}
