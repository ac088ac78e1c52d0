//! Programs in the guest, as the monitor sees them.
//!
//! ```text
//! entering ──(socket closes after "executing")───> running ──(ends)──> gone
//!    └──(failure, deadline)──────────────────────────────────────────> gone
//! ```

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use insula_files::Job;
use insula_sys::process::{CloneRequest, Cloned, clone_process, send_signal_to};
use rustix::fs::OFlags;
use rustix::net::SocketFlags;

use super::attach::{AttachInput, attach};
use super::enter::{EnterInput, EnterMessage, enter};
use super::files::{FilesInput, work_with_files};
use crate::plan::StartPlan;
use crate::protocol::{ExecEnd, ExecFailure, ExecRequest, StartFailure, StartPhase};
use crate::seqpacket;

/// The most programs at once.
pub(super) const MAX_EXECS: usize = 64;

/// How long a program may take until it is executed: a hostile guest can make it wait.
const ENTER_DEADLINE: Duration = Duration::from_secs(10);

/// One program.
#[derive(Debug)]
pub(super) struct Exec {
    /// The client that it runs for.
    pub client: u32,
    /// The client's number for it.
    pub number: u32,
    /// To it while it enters.
    pub socket: Option<OwnedFd>,
    /// When it must have been executed.
    pub deadline: Instant,
    /// Whether the client was told that it runs.
    pub is_started: bool,
    /// Whether it attaches a mount, and is told to have done so instead of running.
    pub is_attaching: bool,
    /// Whether its process is outside of the guest's pid namespace.
    pub is_outside: bool,
    /// How it has ended.
    pub end: Option<ExecEnd>,
    /// The pid of the process that brings it in, until that is reaped.
    helper: Option<i32>,
    /// The number of its process, until reaped.
    process: Option<i32>,
    terminal: Option<OwnedFd>,
    is_executing: bool,
    failure: Option<(ExecFailure, Vec<String>)>,
}

/// How an attempt to enter the guest came out.
pub(super) enum Entered {
    /// The program runs. With the master of its terminal.
    Started(Option<OwnedFd>),
    /// It does not.
    Failed(ExecFailure, Vec<String>),
}

impl Exec {
    /// Sends a helper into the guest.
    pub fn begin(
        plan: &StartPlan,
        init: &Cloned,
        client: u32,
        request: &ExecRequest,
        streams: &[OwnedFd],
    ) -> Result<Self, StartFailure> {
        let child = |socket| enter(&EnterInput { plan, request, socket, init: &init.pidfd, streams });
        let (helper, socket) = clone_into_group(plan, child)?;
        Ok(Self { helper: Some(helper.pid), ..Self::new((client, request.exec), socket) })
    }

    /// Sends a process into the guest that works with its files. `whose`: the client, and its number for it.
    pub fn begin_files(
        plan: &StartPlan,
        init: &Cloned,
        whose: (u32, u32),
        job: &Job,
        streams: [&OwnedFd; 2],
    ) -> Result<Self, StartFailure> {
        let child = |socket| work_with_files(&FilesInput { plan, job, socket, init: &init.pidfd, streams });
        let (worker, socket) = clone_into_group(plan, child)?;
        Ok(Self { process: Some(worker.pid), is_outside: true, ..Self::new(whose, socket) })
    }

    /// Sends a process into the guest that attaches a mount at a path. `whose`: the client, and its number for it.
    pub fn begin_attaching(
        plan: &StartPlan,
        init: &Cloned,
        whose: (u32, u32),
        mount: &OwnedFd,
        target: &str,
    ) -> Result<Self, StartFailure> {
        let child = |socket| attach(&AttachInput { socket, init: &init.pidfd, mount, target });
        let (helper, socket) = clone_into_group(plan, child)?;
        Ok(Self {
            process: Some(helper.pid),
            is_attaching: true,
            is_outside: true,
            ..Self::new(whose, socket)
        })
    }

    fn new((client, number): (u32, u32), socket: OwnedFd) -> Self {
        Self {
            client,
            number,
            socket: Some(socket),
            deadline: Instant::now() + ENTER_DEADLINE,
            is_started: false,
            is_attaching: false,
            is_outside: false,
            end: None,
            helper: None,
            process: None,
            terminal: None,
            is_executing: false,
            failure: None,
        }
    }

