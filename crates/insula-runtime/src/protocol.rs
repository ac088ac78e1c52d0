//! What the agent and a monitor say to each other.
//!
//! One message is one packet of a `SOCK_SEQPACKET` socket: a [`Request`] or an [`Event`] in JSON, or, after a first byte
//! of 0, bytes of the console in either direction. Fields that a reader does not know are ignored, an unknown request is
//! refused, an unknown event skipped: either side may be newer. Descriptors come along with `SCM_RIGHTS` where a message
//! says so.

mod failure;

use insula_files::Job;
use insula_types::{CrashPolicy, ExitRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupValue;
use crate::plan::StartPlan;

pub(crate) use failure::chain_of;
pub use failure::{ExecFailure, StartFailure, StartPhase};

/// The version of the protocol: higher when something new can be asked for or is told. 2: [`Request::SetLimits`]. 3:
/// [`Request::SetOnCrash`], [`Status::boot_at_ms`], [`Status::last_end`]. 4: [`Request::Files`]. 5: [`Request::AttachMount`];
/// plans with layers of a root, or with something to restore.
pub const PROTOCOL_VERSION: u32 = 5;

/// The first version with [`Request::AttachMount`].
pub const ATTACHES_MOUNTS: u32 = 5;

/// The first byte of a packet with bytes of the console.
pub(crate) const CONSOLE_PACKET: u8 = 0;

/// The most bytes of the console in one packet.
pub(crate) const MAX_CONSOLE_BYTES: usize = 16 << 10;

/// What a client asks a monitor for. In JSON `{"<request>":{…}}`: a tag among the fields would make the monitor keep a
/// whole plan in pieces until it has found the tag, and carry the code for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Who are you? Answered by [`Event::Hello`]; from now on changes of the phase are told.
    Hello {
        /// The client's [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// Start the guest. To a parked monitor only.
    Start {
        /// The plan of the start.
        plan: Box<StartPlan>,
    },
    /// Tell init to shut the guest down, and kill it if it has not ended in time.
    Stop {
        /// How long it may take.
        timeout_ms: u64,
    },
    /// Kill every process of the guest.
    Kill,
    /// Run a program in the guest. Without a terminal, its standard input, output and error come along.
    Exec(ExecRequest),
    /// Send a signal to the processes of an exec.
    ExecSignal {
        /// The client's number of the exec.
        exec: u32,
        /// The signal's number.
        signal: i32,
    },
    /// Send what the console shows from now on, and take what is typed.
    AttachConsole {
        /// Whether to send what it has shown before, first.
        replay: bool,
    },
    /// Set the console's size in characters.
    ConsoleResize {
        /// Its height.
        rows: u16,
        /// Its width.
        columns: u16,
    },
    /// Send what the console has shown, then [`Event::LogEnd`].
    Log,
    /// Write these values to the guest's groups when it boots again, instead of those of the plan. Answered by
    /// [`Event::LimitsSet`], or refused: then the old ones hold. Groups in use are not touched, that is
    /// [`CgroupLayout::change_limits`](crate::CgroupLayout::change_limits): ask for this before, so that a reboot in between
    /// has the new limits, and ask for the old ones when the change is refused.
    SetLimits {
        /// What [`plan_limits`](crate::cgroup::plan_limits) says.
        values: Vec<CgroupValue>,
    },
    /// From now on, do this when init crashes. Answered by [`Event::OnCrashSet`], or refused: then what was holds.
    SetOnCrash {
        /// The new policy.
        on_crash: CrashPolicy,
    },
    /// Work with the guest's files, as its root. An input and an output come along, for the frames of
    /// [`insula_files::wire`]. Answered like [`Request::Exec`].
    Files {
        /// The client's number for it, unique on the connection, among programs too.
        exec: u32,
        /// What to do.
        job: Job,
    },
    /// Attach a mount to the guest while it runs. The descriptor of a detached mount comes along, as a
    /// [`DetachedMount`](crate::DetachedMount) is. Answered by [`Event::MountAttached`] or [`Event::ExecFailed`].
    ///
    /// It is seen in the mount namespace of the guest's init, and wherever that passes mounts on to; a service with a
    /// private mount namespace of its own does not see it. It ends with the guest's boot.
    AttachMount {
        /// The client's number for it, unique on the connection, among programs too.
        exec: u32,
        /// Where: a path in the guest, which is there. Links are followed as in the guest; none leads out of it.
        target: String,
    },
}

/// A program to run in the guest, as its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The client's number for it, unique on the connection.
    pub exec: u32,
    /// The program, looked up in the `PATH` of `environment` if it has no slash, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment, as `NAME=value`.
    pub environment: Vec<String>,
    /// Its working directory.
    pub directory: String,
    /// The size of its terminal, if it gets one.
    pub terminal: Option<TerminalSize>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Its height.
    pub rows: u16,
    /// Its width.
    pub columns: u16,
}

