//! Why a monitor could not do what it was asked for: the start of a guest, or a program in it.

use serde::{Deserialize, Serialize};

/// The part of a start that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartPhase {
    /// The monitor opened its socket and its files.
    Prepare,
    /// Groups and limits.
    Cgroup,
    /// The console's terminal.
    Console,
    /// Making the process and its namespaces.
    Clone,
    /// The id map.
    Ids,
    /// The root volume.
    Root,
    /// File systems and devices.
    Mounts,
    /// Interfaces, addresses and routes.
    Network,
    /// Capabilities, system call filter, keyring.
    Security,
    /// Executing init.
    Execute,
    /// A phase of a newer version.
    #[serde(other)]
    Unknown,
}

/// Why a guest could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the start failed in phase {phase:?}: {}", chain.join(": "))]
pub struct StartFailure {
    /// The phase that failed.
    pub phase: StartPhase,
    /// What was being done, then the causes.
    pub chain: Vec<String>,
    /// The kernel's errno, if it was the kernel that refused.
    pub errno: Option<i32>,
}

impl StartFailure {
    /// A failure with the error's chain.
    pub(crate) fn new(phase: StartPhase, error: &(dyn std::error::Error + 'static)) -> Self {
        let (chain, errno) = chain_of(error);
        Self { phase, chain, errno }
    }

    /// A failure of the kernel in doing `what`.
    pub(crate) fn at(phase: StartPhase, what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        move |error| Self { phase, chain: vec![what.into(), error.to_string()], errno: error.raw_os_error() }
    }
}

/// The messages of an error and its causes, and the errno of the last that has one.
pub(crate) fn chain_of(error: &(dyn std::error::Error + 'static)) -> (Vec<String>, Option<i32>) {
    let (mut chain, mut errno, mut next) = (vec![], None, Some(error));
    while let Some(error) = next {
        chain.push(error.to_string());
        errno = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).or(errno);
        next = error.source();
    }
    (chain, errno)
}

/// Why a program could not be run in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecFailure {
    /// The guest has no such program.
    NotFound,
    /// It is there and can't be executed.
    NotExecutable,
    /// The guest is not running.
    NotRunning,
    /// The guest is paused.
    Paused,
    /// Too many programs at once.
    TooMany,
    /// Anything else.
    #[serde(other)]
    Other,
}

impl ExecFailure {
    /// The exit code that a shell has for it: 127, 126, or 125 as env(1) has for a failure of its own.
    pub fn exit_code(self) -> i32 {
        match self {
            Self::NotFound => 127,
            Self::NotExecutable => 126,
            _ => 125,
        }
    }
}
