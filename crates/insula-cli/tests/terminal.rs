//! Programs and consoles of a guest, through the command's standard streams and through a terminal.

#![allow(clippy::disallowed_methods)] // the program that is run is the one under test

mod fake;

use fake::{FakeAgent, answer};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

#[test]
fn streams_and_exit_code_are_the_programs() {
    let agent = FakeAgent::start();
    let typed = ["exec", "web1", "-e", "A=b", "--cwd", "/srv", "--", "echo", "--output", "x"];
    let (code, out, err) = agent.run(&typed);
    assert_eq!(code, 7);
    assert_eq!(out, "[\"echo\", \"--output\", \"x\"] [\"A=b\"] /srv\n");
    assert_eq!(err, "complaint\n");
    let (code, _, err) = agent.run(&["exec", "command-not-found", "--", "nope"]);
    assert_eq!(code, 127, "{err}");
}

#[test]
fn input_goes_through_whole_and_ends() {
    let agent = FakeAgent::start();
    let mut child = agent.command(&["exec", "web1", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let mut stdin = child.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == sent, "{} bytes came back of {}", output.stdout.len(), sent.len());
}

#[test]
fn signals_are_handed_on() {
    let agent = FakeAgent::start();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let mut child = agent.command(&["exec", "web1", "--", "wait"]).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "waiting\n");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(128 + signal.as_raw()));
    }
}

#[test]
fn who_only_watches_a_console_needs_no_input() {
    let agent = FakeAgent::start();
    let mut child = agent.command(&["console", "web1"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "replay true\r\n");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let (code, _, err) = answer(child.wait_with_output().unwrap());
    assert_eq!((code, &*err), (143, ""));
}

/// A command at a terminal of its own.
struct AtTerminal {
    child: Child,
    master: OwnedFd,
    slave: OwnedFd,
    seen: String,
}

impl AtTerminal {
    fn start(agent: &FakeAgent, typed: &[&str]) -> Self {
        Self::start_with(agent, typed, false) // so that all we see was written by the command
    }

    fn start_with(agent: &FakeAgent, typed: &[&str], echoes: bool) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let mut modes = tcgetattr(&slave).unwrap();
        modes.local_modes.set(LocalModes::ECHO, echoes);
        tcsetattr(&slave, OptionalActions::Now, &modes).unwrap();
        let stream = || Stdio::from(slave.try_clone().unwrap());
        let child = agent.command(typed).stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
        Self { child, master, slave, seen: String::new() }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    fn type_keys(&self, keys: &[u8]) {
        rustix::io::write(&self.master, keys).unwrap();
    }

    /// Reads until the text appears, and drops what came before it.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let ready = poll(
                &mut [PollFd::new(&self.master, PollFlags::IN)],
                Some(&Timespec::try_from(left).unwrap()),
            );
            assert_eq!(ready, Ok(1), "{text:?} never came after {:?}", self.seen);
            let mut bytes = [0; 4096];
            let length = rustix::io::read(&self.master, &mut bytes).unwrap();
            self.seen.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        self.seen = self.seen.split_once(text).unwrap().1.to_owned();
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).unwrap();
        kill_process(Pid::from_child(&self.child), Signal::WINCH).unwrap(); // it is not its controlling terminal
    }
}

#[test]
fn a_console_is_left_by_its_key_and_the_terminal_is_as_before() {
    let agent = FakeAgent::start();
    let mut terminal = AtTerminal::start(&agent, &["console", "web1"]);
    terminal.expect("Connected to the console of web1. To leave: ctrl-a q");
    terminal.expect("replay true");
    assert!(terminal.is_raw());
    terminal.type_keys(b"ls\x03\x01\x01");
    terminal.expect("ls\x03\x01");
    terminal.resize(100, 30);
    terminal.expect("100x30");
    terminal.type_keys(b"\x01q");
    terminal.expect("Left the console of web1.");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    assert!(!terminal.is_raw());
}

