//! Programs inside a VPS, and its console. A session has two halves, so that neither direction waits for the other. Both
//! share the connection to the monitor, and the program is hung up when they are dropped.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use insula_runtime::plan::DEFAULT_PATH;
use insula_runtime::protocol::{ExecEnd, ExecFailure, ExecRequest as MonitorExec, TerminalSize};
use insula_runtime::{Event, Request as MonitorRequest, VpsDirectory};
use insula_types::Reason;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;

use crate::model::policy::{Request, admit};
use crate::vps::link::{MonitorLink, watched};
use crate::{Engine, EngineError, VpsHandle};

/// How long a monitor may take to answer. A frozen or overloaded guest is told apart by that.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The number of the one program of a connection.
const EXEC: u32 = 1;

/// A program to run.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The program, looked up in the guest's `PATH`, and its arguments.
    pub command: Vec<String>,
    /// More environment, `KEY=VALUE`.
    pub environment: Vec<String>,
    /// Its working directory; absent: `/root`.
    pub directory: Option<String>,
    /// Rows and columns of its terminal, if it gets one.
    pub terminal: Option<(u16, u16)>,
}

/// What a program says.
#[derive(Debug, PartialEq, Eq)]
pub enum ExecOutput {
    /// Bytes of its standard output, or of its terminal.
    Stdout(Vec<u8>),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// It ended with this code. The last.
    Code(i32),
    /// It was ended by this signal. The last.
    Signal(i32),
}

/// A program that runs: what goes in, and what comes out. It is hung up when both are dropped.
#[derive(Debug)]
pub struct ExecSession {
    /// What goes in.
    pub input: ExecInput,
    /// What comes out.
    pub output: ExecOutputs,
}

/// The way into a program.
#[derive(Debug)]
pub struct ExecInput {
    link: Arc<MonitorLink>,
    stdin: Option<Arc<AsyncFd<OwnedFd>>>,
    has_terminal: bool,
}

/// The way out of a program.
#[derive(Debug)]
pub struct ExecOutputs {
    link: Arc<MonitorLink>,
    stdout: Option<Arc<AsyncFd<OwnedFd>>>,
    stderr: Option<Arc<AsyncFd<OwnedFd>>>,
    end: Option<ExecEnd>,
}

impl Engine {
    /// Runs a program in a VPS.
    pub async fn exec(&self, handle: &VpsHandle, request: ExecRequest) -> Result<ExecSession, EngineError> {
        admit(Request::Exec, handle.name().as_str(), handle.state())?;
        let link = Arc::new(MonitorLink::connect(&VpsDirectory::new(&self.settings.run_dir, &handle.id))?);
        let program = request.command.first().cloned().unwrap_or_default();
        let terminal = request.terminal;
        let asked = MonitorRequest::Exec(monitor_request(request));
        let started = |pipes: [Option<OwnedFd>; 3]| async {
            let master = wait_started(&link, |reason, chain| exec_failed(&program, reason, chain)).await?;
            session(link.clone(), pipes, master)
        };
        if terminal.is_some() {
            link.send(&asked, &[])?;
            return started([None, None, None]).await;
        }
        let ((stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr)) = (pipe()?, pipe()?, pipe()?);
        link.send(&asked, &[stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])?;
        drop((stdin, stdout, stderr));
        started([Some(our_stdin), Some(our_stdout), Some(our_stderr)]).await
    }

    /// Connects to the console of a VPS; with `replay`, what it has shown comes first.
    pub async fn attach_console(
        &self,
        handle: &VpsHandle,
        replay: bool,
    ) -> Result<ConsoleSession, EngineError> {
        let link = self.console_link(handle)?;
        link.send(&MonitorRequest::AttachConsole { replay }, &[])?;
        let mut shown = VecDeque::new();
        within(async {
            loop {
                match link.next().await.map_err(talk_failed)?.0 {
                    Event::ConsoleAttached => return Ok(()),
                    Event::Console(bytes) => shown.push_back(bytes),
                    Event::Refused { message } => return Err(refused(&message)),
                    _ => {}
                }
            }
        })
        .await?;
        Ok(ConsoleSession { link: Arc::new(link), shown })
    }

    /// What the console of a VPS has shown last.
    pub async fn console_log(&self, handle: &VpsHandle) -> Result<Vec<u8>, EngineError> {
        let link = self.console_link(handle)?;
        link.send(&MonitorRequest::Log, &[])?;
        let mut log = vec![];
        within(async {
            loop {
                match link.next().await.map_err(talk_failed)?.0 {
                    Event::LogEnd => return Ok(()),
                    Event::Console(bytes) => log.extend(bytes),
                    Event::Refused { message } => return Err(refused(&message)),
                    _ => {}
                }
            }
        })
        .await?;
        Ok(log)
    }