    /// Takes what helper and program have to say; `None` while they may have more.
    pub fn hear(&mut self) -> Option<Entered> {
        loop {
            let socket = self.socket.as_ref()?;
            match seqpacket::receive(socket.as_fd()) {
                Ok(Some((message, fds))) => self.take(&message, fds.into_iter().next()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Ok(None) | Err(_) => break,
            }
        }
        self.socket = None;
        Some(match self.failure.take() {
            Some((reason, chain)) => Entered::Failed(reason, chain),
            None if self.is_executing => Entered::Started(self.terminal.take()),
            None => Entered::Failed(ExecFailure::Other, vec!["it ended before it was executed".into()]),
        })
    }

    fn take(&mut self, message: &[u8], fd: Option<OwnedFd>) {
        match (serde_json::from_slice(message), fd) {
            (Ok(EnterMessage::Inside), Some(pidfd)) => self.process = number_of(&pidfd),
            (Ok(EnterMessage::Terminal), Some(master)) => self.terminal = Some(master),
            (Ok(EnterMessage::Executing), _) => self.is_executing = true,
            (Ok(EnterMessage::Failed(reason, chain)), _) => self.failure = Some((reason, chain)),
            _ => {}
        }
    }

    /// Gives the attempt up: its time is over.
    pub fn abandon(&mut self) -> Entered {
        for process in self.helper.iter().chain(&self.process) {
            let _ = send_signal_to(*process, libc::SIGKILL); // it may have ended just now
        }
        self.socket = None;
        let what = match self.is_attaching {
            true => "the mount was not attached in time",
            false => "the program was not executed in time",
        };
        Entered::Failed(ExecFailure::Other, vec![what.into()])
    }

    /// Sends a signal to the program and what it has started in its process group.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match self.process {
            // It is the leader of its group, and its number is not given to another before it is reaped.
            Some(process) => send_signal_to(-process, signal),
            None => Ok(()),
        }
    }

    /// Whether the program, or the process that brings it in, has the pid.
    pub fn is_process(&self, pid: i32) -> bool {
        self.helper == Some(pid) || self.process == Some(pid)
    }

    /// Takes the end of a child of the monitor in. Returns whether it was one of this exec's.
    pub fn reap(&mut self, pid: i32, end: ExecEnd) -> bool {
        if self.helper == Some(pid) {
            self.helper = None;
        } else if self.process == Some(pid) {
            self.process = None;
            self.end = Some(end);
        } else {
            return false;
        }
        true
    }

    /// Whether the client knows all: that it failed, or how it ended. Its helper may still have to be reaped.
    pub fn is_told(&self) -> bool {
        let has_ended = self.process.is_none() && self.end.is_none();
        self.socket.is_none() && (!self.is_started || has_ended)
    }

    /// Whether nothing of it is left.
    pub fn is_gone(&self) -> bool {
        self.socket.is_none() && self.helper.is_none() && self.process.is_none()
    }
}

/// A child that is born in the guest's group of programs, and a socket to it.
fn clone_into_group(
    plan: &StartPlan,
    child: impl FnOnce(OwnedFd) -> i32,
) -> Result<(Cloned, OwnedFd), StartFailure> {
    let failed = StartFailure::at;
    let cgroup = plan
        .host
        .layout
        .open_exec_group(&plan.id)
        .map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
    let (ours, its) =
        seqpacket::pair(SocketFlags::empty()).map_err(failed(StartPhase::Clone, "make a socket"))?;
    rustix::fs::fcntl_setfl(&ours, OFlags::NONBLOCK)
        .map_err(|errno| failed(StartPhase::Clone, "make a socket")(errno.into()))?;
    let mut ours = Some(ours);
    let our_end = &mut ours;
    let child = move || {
        drop(our_end.take());
        child(its)
    };
    let born = CloneRequest { cgroup: Some(cgroup.as_fd()), ..CloneRequest::default() };
    let cloned =
        clone_process(&born, child).map_err(failed(StartPhase::Clone, "clone into the guest's cgroup"))?;
    let gone = || failed(StartPhase::Clone, "keep a socket")(io::ErrorKind::NotConnected.into());
    Ok((cloned, ours.ok_or_else(gone)?))
}

/// The number, here, of the process that a descriptor refers to: proc(5), fdinfo. `None` if it has ended.
fn number_of(pidfd: &OwnedFd) -> Option<i32> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok().filter(|pid| *pid > 0)
}
