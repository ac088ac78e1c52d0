//! Programs that tests run, with a deadline and with all of their output.

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

/// The deadline for anything on a busy machine. A test that succeeds never waits so long. A slow
/// machine gets a multiple of it: [`slowness`].
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How many times slower than usual this machine is, from `INSULA_TEST_SLOWNESS`. Every deadline is
/// extended by this factor. A test that measures times multiplies its bounds by it.
pub fn slowness() -> u32 {
    static SLOWNESS: OnceLock<u32> = OnceLock::new();
    *SLOWNESS.get_or_init(|| match std::env::var("INSULA_TEST_SLOWNESS") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("INSULA_TEST_SLOWNESS={text} is no number")),
        Err(_) => 1,
    })
}

/// A program that is about to be run.
#[derive(Debug, Clone)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(String, OsString)>,
    input: Vec<u8>,
    limit: Duration,
}

/// How a program ended, and its output.
#[derive(Debug)]
pub struct Outcome {
    /// The command line, for messages.
    pub command: String,
    /// Its exit code, or 128 and the signal that killed it.
    pub code: i32,
    /// What the program wrote to its standard output.
    pub stdout: Vec<u8>,
    /// What the program wrote to its standard error.
    pub stderr: String,
}

/// A running program. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
}

impl Command {
    /// A program by its path, or by a name that is looked up in PATH.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: vec![],
            environment: vec![],
            input: vec![],
            limit: PATIENCE,
        }
    }

    /// Adds arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment, in addition to those of the test.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the program's standard input, which is empty otherwise.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets how long the program may take.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs the program to its end.
    #[track_caller]
    pub fn run(self) -> Outcome {
        // Files instead of pipes: nothing has to read them while the program runs.
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

    /// Runs the program, which must succeed.
    #[track_caller]
    pub fn run_ok(self) -> Outcome {
        self.run().expect_code(0)
    }

    /// Starts the program with these streams. It is killed when the calling thread ends, in any
    /// case.
    #[track_caller]
    pub fn spawn_with(&self, stdin: Stdio, stdout: Stdio, stderr: Stdio) -> Process {
        #[allow(clippy::disallowed_methods)]
        // Allowed only here: `Program` keeps to itself what tests have to look at.
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
    /// The program's process id.
    pub fn id(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A descriptor that becomes readable when the program has ended.
    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// The program with its streams that were set to be piped.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal to the program.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).expect("a process that runs");
    }

    /// Waits until the program has ended. `None` if that takes too long.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        is_readable(&self.pidfd, limit).then(|| self.child.wait().expect("a child can be waited for"))
    }

    /// Kills the program, and waits until it has ended.
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

/// Waits until a descriptor is readable. `false` if that takes too long.
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

/// Asks repeatedly until there is an answer. Only for things without an event of their own, such as
/// the agent's view of what a guest does by itself.
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
    /// The standard output as text, without white space around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// The standard output, parsed as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// Panics if the program ended with another code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "the exit code is not {code}: {self}");
        self
    }

    /// Panics if one of the texts is missing in the standard error.
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
