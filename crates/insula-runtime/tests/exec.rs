//! Programs in real guests.

mod scratch;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use insula_runtime::protocol::{ExecEnd, ExecFailure, TerminalSize};
use insula_runtime::{Event, MonitorConnection, Phase, Request};
use rustix::event::{PollFd, PollFlags, poll};
use scratch::{ScratchHost, deadline, request, run, wait_for_exec_end, wait_for_exec_start};

const SIZE: TerminalSize = TerminalSize { rows: 33, columns: 99 };

fn failure(connection: &MonitorConnection, argv: &[&str]) -> (ExecFailure, String) {
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
    connection.send(&Request::Exec(request(argv, None)), &fds).unwrap();
    loop {
        match connection.receive(deadline()).unwrap().0 {
            Event::ExecFailed { reason, chain, .. } => return (reason, chain.join(": ")),
            event => assert!(!matches!(event, Event::ExecStarted { .. }), "{event:?}"),
        }
    }
}

/// Reads until the text has come.
fn read_until(master: &OwnedFd, expected: &str) -> String {
    let mut text = String::new();
    while !text.contains(expected) {
        let patience = scratch::PATIENCE.try_into().unwrap();
        assert_eq!(poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&patience)), Ok(1), "{text}");
        let mut buffer = [0; 4096];
        let count = rustix::io::read(master, &mut buffer).unwrap();
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    text
}

#[test]
fn exit_codes_and_signals_are_told() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    assert_eq!(run(&connection, &["true"]).end, ExecEnd::Code(0));
    assert_eq!(run(&connection, &["sh", "-c", "exit 42"]).end, ExecEnd::Code(42));
    assert_eq!(run(&connection, &["sh", "-c", "kill -TERM $$"]).end, ExecEnd::Signal(15));
    let output = run(&connection, &["sh", "-c", "echo out; echo err >&2; id -u; pwd; echo $HOME"]);
    assert_eq!((&*output.stdout, &*output.stderr), ("out\n0\n/\n/root\n", "err\n"));
}

#[test]
fn what_cannot_be_executed_has_the_codes_of_a_shell() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let (reason, message) = failure(&connection, &["no-such-program"]);
    assert_eq!((reason, reason.exit_code()), (ExecFailure::NotFound, 127), "{message}");
    assert!(message.contains("no-such-program"), "{message}");
    let (reason, message) = failure(&connection, &["/etc/passwd"]);
    assert_eq!((reason, reason.exit_code()), (ExecFailure::NotExecutable, 126), "{message}");
    assert!(message.contains("/etc/passwd"), "{message}");
    assert_eq!(run(&connection, &["true"]).end, ExecEnd::Code(0));
}

#[test]
fn programs_have_a_group_of_their_own() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let groups = run(&connection, &["cat", "/proc/self/cgroup"]).stdout;
    assert_eq!(groups.lines().find(|line| line.starts_with("0:")), Some("0::/.insula"), "{groups}");
}

#[test]
fn standard_input_is_read_to_its_end() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let (input, mut writer) = std::io::pipe().unwrap();
    let (mut reader, output) = std::io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let fds = [input.as_fd(), output.as_fd(), null.as_fd()];
    connection.send(&Request::Exec(request(&["wc", "-c"], None)), &fds).unwrap();
    drop((input, output));
    writer.write_all(&[b'x'; 100_000]).unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "100000\n");
    assert_eq!(wait_for_exec_end(&connection), ExecEnd::Code(0));
}

#[test]
fn a_terminal_is_the_guests_own() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let script = "stty size; tty; echo ready; read line; echo got $line; exit 5";
    connection.send(&Request::Exec(request(&["sh", "-c", script], Some(SIZE))), &[]).unwrap();
    let [master] = <[OwnedFd; 1]>::try_from(wait_for_exec_start(&connection)).unwrap();
    let text = read_until(&master, "ready");
    assert!(text.contains("33 99") && text.contains("/dev/pts/"), "{text}");
    rustix::io::write(&master, b"word\n").unwrap();
    read_until(&master, "got word");
    assert_eq!(wait_for_exec_end(&connection), ExecEnd::Code(5));
}

#[test]
fn signals_and_control_characters_reach_the_program() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let script = "trap 'exit 9' INT; echo ready; while :; do sleep 1; done";
    connection.send(&Request::Exec(request(&["sh", "-c", script], Some(SIZE))), &[]).unwrap();
    let fds = wait_for_exec_start(&connection);
    read_until(&fds[0], "ready");
    rustix::io::write(&fds[0], b"\x03").unwrap();
    assert_eq!(wait_for_exec_end(&connection), ExecEnd::Code(9));
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
    connection.send(&Request::Exec(request(&["sleep", "1000"], None)), &fds).unwrap();
    wait_for_exec_start(&connection);
    connection.send(&Request::ExecSignal { exec: 1, signal: 15 }, &[]).unwrap();
    assert_eq!(wait_for_exec_end(&connection), ExecEnd::Signal(15));
}

#[test]
fn programs_are_hung_up_when_their_client_goes() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let (mut reader, output) = std::io::pipe().unwrap();
    let null = File::open("/dev/null").unwrap();
    let client = host.connect();
    let fds = [null.as_fd(), output.as_fd(), null.as_fd()];
    client.send(&Request::Exec(request(&["sleep", "1000"], None)), &fds).unwrap();
    wait_for_exec_start(&client);
    drop((client, output));
    assert_eq!(reader.read_to_end(&mut vec![]).unwrap(), 0); // the end: nobody has the pipe any more
    assert_eq!(run(&connection, &["pgrep", "-x", "sleep"]).stdout, "");
}

#[test]
fn a_paused_guest_runs_nothing() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    host.layout.freeze(&host.id).unwrap();
    assert_eq!(failure(&connection, &["true"]).0, ExecFailure::Paused);
    host.layout.thaw(&host.id).unwrap();
    assert_eq!(run(&connection, &["true"]).end, ExecEnd::Code(0));
}

#[test]
fn many_programs_run_at_once() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let null = File::open("/dev/null").unwrap();
    let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
    for exec in 0..40 {
        let request = insula_runtime::protocol::ExecRequest { exec, ..request(&["true"], None) };
        connection.send(&Request::Exec(request), &fds).unwrap();
    }
    let mut ended = 0;
    while ended < 40 {
        match connection.receive(deadline()).unwrap().0 {
            Event::ExecExited { end, .. } => {
                assert_eq!(end, ExecEnd::Code(0));
                ended += 1;
            }
            Event::ExecFailed { chain, .. } => panic!("{chain:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_hostile_terminal_is_not_trusted() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let replace = run(&connection, &["sh", "-c", "mount -t tmpfs none /dev/pts && mkfifo /dev/pts/ptmx"]);
    assert_eq!(replace.end, ExecEnd::Code(0), "{replace:?}");
    connection.send(&Request::Exec(request(&["true"], Some(SIZE))), &[]).unwrap();
    loop {
        match connection.receive(deadline()).unwrap().0 {
            Event::ExecFailed { chain, .. } => {
                assert!(chain[0].contains("/dev/pts"), "{chain:?}");
                break;
            }
            event => assert!(!matches!(event, Event::ExecStarted { .. }), "{event:?}"),
        }
    }
}
