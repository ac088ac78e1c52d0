//! The protocol between the agent and a monitor.
//!
//! One message is one packet of a `SOCK_SEQPACKET` socket: a [`Request`] or an [`Event`] in JSON. A packet that begins with
//! a byte of 0 has bytes of the console, in either direction. Either side may be newer than the other. A reader ignores
//! fields that it does not know, refuses a request that it does not know, and skips such an event. Some messages carry
//! descriptors (`SCM_RIGHTS`), and say so.

mod failure;

use insula_files::Job;
use insula_types::{CrashPolicy, ExitRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupValue;
use crate::plan::StartPlan;

pub(crate) use failure::chain_of;
pub use failure::{ExecFailure, StartFailure, StartPhase};

/// The version of the protocol. It grows with each new request, event or field. 2: [`Request::SetLimits`]. 3:
/// [`Request::SetOnCrash`], [`Status::boot_at_ms`], [`Status::last_end`]. 4: [`Request::Files`]. 5: [`Request::AttachMount`];
/// plans with layers of a root, or with something to restore.
pub const PROTOCOL_VERSION: u32 = 5;

/// The first version with [`Request::AttachMount`].
pub const ATTACHES_MOUNTS: u32 = 5;

/// The first byte of a packet with bytes of the console.
pub(crate) const CONSOLE_PACKET: u8 = 0;

/// The most bytes of the console in one packet.
pub(crate) const MAX_CONSOLE_BYTES: usize = 16 << 10;

/// A request of a client to a monitor. In JSON it is `{"<request>":{…}}`. With a tag among the fields instead, the monitor
/// would need code that keeps a whole plan in pieces until it has found the tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Introduce yourself by [`Event::Hello`], and send [`Event::Phase`] at each change from now on.
    Hello {
        /// The client's [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// Start the guest. Only a parked monitor does that.
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
    /// Run a program in the guest. For a program without a terminal, the message carries its standard input, output and
    /// error.
    Exec(ExecRequest),
    /// Send a signal to the processes of an exec.
    ExecSignal {
        /// The client's number of the exec.
        exec: u32,
        /// The signal's number.
        signal: i32,
    },
    /// Send the console's output from now on, and accept its input.
    AttachConsole {
        /// Whether to begin with the latest output from before.
        replay: bool,
    },
    /// Set the console's size in characters.
    ConsoleResize {
        /// Its height.
        rows: u16,
        /// Its width.
        columns: u16,
    },
    /// Send the console's latest output, then [`Event::LogEnd`].
    Log,
    /// Write these values to the guest's groups when it boots again, instead of those in the plan. The monitor answers with
    /// [`Event::LimitsSet`], or refuses and keeps the old values.
    ///
    /// Groups in use stay as they are: [`CgroupLayout::change_limits`](crate::CgroupLayout::change_limits) changes these.
    /// Send this request first, so that a reboot in between gets the new limits. If the change is then refused, send it
    /// again with the old ones.
    SetLimits {
        /// What [`plan_limits`](crate::cgroup::plan_limits) says.
        values: Vec<CgroupValue>,
    },
    /// From now on, do this when init crashes. The monitor answers with [`Event::OnCrashSet`], or refuses and keeps the old
    /// policy.
    SetOnCrash {
        /// The new policy.
        on_crash: CrashPolicy,
    },
    /// Work with the guest's files, as its root. The message carries an input and an output, for the frames of
    /// [`insula_files::wire`]. The answers are those to [`Request::Exec`].
    Files {
        /// The client's number for it, unique on the connection, among programs too.
        exec: u32,
        /// What to do.
        job: Job,
    },
    /// Attach a mount to the running guest. The message carries the descriptor of a
    /// [`DetachedMount`](crate::DetachedMount). The monitor answers with [`Event::MountAttached`] or
    /// [`Event::ExecFailed`].
    ///
    /// The mount appears in the mount namespace of the guest's init, and in those that receive mounts from it. A service
    /// with a private mount namespace does not see it. The mount ends with the guest's boot.
    AttachMount {
        /// The client's number for it, unique on the connection, among programs too.
        exec: u32,
        /// The mount point: an existing path in the guest. Links are followed as in the guest, and none leads out of it.
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

/// A message of a monitor to a client.
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
    /// The guest could not be started. The monitor ends.
    StartFailed {
        /// The phase of the failure, and its cause.
        failure: StartFailure,
    },
    /// The guest has ended for good, and the monitor ends, too. The record is also in `exit.json`.
    Exited {
        /// How it ended.
        record: ExitRecord,
    },
    /// The program runs. If it has a terminal, the message carries the terminal's master.
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
    /// The answer to [`Request::AttachConsole`]. The console's output follows.
    ConsoleAttached,
    /// The end of the answer to [`Request::Log`].
    LogEnd,
    /// The answer to [`Request::SetLimits`]. The plan has the values, in memory and on disk.
    LimitsSet,
    /// The answer to [`Request::SetOnCrash`]. The plan has the policy, in memory and on disk.
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
    /// Init's process id on the host. `None` while there is no init.
    pub init_pid: Option<i32>,
    /// How often the guest was booted since it was started: 1, and one more for each reboot by the guest.
    pub boots: u32,
    /// When init was executed: milliseconds since 1970, UTC.
    pub started_at_ms: Option<i64>,
    /// When the guest had booted: milliseconds since 1970, UTC.
    pub ready_at_ms: Option<i64>,
    /// When the monitor will boot the guest again, if it is pausing before that: milliseconds since 1970, UTC.
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
    /// The program exited with this code.
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
