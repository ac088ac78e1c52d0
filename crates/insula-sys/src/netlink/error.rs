//! Why a request to the kernel over netlink failed.

use std::io;

use netlink_packet_core::DecodeError;

/// How often a list is read that changes while it is being read.
pub const DUMP_ATTEMPTS: u32 = 16;

/// Why the kernel's network configuration could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused.
    #[error("failed to {what}{}", .detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default())]
    Refused {
        /// What was being done, to what.
        what: String,
        /// The kernel's own message, if it gave one.
        detail: Option<String>,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The socket could not be opened, written or read.
    #[error("failed to {what}: no talk with the kernel over netlink")]
    Socket {
        /// What was being done, to what.
        what: String,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer is not understood.
    #[error("failed to {what}: the kernel's answer is not understood")]
    Answer {
        /// What was being done, to what.
        what: String,
        /// What is wrong with it.
        #[source]
        source: DecodeError,
    },
    /// The list that was to be read changed during each attempt.
    #[error("failed to {what}: it changed {DUMP_ATTEMPTS} times while it was being read")]
    Unsteady {
        /// What was being done, to what.
        what: String,
    },
}

impl NetlinkError {
    /// The errno with which the kernel refused. `None` for the other errors.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