    fn console_link(&self, handle: &VpsHandle) -> Result<MonitorLink, EngineError> {
        admit(Request::Console, handle.name().as_str(), handle.state())?;
        MonitorLink::connect(&VpsDirectory::new(&self.settings.run_dir, &handle.id))
    }
}

impl ExecInput {
    /// Writes to the program's standard input. What the program no longer reads is dropped.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let Some(stdin) = &self.stdin else { return Ok(()) };
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut ready = stdin.writable().await.map_err(io_failed)?;
            match rustix::io::write(stdin.get_ref(), rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE | Errno::IO) => {
                    self.stdin = None;
                    break;
                }
                Err(errno) => return Err(io_failed(errno)),
            }
        }
        Ok(())
    }

    /// Ends its standard input. A terminal has no such end.
    pub fn end(&mut self) {
        if !self.has_terminal {
            self.stdin = None;
        }
    }

    /// Sets the size of its terminal, in rows and columns.
    pub fn resize(&self, (rows, columns): (u16, u16)) -> Result<(), EngineError> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        match &self.stdin {
            Some(master) if self.has_terminal => tcsetwinsize(master.get_ref(), size).map_err(io_failed),
            _ => Ok(()),
        }
    }

    /// Sends it a signal, by its Linux number.
    pub fn signal(&self, signal: i32) -> Result<(), EngineError> {
        match (1..=64).contains(&signal) {
            true => self.link.send(&MonitorRequest::ExecSignal { exec: EXEC, signal }, &[]),
            false => Err(EngineError::invalid("signal", format!("there is no signal {signal}"))),
        }
    }
}

impl ExecOutputs {
    /// What comes next. May be cancelled without losing anything.
    pub async fn next(&mut self) -> Result<ExecOutput, EngineError> {
        loop {
            if let Some(end) = self.end {
                return self.drain(end);
            }
            tokio::select! {
                biased;
                bytes = read(self.stdout.as_deref()) => match bytes? {
                    Some(bytes) => return Ok(ExecOutput::Stdout(bytes)),
                    None => self.stdout = None,
                },
                bytes = read(self.stderr.as_deref()) => match bytes? {
                    Some(bytes) => return Ok(ExecOutput::Stderr(bytes)),
                    None => self.stderr = None,
                },
                event = self.link.next() => match event {
                    Ok((Event::ExecExited { end, .. }, _)) => self.end = Some(end),
                    Ok(_) => {}
                    // The VPS has ended, and the program with it.
                    Err(_) => self.end = Some(ExecEnd::Signal(9)),
                },
            }
        }
    }

    /// What the program wrote before it ended; what its children still write is not waited for.
    fn drain(&mut self, end: ExecEnd) -> Result<ExecOutput, EngineError> {
        if let Some(bytes) = self.stdout.as_ref().and_then(|fd| read_now(fd)) {
            return Ok(ExecOutput::Stdout(bytes));
        }
        if let Some(bytes) = self.stderr.as_ref().and_then(|fd| read_now(fd)) {
            return Ok(ExecOutput::Stderr(bytes));
        }
        Ok(match end {
            ExecEnd::Code(code) => ExecOutput::Code(code),
            ExecEnd::Signal(signal) => ExecOutput::Signal(signal),
        })
    }
}

/// The console of a VPS.
#[derive(Debug, Clone)]
pub struct ConsoleSession {
    link: Arc<MonitorLink>,
    shown: VecDeque<Vec<u8>>,
}

