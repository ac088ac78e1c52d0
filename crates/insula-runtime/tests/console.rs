//! The consoles of real guests.

mod scratch;

use insula_runtime::{Event, MonitorConnection, Phase, Request};
use scratch::{ScratchHost, deadline, run, wait_for_phase};

/// Reads the console until the text has come.
fn read_until(viewer: &MonitorConnection, expected: &str) -> String {
    let mut text = String::new();
    while !text.contains(expected) {
        if let Event::Console(bytes) = viewer.receive(deadline()).expect(&text).0 {
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    text
}

fn view(host: &ScratchHost) -> MonitorConnection {
    let viewer = host.connect();
    viewer.send(&Request::AttachConsole { replay: true }, &[]).unwrap();
    viewer
}

#[test]
fn a_viewer_sees_what_was_shown_before_it_came() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let write = "echo scroll''back >/dev/console";
    run(&connection, &["sh", "-c", write]);
    let viewers = [view(&host), view(&host)];
    for viewer in &viewers {
        read_until(viewer, "scrollback");
    }
    run(&connection, &["sh", "-c", "echo li''ve >/dev/console"]);
    for viewer in &viewers {
        read_until(viewer, "live");
    }
}

#[test]
fn what_is_typed_reaches_the_guest() {
    let host = ScratchHost::new();
    let mut plan = host.plan();
    let script = "exec </dev/console >/dev/console; echo ready; while read line; do echo \"<$line>\" $(stty size); done; sleep 1000";
    plan.guest.init.argv = ["/bin/sh", "-c", script].map(String::from).into();
    let connection = host.park().start(&plan).unwrap();
    wait_for_phase(&connection, Phase::Running);
    let viewer = view(&host);
    read_until(&viewer, "ready");
    viewer.send(&Request::ConsoleResize { rows: 40, columns: 132 }, &[]).unwrap();
    viewer.send_console(b"hello\n").unwrap();
    read_until(&viewer, "<hello> 40 132");
}

#[test]
fn the_log_is_what_the_console_has_shown() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    // More than is kept.
    run(&connection, &["sh", "-c", "seq 1 40000 >/dev/console; echo the end >/dev/console"]);
    let client = host.connect();
    let mut log = vec![];
    loop {
        client.send(&Request::Log, &[]).unwrap();
        log.clear();
        loop {
            match client.receive(deadline()).unwrap().0 {
                Event::Console(bytes) => log.extend(bytes),
                Event::LogEnd => break,
                _ => {}
            }
        }
        if log.ends_with(b"the end\r\n") {
            break;
        }
    }
    assert_eq!(log.len(), 64 << 10);
}

#[test]
fn a_viewer_that_does_not_read_holds_nobody_up() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let _lazy = view(&host);
    let output = run(&connection, &["sh", "-c", "seq 1 200000 >/dev/console; echo done"]);
    assert_eq!(output.stdout, "done\n");
}

#[test]
fn the_scrollback_outlives_a_reboot() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    run(&connection, &["sh", "-c", "echo before the re''boot >/dev/console"]);
    run(&connection, &["systemctl", "--no-block", "reboot"]);
    drop(connection);
    host.connect_when(|status| status.boots == 2 && status.phase == Phase::Ready);
    read_until(&view(&host), "before the reboot");
}