/// What a monitor tells a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The monitor has joined its spare groups and waits for [`Request::Start`].
    Parked {
        /// The monitor's [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// The answer to [`Request::Hello`].
    Hello {
        /// The monitor's [`PROTOCOL_VERSION`].
        version: u32,
        /// What it knows of its guest.
        status: Status,
    },
    /// The guest's phase has changed.
    Phase {
        /// What the monitor knows of its guest now.
        status: Status,
    },
    /// The guest could not be started; the monitor ends.
    StartFailed {
        /// The phase of the failure, and its cause.
        failure: StartFailure,
    },
    /// The guest has ended and stays so; the monitor ends. The record is also in `exit.json`.
    Exited {
        /// How it ended.
        record: ExitRecord,
    },
    /// The program runs. With a terminal, its master comes along.
    ExecStarted {
        /// The client's number of the exec.
        exec: u32,
    },
    /// The program could not be run.
    ExecFailed {
        /// The client's number of the exec.
        exec: u32,
        /// Which kind of failure.
        reason: ExecFailure,
        /// What was being done, then the causes.
        chain: Vec<String>,
    },
    /// The program has ended.
    ExecExited {
        /// The client's number of the exec.
        exec: u32,
        /// The exit code or signal.
        end: ExecEnd,
    },
    /// The mount of [`Request::AttachMount`] is attached.
    MountAttached {
        /// The client's number for it.
        exec: u32,
    },
    /// The answer to [`Request::AttachConsole`]: what follows is the console.
    ConsoleAttached,
    /// The end of the answer to [`Request::Log`].
    LogEnd,
    /// The answer to [`Request::SetLimits`]: the plan has the values, in memory and on disk.
    LimitsSet,
    /// The answer to [`Request::SetOnCrash`]: the plan has it, in memory and on disk.
    OnCrashSet,
    /// The request can't be served.
    Refused {
        /// Why the request was refused.
        message: String,
    },
    /// Bytes of the console: a packet of its own kind, not JSON.
    #[serde(skip)]
    Console(Vec<u8>),
    /// An event of a newer version.
    #[serde(other)]
    Unknown,
}

/// What a guest is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Init is about to be executed.
    Starting,
    /// Init runs.
    Running,
    /// The guest has booted.
    Ready,
    /// Init was told to end.
    Stopping,
    /// Init has ended.
    Exited,
}

/// What a monitor knows of its guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The VPS of the monitor.
    pub vps: VpsId,
    /// What the guest is doing.
    pub phase: Phase,
    /// Init's number on the host, while it lives.
    pub init_pid: Option<i32>,
    /// How often the guest was booted since it was started: 1, and one more for each reboot by the guest.
    pub boots: u32,
    /// When init was executed: milliseconds since 1970, UTC.
    pub started_at_ms: Option<i64>,
    /// When the guest had booted: milliseconds since 1970, UTC.
    pub ready_at_ms: Option<i64>,
    /// When it is booted again, while it waits for that in [`Phase::Starting`]: milliseconds since 1970, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_at_ms: Option<i64>,
    /// How the boot before this one ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_end: Option<ExitRecord>,
}

