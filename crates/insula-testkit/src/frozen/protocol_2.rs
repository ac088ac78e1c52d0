//! Version 2 of the protocol between agent and monitor: its messages as they were, without later
//! fields.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The number of the version.
pub const VERSION: u32 = 2;

/// The requests that a monitor of version 2 understood.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Request {
    Hello {
        version: u32,
    },
    /// Plans have a version of their own, and pass through unchanged.
    Start {
        plan: Value,
    },
    Stop {
        timeout_ms: u64,
    },
    Kill,
    Exec(ExecRequest),
    ExecSignal {
        exec: u32,
        signal: i32,
    },
    AttachConsole {
        replay: bool,
    },
    ConsoleResize {
        rows: u16,
        columns: u16,
    },
    Log,
    SetLimits {
        values: Value,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ExecRequest {
    pub exec: u32,
    pub argv: Vec<String>,
    pub environment: Vec<String>,
    pub directory: String,
    pub terminal: Option<TerminalSize>,
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TerminalSize {
    pub rows: u16,
    pub columns: u16,
}

/// The events that a monitor of version 2 sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Event {
    Parked { version: u32 },
    Hello { version: u32, status: Status },
    Phase { status: Status },
    StartFailed { failure: Value },
    Exited { record: ExitRecord },
    ExecStarted { exec: u32 },
    ExecFailed { exec: u32, reason: String, chain: Vec<String> },
    ExecExited { exec: u32, end: Value },
    ConsoleAttached,
    LogEnd,
    LimitsSet,
    Refused { message: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Status {
    pub vps: String,
    pub phase: Phase,
    pub init_pid: Option<i32>,
    pub boots: u32,
    pub started_at_ms: Option<i64>,
    pub ready_at_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Phase {
    Starting,
    Running,
    Ready,
    Stopping,
    Exited,
}

#[derive(Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ExitRecord {
    pub reason: ExitReason,
    pub at_ms: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ExitReason {
    PowerOff,
    Stopped,
    Killed,
    Exited(i32),
    Signal(i32),
    OutOfMemory,
    MonitorLost,
    StartFailed,
}