impl ConsoleSession {
    /// What it shows next; `None` when the VPS has ended. May be cancelled without losing anything.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        if let Some(bytes) = self.shown.pop_front() {
            return Some(bytes);
        }
        loop {
            match self.link.next().await {
                Ok((Event::Console(bytes), _)) => return Some(bytes),
                Ok((Event::Exited { .. }, _)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Types.
    pub async fn write(&self, bytes: &[u8]) -> Result<(), EngineError> {
        self.link.send_console(bytes).await
    }

    /// Sets its size, in rows and columns.
    pub fn resize(&self, (rows, columns): (u16, u16)) -> Result<(), EngineError> {
        self.link.send(&MonitorRequest::ConsoleResize { rows, columns }, &[])
    }
}

fn monitor_request(request: ExecRequest) -> MonitorExec {
    let usual = [DEFAULT_PATH, "HOME=/root", "USER=root", "LOGNAME=root", "container=insula"];
    let terminal = request.terminal.map(|(rows, columns)| TerminalSize { rows, columns });
    let term = terminal.map(|_| "TERM=xterm-256color".to_owned());
    let asked = request.environment;
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let set: Vec<String> = asked.iter().map(|entry| key(entry)).collect();
    let kept = usual.into_iter().map(str::to_owned).chain(term).filter(|entry| !set.contains(&key(entry)));
    MonitorExec {
        exec: EXEC,
        argv: request.command,
        environment: kept.collect::<Vec<_>>().into_iter().chain(asked).collect(),
        directory: request.directory.unwrap_or_else(|| "/root".to_owned()),
        terminal,
    }
}

/// Waits until the program runs. The master of its terminal, if it has one.
pub(crate) async fn wait_started(
    link: &MonitorLink,
    failed: impl Fn(Reason, &[String]) -> EngineError,
) -> Result<Option<OwnedFd>, EngineError> {
    within(async {
        loop {
            match link.next().await.map_err(talk_failed)? {
                (Event::ExecStarted { .. }, fds) => return Ok(fds.into_iter().next()),
                (Event::ExecFailed { reason, chain, .. }, _) => {
                    return Err(failed(reason_of(reason), &chain));
                }
                (Event::Refused { message }, _) => return Err(refused(&message)),
                _ => {}
            }
        }
    })
    .await
}

fn reason_of(failure: ExecFailure) -> Reason {
    match failure {
        ExecFailure::NotFound => Reason::CommandNotFound,
        ExecFailure::NotExecutable => Reason::CommandNotExecutable,
        ExecFailure::NotRunning => Reason::VpsNotRunning,
        ExecFailure::Paused => Reason::VpsPaused,
        ExecFailure::TooMany | ExecFailure::Other => Reason::ExecFailed,
    }
}

fn exec_failed(program: &str, reason: Reason, chain: &[String]) -> EngineError {
    EngineError::new(reason, format!("failed to execute {program:?} in the VPS: {}", chain.join(": ")))
}

fn session(
    link: Arc<MonitorLink>,
    [stdin, stdout, stderr]: [Option<OwnedFd>; 3],
    master: Option<OwnedFd>,
) -> Result<ExecSession, EngineError> {
    let master = master.map(registered).transpose()?;
    let wrap = |fd: Option<OwnedFd>| fd.map(registered).transpose();
    let (stdin, stdout, stderr) = (wrap(stdin)?, wrap(stdout)?, wrap(stderr)?);
    let has_terminal = master.is_some();
    let input = ExecInput { link: link.clone(), stdin: master.clone().or(stdin), has_terminal };
    let output = ExecOutputs { link, stdout: master.or(stdout), stderr, end: None };
    Ok(ExecSession { input, output })
}

pub(crate) fn registered(fd: OwnedFd) -> Result<Arc<AsyncFd<OwnedFd>>, EngineError> {
    rustix::io::ioctl_fionbio(&fd, true).map_err(io_failed)?;
    watched(fd).map(Arc::new).map_err(io_failed)
}

/// A pipe: the end to read from, the end to write to.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), EngineError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(io_failed)
}

/// The next bytes; `None` at the end; for ever, if there is nothing to read from.
pub(crate) async fn read(fd: Option<&AsyncFd<OwnedFd>>) -> Result<Option<Vec<u8>>, EngineError> {
    let Some(fd) = fd else { return std::future::pending().await };
    loop {
        let mut ready = fd.readable().await.map_err(io_failed)?;
        let mut buffer = vec![0; 16 << 10];
        match rustix::io::read(fd.get_ref(), &mut buffer) {
            Ok(0) | Err(Errno::IO) => return Ok(None), // the terminal's other side is closed
            Ok(count) => {
                buffer.truncate(count);
                return Ok(Some(buffer));
            }
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(io_failed(errno)),
        }
    }
}

/// The bytes that are there at once.
fn read_now(fd: &AsyncFd<OwnedFd>) -> Option<Vec<u8>> {
    let mut buffer = vec![0; 16 << 10];
    let count = rustix::io::read(fd.get_ref(), &mut buffer).ok().filter(|count| *count > 0)?;
    buffer.truncate(count);
    Some(buffer)
}

async fn within<T>(work: impl Future<Output = Result<T, EngineError>>) -> Result<T, EngineError> {
    tokio::time::timeout(ANSWER_LIMIT, work).await.unwrap_or_else(|_| {
        let message = format!("the VPS's monitor did not answer within {} s", ANSWER_LIMIT.as_secs());
        Err(EngineError::new(Reason::ExecFailed, message).hint("is the VPS frozen from inside?"))
    })
}

fn talk_failed(error: insula_runtime::ConnectionError) -> EngineError {
    EngineError::new(Reason::VpsNotRunning, "the VPS has just stopped").caused_by(error)
}

fn refused(message: &str) -> EngineError {
    EngineError::new(Reason::ExecFailed, format!("the VPS's monitor refused: {message}"))
}

fn io_failed(error: impl Into<std::io::Error>) -> EngineError {
    EngineError::internal("failed to pass on bytes of a program", error.into())
}