/// How a program has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecEnd {
    /// By itself, with this code.
    Code(i32),
    /// The program was killed by this signal.
    Signal(i32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_peer_is_understood() {
        let request: Request = serde_json::from_str(r#"{"stop":{"timeout_ms":5,"why":"new"}}"#).unwrap();
        assert_eq!(request, Request::Stop { timeout_ms: 5 });
        let error = serde_json::from_str::<Request>(r#"{"teleport":{"where":"mars"}}"#).unwrap_err();
        assert!(error.to_string().contains("unknown variant `teleport`"), "{error}");
        let event: Event = serde_json::from_str(r#"{"event":"teleported","where":"mars"}"#).unwrap();
        assert_eq!(event, Event::Unknown);
    }

    /// What peers of version 2 said, word for word.
    #[test]
    fn a_peer_of_version_2_is_understood() {
        let id = "0193a1b2-c3d4-7e5f-8a9b-0123456789ab";
        let status = |phase: &str| {
            format!(
                r#"{{"vps":"{id}","phase":"{phase}","init_pid":77,"boots":1,"started_at_ms":5,"ready_at_ms":null}}"#
            )
        };
        let events = [
            r#"{"event":"parked","version":2}"#.to_owned(),
            format!(r#"{{"event":"hello","version":2,"status":{}}}"#, status("ready")),
            format!(r#"{{"event":"phase","status":{}}}"#, status("starting")),
            r#"{"event":"start_failed","failure":{"phase":"mounts","chain":["a","b"],"errno":2}}"#.to_owned(),
            r#"{"event":"exited","record":{"reason":{"signal":11},"at_ms":9}}"#.to_owned(),
            r#"{"event":"exited","record":{"reason":"power_off","at_ms":9,"detail":"x"}}"#.to_owned(),
            r#"{"event":"exec_started","exec":1}"#.to_owned(),
            r#"{"event":"exec_failed","exec":1,"reason":"not_found","chain":["a"]}"#.to_owned(),
            r#"{"event":"exec_exited","exec":1,"end":{"code":3}}"#.to_owned(),
            r#"{"event":"console_attached"}"#.to_owned(),
            r#"{"event":"log_end"}"#.to_owned(),
            r#"{"event":"limits_set"}"#.to_owned(),
            r#"{"event":"refused","message":"no"}"#.to_owned(),
        ];
        for text in events {
            let event: Event = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_ne!(event, Event::Unknown, "{text}");
            assert_eq!(
                serde_json::to_string(&event).unwrap(),
                text,
                "an older peer is told in its own words"
            );
        }
        let requests = [
            r#"{"hello":{"version":2}}"#,
            r#"{"stop":{"timeout_ms":60000}}"#,
            r#""kill""#,
            r#"{"exec":{"exec":1,"argv":["ls"],"environment":[],"directory":"/","terminal":{"rows":24,"columns":80}}}"#,
            r#"{"exec_signal":{"exec":1,"signal":15}}"#,
            r#"{"attach_console":{"replay":true}}"#,
            r#"{"console_resize":{"rows":24,"columns":80}}"#,
            r#""log""#,
            r#"{"set_limits":{"values":[{"controller":"memory","file":"memory.max","value":"max"}]}}"#,
        ];
        for text in requests {
            let request: Request =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
        }
    }

    #[test]
    fn messages_read_what_they_write() {
        let exec = ExecRequest {
            exec: 3,
            argv: vec!["ls".into()],
            environment: vec![],
            directory: "/".into(),
            terminal: Some(TerminalSize { rows: 24, columns: 80 }),
        };
        let request = Request::Exec(exec);
        assert_eq!(
            serde_json::from_slice::<Request>(&serde_json::to_vec(&request).unwrap()).unwrap(),
            request
        );
        let event = Event::ExecExited { exec: 3, end: ExecEnd::Signal(9) };
        let text = serde_json::to_string(&event).unwrap();
        assert_eq!(text, r#"{"event":"exec_exited","exec":3,"end":{"signal":9}}"#);
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }
}
