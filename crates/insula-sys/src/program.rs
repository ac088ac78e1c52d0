//! Runs external programs: never on a hot path, never through a shell, always with a time limit.
//!
//! A program gets a clean environment (`PATH`, `LANG=C.UTF-8`, and what the caller adds), no descriptors but its standard
//! streams, and a process group of its own. The whole group is killed when its time is up or when the caller cancels it.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// Why a program did not do its job.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not installed.
    #[error("program {program:?} not found in {PATH}")]
    NotFound {
        /// Its name.
        program: String,
    },
    /// It could not be started, or its streams could not be read.
    #[error("failed to run {program:?}")]
    Run {
        /// Its name.
        program: String,
        /// The kernel's error.
        #[source]
        source: std::io::Error,
    },
    /// It ended with an exit status other than 0, or by a signal.
    #[error("{program:?} failed with {status}: {stderr}")]
    Failed {
        /// Its name.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// The last ten lines of its standard error.
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("{program:?} was killed after {} s: {stderr}", limit.as_secs())]
    TimedOut {
        /// Its name.
        program: String,
        /// The time that it had.
        limit: Duration,
        /// The last ten lines of its standard error.
        stderr: String,
    },
    /// The caller cancelled it.
    #[error("{program:?} was cancelled")]
    Cancelled {
        /// Its name.
        program: String,
    },
}

/// Why waiting for a program ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waited {
    Ended,
    TimedOut,
    Cancelled,
}

/// Where programs are looked for. The `PATH` of the environment doesn't count.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An external program about to be run.
#[derive(Debug)]
pub struct Program {
    name: String,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    input: Vec<u8>,
    limit: Duration,
    isolated: bool,
}

impl Program {
    /// The program `name`, which is looked for in [`PATH`]. It may run for a minute unless [`Self::limit`] says otherwise.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arguments: vec![],
            environment: vec![],
            input: vec![],
            limit: Duration::from_secs(60),
            isolated: false,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Adds a variable to its environment.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets what it reads from its standard input. Without this, its input is empty.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets how long it may run before it is killed.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Gives it mount, PID, IPC and UTS namespaces of its own. Its mounts, and processes that it leaves running, vanish when it
    /// ends. It is killed when the thread that runs it ends in any way. Needs root.
    pub fn isolated(mut self) -> Self {
        self.isolated = true;
        self
    }

    /// Whether the program is installed.
    pub fn is_installed(&self) -> bool {
        PATH.split(':').any(|directory| std::path::Path::new(directory).join(&self.name).is_file())
    }

    /// Runs it to its end, and returns its standard output.
    ///
    /// # Errors
    /// Every [`ProgramError`] but `Cancelled`.
    pub fn output(self) -> Result<Vec<u8>, ProgramError> {
        let mut child = self.spawn(Stdio::piped())?;
        let mut stdout = child.stdout.take();
        let reader = std::thread::spawn(move || {
            let mut output = vec![];
            stdout.as_mut().map_or(Ok(0), |stdout| stdout.read_to_end(&mut output)).map(|_| output)
        });
        self.finish(child, None, |_| ())?;
        let output =
            reader.join().map_err(|_| self.error(std::io::Error::other("the reading thread panicked")))?;
        output.map_err(|source| self.error(source))
    }

    /// Runs it to its end, or until `cancel`, such as an eventfd, becomes readable. `on_line` gets each line of its standard
    /// error as it is written. Its standard output is `/dev/null`.
    ///
    /// # Errors
    /// Every [`ProgramError`].
    pub fn run_with_lines(
        self,
        cancel: Option<BorrowedFd<'_>>,
        on_line: impl FnMut(&str) + Send,
    ) -> Result<(), ProgramError> {
        let child = self.spawn(Stdio::null())?;
        self.finish(child, cancel, on_line)
    }

    fn error(&self, source: std::io::Error) -> ProgramError {
        ProgramError::Run { program: self.name.clone(), source }
    }

