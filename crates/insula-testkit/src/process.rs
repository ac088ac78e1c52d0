//! Programs as a test runs them: with an end, and with everything that they said.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// What anything may take on a busy machine. A test that works never waits for it. A machine that is slow has more of it:
/// [`slowness`].
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How many times slower than usual this machine is, as `INSULA_TEST_SLOWNESS` says: every deadline is so many times later.
/// A test that measures times multiplies what it holds for bearable.
pub fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| match std::env::var("INSULA_TEST_SLOWNESS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("INSULA_TEST_SLOWNESS={text} is no number")),
        Err(_) => 1,
    })
}

/// A program about to be run.
#[derive(Debug, Clone)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    input: Vec<u8>,
    limit: Duration,
}

/// How a program ended and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// What was run, for messages.
    pub command: String,
    /// Its exit code, or 128 and the signal that killed it.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// A program that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl Command {
    /// The program; without a slash, out of the PATH.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec![],
            environment: vec![],
            input: vec![],
            limit: PATIENCE,
        }
    }

    /// More arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// A variable of its environment, beside ours.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// What it reads from its standard input, which is empty otherwise.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How long it may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        // Files, not pipes: nobody has to read while it runs.
        let [mut input, mut stdout, mut stderr] =
            [(); 3].map(|()| tempfile::tempfile().expect("a temporary file"));
        input.write_all(&self.input).and_then(|()| input.rewind()).expect("input in a file");
        let shared = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
        let mut process = self.spawn_with(shared(&input), shared(&stdout), shared(&stderr));
        let status = process.wait(self.limit);
        let contents = |file: &mut File| {
            let mut bytes = vec![];
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a temporary file");
            bytes
        };
        let (stdout, stderr) = (contents(&mut stdout), contents(&mut stderr));
        let outcome = Outcome {
            command: self.to_string(),
            code: status.map_or(-1, exit_code),
            stdout,
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        };
        assert!(status.is_some(), "not done after {} s: {outcome}", (self.limit * slowness()).as_secs());
        outcome
    }

    /// Runs it to its end, which must be a good one.
    #[track_caller]
    pub fn run_ok(self) -> Outcome {
        self.run().expect_code(0)
    }

    /// Lets it run, with these streams. It is killed with the calling thread in any case.
    #[track_caller]
    pub fn spawn_with(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Process {
        #[allow(clippy::disallowed_methods)]
        // the one place: `Program` keeps what tests are to look at to itself
        let mut command = std::process::Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(&self.program).args(&self.arguments);
        command.envs(self.environment.iter().map(|(key, value)| (key, value)));
        let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn();
        let child = child.unwrap_or_else(|error| panic!("failed to run {self}: {error}"));
        let pidfd =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("a child has a descriptor");
        Process { child, pidfd }
    }
}

impl std::fmt::Display for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.program.display())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {}", argument.display()))
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What can be waited for: readable when it has ended.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// What was said to be piped of it.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).expect("a process that runs");
    }

    /// Waits until it has ended; `None` if that takes too long.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        is_readable(&self.pidfd, limit).then(|| self.child.wait().expect("a child can be waited for"))
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // it may have ended
        assert!(self.wait(PATIENCE).is_some(), "process {:?} can't be killed", self.id());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}

/// Waits until a descriptor can be read, and says whether it came to that.
pub fn is_readable(fd: &OwnedFd, limit: Duration) -> bool {
    let deadline = Instant::now() + limit * slowness();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a short time");
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(count) if count > 0 => return true,
            _ if left.is_zero() => return false,
            _ => {} // interrupted
        }
    }
}

/// Asks until there is an answer. For what has no event of its own: the agent's view of what a guest does by itself.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let deadline = Instant::now() + PATIENCE * slowness();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "this never came true: {what}");
        let _ = poll(&mut [], Some(&PAUSE)); // there is nothing to wait for but time
    }
}

impl Outcome {
    /// Its standard output as text, without spaces around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Its standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// Panics when it ended with another code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "the exit code is not {code}: {self}");
        self
    }

    /// Panics when one of the texts is missing in what it complains of.
    #[track_caller]
    pub fn expect_complaint(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is missing: {self}");
        }
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} ended with {}", self.command, self.code)?;
        writeln!(f, "--- standard output\n{}", String::from_utf8_lossy(&self.stdout))?;
        write!(f, "--- standard error\n{}", self.stderr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_output_and_code_are_handed_through() {
        let outcome = Command::new("sh").args(["-c", "cat; echo oh >&2; exit 3"]).input("hello").run();
        assert_eq!((outcome.code, &*outcome.text(), &*outcome.stderr), (3, "hello", "oh\n"));
        let killed = Command::new("sh").args(["-c", "kill -9 $$"]).run();
        assert_eq!(killed.code, 137);
    }

    #[test]
    #[should_panic(expected = "not done after 0 s")]
    fn what_takes_too_long_panics() {
        Command::new("sleep").args(["60"]).limit(Duration::from_millis(20)).run();
    }

    #[test]
    fn a_process_is_signalled_and_waited_for() {
        let mut process =
            Command::new("sleep").args(["60"]).spawn_with(Stdio::null(), Stdio::null(), Stdio::null());
        assert!(process.wait(Duration::ZERO).is_none());
        process.signal(Signal::TERM);
        assert_eq!(process.wait(PATIENCE).unwrap().signal(), Some(15));
    }
}
