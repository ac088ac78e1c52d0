//! The states of a VPS, and how its last run ended.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The state of a VPS.
///
/// ```text
/// creating ──> stopped ──> starting ──> running ──> ready
///                 ^            │            │          │
///                 │            v            v          v
///                 ├──────── failed      stopping <─────┤
///                 └────────────────────────┘      paused <─> ready, running
/// running, ready ──> waiting ──> starting, stopped, failed
/// stopped, failed ──> suspended ──> stopped
/// any of them ──> deleting, deleted ──> stopped
/// without processes ──> elsewhere
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VpsState {
    /// Its volume and addresses are being created.
    Creating,
    /// It has no process.
    Stopped,
    /// Its init is about to be executed.
    Starting,
    /// Its init is running.
    Running,
    /// The guest has reported that it has booted.
    Ready,
    /// Its processes are frozen.
    Paused,
    /// Its init has been told to shut down.
    Stopping,
    /// It could not be started, or its init ended without having powered off.
    Failed,
    /// Its volume and addresses are being removed.
    Deleting,
    /// It is stopped and suspended: it may not be started.
    Suspended,
    /// It is in the trash.
    Deleted,
    /// Its boots follow each other too quickly. It will be booted again after a pause.
    Waiting,
    /// It lives on another host. This host leaves it alone.
    Elsewhere,
}

impl VpsState {
    /// All states.
    pub const ALL: [Self; 13] = [
        Self::Creating,
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Ready,
        Self::Paused,
        Self::Stopping,
        Self::Failed,
        Self::Deleting,
        Self::Suspended,
        Self::Deleted,
        Self::Waiting,
        Self::Elsewhere,
    ];

    /// The state's word in JSON and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
            Self::Waiting => "waiting",
            Self::Elsewhere => "elsewhere",
        }
    }

    /// Whether the VPS's init is running in this state.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Ready | Self::Paused | Self::Stopping)
    }
}

impl fmt::Display for VpsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for VpsState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("unknown state {text:?}: expected one of {}", known()))
    }
}

/// The power state that the administrator wants. It is kept across restarts of the agent and of the
/// host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredPower {
    /// The VPS should run.
    On,
    /// The VPS should not run.
    Off,
}

/// Why a guest's init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitReason {
    /// The guest called `reboot(2)` to power off or halt.
    PowerOff,
    /// It ended when it was asked to, before the deadline.
    Stopped,
    /// The monitor killed it: at once, or because it did not end before the deadline.
    Killed,
    /// Init exited with this code by itself.
    Exited(i32),
    /// Init was killed by this signal, which the monitor had not sent.
    Signal(i32),
    /// The kernel killed it because memory ran out.
    OutOfMemory,
    /// The monitor ended without reporting a reason, and the guest ended with it.
    MonitorLost,
    /// The boot failed before init was executed.
    StartFailed,
    /// The guest called `reboot(2)` to restart, and was booted again.
    Reboot,
    /// The guest rebooted or crashed too often in a row, and is no longer booted again.
    BootLoop,
    /// It was running when the host went down.
    HostDown,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PowerOff => f.pad("powered off by the guest"),
            Self::Stopped => f.pad("stopped"),
            Self::Killed => f.pad("killed"),
            Self::Exited(code) => write!(f, "init exited with code {code}"),
            Self::Signal(signal) => write!(f, "init was killed by signal {signal}"),
            Self::OutOfMemory => f.pad("init was killed because memory ran out"),
            Self::MonitorLost => f.pad("the monitor was lost"),
            Self::StartFailed => f.pad("it could not be started"),
            Self::Reboot => f.pad("rebooted by the guest"),
            Self::HostDown => f.pad("it ended with the host"),
            Self::BootLoop => f.pad("it rebooted or crashed repeatedly"),
        }
    }
}

/// How and when a VPS's last run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Why it ended.
    pub reason: ExitReason,
    /// When it ended, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// Details beyond the reason: an error with its causes, or the last lines of the console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