    fn spawn(&self, stdout: Stdio) -> Result<Child, ProgramError> {
        if !self.is_installed() {
            return Err(ProgramError::NotFound { program: self.name.clone() });
        }
        let mut command = self.command();
        command.args(&self.arguments).env_clear().env("PATH", PATH).env("LANG", "C.UTF-8");
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).process_group(0);
        command.spawn().map_err(|source| self.error(source))
    }

    /// The command line without the program's arguments. An isolated program is started by setpriv(1) and unshare(1).
    #[allow(clippy::disallowed_methods)] // the one place
    fn command(&self) -> Command {
        if !self.isolated {
            return Command::new(&self.name);
        }
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "unshare",
            "--fork",
            "--kill-child=KILL",
            "--propagation=private",
        ]);
        command.args(["--mount", "--pid", "--mount-proc", "--ipc", "--uts", "--", &self.name]);
        command
    }

    fn finish(
        &self,
        mut child: Child,
        cancel: Option<BorrowedFd<'_>>,
        mut on_line: impl FnMut(&str) + Send,
    ) -> Result<(), ProgramError> {
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| self.error(errno.into()))?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let deadline = Instant::now() + self.limit;
        let (waited, last_lines) = std::thread::scope(|scope| {
            // A program may end without reading its input. Whether that is an error, its exit status says.
            scope.spawn(|| stdin.map(|mut stdin| stdin.write_all(&self.input)));
            let lines =
                scope.spawn(|| stderr.map(|stderr| read_lines(stderr, &mut on_line)).unwrap_or_default());
            let waited = wait_until(&pidfd, cancel, deadline);
            if waited != Waited::Ended {
                let _ = kill_process_group(pid, Signal::KILL); // it may have ended just now
            }
            // The lines end only when the last process that holds the stream is gone, which may be a child of the program.
            (waited, lines.join().unwrap_or_default())
        });
        let status = child.wait().map_err(|source| self.error(source))?;
        let program = self.name.clone();
        match waited {
            Waited::Ended if status.success() => Ok(()),
            Waited::Ended => Err(ProgramError::Failed { program, status, stderr: last_lines }),
            Waited::TimedOut => {
                Err(ProgramError::TimedOut { program, limit: self.limit, stderr: last_lines })
            }
            Waited::Cancelled => Err(ProgramError::Cancelled { program }),
        }
    }
}

/// Waits until the process ends, the deadline passes, or the caller cancels, whichever comes first.
fn wait_until(pidfd: &OwnedFd, cancel: Option<BorrowedFd<'_>>, deadline: Instant) -> Waited {
    let mut watched = vec![PollFd::new(pidfd, PollFlags::IN)];
    watched.extend(cancel.map(|cancel| PollFd::from_borrowed_fd(cancel, PollFlags::IN)));
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).ok();
        match poll(&mut watched, timeout.as_ref()) {
            Ok(0) => return Waited::TimedOut,
            Ok(_) if !watched[0].revents().is_empty() => return Waited::Ended,
            Ok(_) => return Waited::Cancelled,
            Err(_) if left.is_zero() => return Waited::TimedOut,
            Err(_) => continue, // interrupted
        }
    }
}

/// Passes each line to `on_line`, and returns the last ten for the error.
fn read_lines(stream: impl Read, on_line: &mut impl FnMut(&str)) -> String {
    const KEPT: usize = 10;
    let mut last = std::collections::VecDeque::new();
    for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        on_line(&line);
        if last.len() == KEPT {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn output_and_input_are_handed_through() {
        assert_eq!(Program::new("cat").input("hello").output().unwrap(), b"hello");
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let error = Program::new("sh").args(["-c", "echo no such thing >&2; exit 3"]).output().unwrap_err();
        assert!(matches!(&error, ProgramError::Failed { .. }));
        assert!(error.to_string().contains("no such thing"), "{error}");
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let error = Program::new("sleep").arg("60").limit(Duration::from_millis(50)).output().unwrap_err();
        assert!(matches!(error, ProgramError::TimedOut { .. }));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Program::new("insula-no-such-program").output().unwrap_err();
        assert!(matches!(error, ProgramError::NotFound { program } if program == "insula-no-such-program"));
    }

    #[test]
    fn lines_come_as_they_are_written() {
        let mut lines = vec![];
        Program::new("sh")
            .args(["-c", "echo one >&2; echo two >&2"])
            .run_with_lines(None, |line| lines.push(line.to_owned()))
            .unwrap();
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_cancelled_program_ends_with_all_that_it_started() {
        let cancel = rustix::event::eventfd(0, rustix::event::EventfdFlags::empty()).unwrap();
        let started = Instant::now();
        let error = Program::new("sh")
            .args(["-c", "sleep 60 & echo ready >&2; wait"])
            .run_with_lines(Some(cancel.as_fd()), |_| {
                rustix::io::write(&cancel, &1_u64.to_ne_bytes()).unwrap();
            })
            .unwrap_err();
        assert!(matches!(error, ProgramError::Cancelled { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(30), "the sleeping child held its stream");
    }

    #[test]
    fn an_isolated_program_is_the_first_process_and_its_mounts_are_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let script = "mount -t tmpfs none \"$0\" && grep -c \"$0\" /proc/self/mounts && echo $$";
        let output = Program::new("sh").args(["-c", script]).arg(directory.path()).isolated().output();
        assert_eq!(String::from_utf8(output.unwrap()).unwrap(), "1\n1\n");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(directory.path().to_str().unwrap()));
    }
}