#[test]
fn a_console_that_the_agent_closes_says_so() {
    let agent = FakeAgent::start();
    let mut terminal = AtTerminal::start(&agent, &["console", "web1"]);
    terminal.expect("replay true");
    terminal.type_keys(b"poweroff");
    terminal.expect("The agent has closed the console of web1.");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_program_at_a_terminal_gets_one() {
    let agent = FakeAgent::start();
    let mut terminal = AtTerminal::start(&agent, &["exec", "web1", "--", "wait"]);
    terminal.expect("waiting");
    terminal.type_keys(b"\x03\r\x01q");
    terminal.expect("\x03\r\x01q");
    assert!(terminal.is_raw());
    terminal.resize(132, 43);
    terminal.expect("132x43");
    kill_process(Pid::from_child(&terminal.child), Signal::TERM).unwrap();
    assert_eq!(terminal.child.wait().unwrap().code(), Some(143));
    assert!(!terminal.is_raw());
}

#[test]
fn a_program_knows_the_kind_of_terminal() {
    let agent = FakeAgent::start();
    let mut terminal = AtTerminal::start(&agent, &["exec", "web1", "--", "echo"]);
    terminal.expect("[\"TERM=xterm\"]");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(7));
    assert!(!terminal.is_raw());
    let mut plain = AtTerminal::start(&agent, &["exec", "web1", "--no-tty", "--", "echo"]);
    plain.expect("[\"echo\"] []");
    assert_eq!(plain.child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_terminal_shows_a_bar_that_is_gone_at_the_end() {
    let agent = FakeAgent::start();
    let mut terminal = AtTerminal::start(&agent, &["start", "web1"]);
    terminal.expect("web1: started");
    assert_eq!(terminal.child.wait().unwrap().code(), Some(0));
    let mut log = AtTerminal::start(&agent, &["log", "web1"]);
    log.expect("[  OK  ]");
    let mut empty = AtTerminal::start(&agent, &["list", "--state", "stopped"]);
    empty.expect("There is no such VPS.");
}

#[test]
fn a_password_is_asked_for_twice_and_never_shown() {
    let agent = FakeAgent::start();
    for (again, code, said) in [("s3cret", 0, "root \"s3cret\""), ("other", 2, "not the same")] {
        let mut terminal = AtTerminal::start_with(&agent, &["passwd", "web1"], true);
        terminal.expect("New password: ");
        assert!(!terminal.echoes());
        terminal.type_keys(b"s3cret\r");
        terminal.expect("Repeat: ");
        assert!(!terminal.seen.contains("s3"), "{}", terminal.seen);
        terminal.type_keys(again.as_bytes());
        terminal.type_keys(b"\r");
        terminal.expect(said); // the fake agent prints what it received
        assert_eq!(terminal.child.wait().unwrap().code(), Some(code));
        assert!(terminal.echoes());
    }
}

#[test]
fn a_question_that_is_left_leaves_the_terminal_as_before() {
    let agent = FakeAgent::start();
    let mut terminal = AtTerminal::start_with(&agent, &["passwd", "web1"], true);
    terminal.expect("New password: ");
    kill_process(Pid::from_child(&terminal.child), Signal::INT).unwrap();
    assert_eq!(terminal.child.wait().unwrap().code(), Some(130));
    assert!(terminal.echoes());
}

#[test]
fn what_destroys_data_is_confirmed() {
    let agent = FakeAgent::start();
    let (rebuild, delete) = (["rebuild", "web1", "--image", "i"], ["delete", "web1", "--now"]);
    for typed in [&rebuild[..], &delete] {
        let mut refused = AtTerminal::start(&agent, typed);
        refused.expect("web1");
        refused.expect("Continue? [y/N] ");
        refused.type_keys(b"\r");
        refused.expect("not confirmed");
        assert_eq!(refused.child.wait().unwrap().code(), Some(2));
    }
    let mut confirmed = AtTerminal::start(&agent, &delete);
    confirmed.expect("Continue? [y/N] ");
    confirmed.type_keys(b"y\r");
    confirmed.expect("web1: moved to the trash");
    let mut sure = AtTerminal::start(&agent, &["delete", "web1", "--now", "--yes"]);
    sure.expect("web1: moved to the trash");
}
