//! The agent of a scratch host: starts, stops and kills it.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use crate::paths::binary;
use crate::process::{Command, Outcome, PATIENCE, Process};

/// An agent of a scratch host, running or not.
#[derive(Debug)]
pub struct Agent {
    config: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Agent {
    /// Makes an agent with these settings, which is not running yet.
    pub fn new(config: PathBuf, log: PathBuf) -> Self {
        Self { config, log, process: None }
    }

    /// The program `insulad` with the settings, ready to run.
    pub fn command(&self) -> Command {
        Command::new(binary("insulad")).args(["--config"]).args([&self.config])
    }

    /// Starts the agent, and waits until it serves.
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the agent runs already");
        let directory = tempfile::tempdir().expect("a directory for a socket");
        let path = directory.path().join("notify");
        let notify = UnixDatagram::bind(&path).expect("a socket");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("the agent's log");
        let command = self.command().env("NOTIFY_SOCKET", &path);
        let process = command.spawn_with(Stdio::null(), Stdio::null(), log.into());
        let is_ready = wait_for_message(&notify.into(), &process);
        self.process = Some(process);
        assert!(is_ready, "the agent does not serve:\n{}", self.log_end());
    }

    /// Ends the agent as a service manager does, and waits until it has ended.
    #[track_caller]
    pub fn stop(&mut self) {
        let mut process = self.process.take().expect("an agent that runs");
        process.signal(Signal::TERM);
        let status = process.wait(PATIENCE).expect("an agent that ends");
        assert!(status.success(), "the agent ended with {status}:\n{}", self.log_end());
    }

    /// Kills the agent, if it is running.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// The agent's process. Panics if it is not running.
    #[track_caller]
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("an agent that runs")
    }

    /// Removes everything of the host but its data. The agent must not be running.
    pub fn tear_down(&self) -> Outcome {
        self.command().args(["--teardown"]).run()
    }

    /// The last part of the agent's log.
    pub fn log_end(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }

    /// The path of the agent's log.
    pub fn log(&self) -> &Path {
        &self.log
    }
}

/// Waits for the first message on the socket. Returns whether one came before the process ended.
fn wait_for_message(socket: &OwnedFd, process: &Process) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut watched = [PollFd::new(socket, PollFlags::IN), PollFd::new(process.pidfd(), PollFlags::IN)];
        let timeout = Timespec::try_from(left).expect("a short time");
        if poll(&mut watched, Some(&timeout)).is_ok() || left.is_zero() {
            return watched[0].revents().contains(PollFlags::IN);
        }
    }
}
