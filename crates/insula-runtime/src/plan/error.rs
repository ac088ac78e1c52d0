//! Why a start can't be planned.

use std::path::PathBuf;

use insula_types::InterfaceName;

use crate::cgroup::CgroupLimitError;

/// The most interfaces that a VPS can have: as many as there are names for the host's ends.
pub const MAX_INTERFACES: usize = 8;

/// Why a start can't be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A limit that the host can't enforce.
    #[error("the limits can't be enforced")]
    Limit(#[from] CgroupLimitError),
    /// The system call filter can't be compiled.
    #[error("failed to compile the system call filter")]
    Seccomp(#[source] libseccomp::error::SeccompError),
    /// The system call filter can't be read back from the library.
    #[error("failed to export the system call filter")]
    SeccompExport(#[source] std::io::Error),
    /// A path that depends on the working directory, or can't be written as JSON.
    #[error("the path {path:?} is not absolute or not UTF-8")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// More interfaces than names.
    #[error("{count} network interfaces are more than {MAX_INTERFACES}")]
    Interfaces {
        /// The number of interfaces.
        count: usize,
    },
    /// Interfaces that are connected to nothing, or the other way round.
    #[error("{nics} network interfaces can't be connected in {attachments} ways, one for each")]
    Attachments {
        /// The number of interfaces.
        nics: usize,
        /// The number of ways to connect them.
        attachments: usize,
    },
    /// A way to connect an interface that no monitor knows.
    #[error(
        "an interface that is routed to {uplink} can't be made: monitors connect interfaces with bridges only"
    )]
    Routed {
        /// The host's interface that it would be routed to.
        uplink: InterfaceName,
    },
    /// A file for `/run` whose path leaves it.
    #[error("the path {path:?} of a file for /run is not relative and plain")]
    RunFile {
        /// The path.
        path: String,
    },
    /// A device that a feature names and the host does not have.
    #[error("the host has no device /dev/{name}")]
    Device {
        /// Its path below `/dev`.
        name: String,
    },
    /// A name for the guest that the kernel would refuse.
    #[error("the host name {hostname:?} is empty or longer than 64 bytes")]
    Hostname {
        /// The name.
        hostname: String,
    },
    /// A start from a checkpoint: no monitor can do that yet.
    #[error("restoring a guest from the checkpoint {images:?} is not implemented yet")]
    Restore {
        /// The directory of the checkpoint.
        images: PathBuf,
    },
}
