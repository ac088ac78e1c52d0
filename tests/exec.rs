//! Programs that are run inside a VPS.

use insula_testkit::{Image, ScratchHost, Terminal};

#[test]
fn programs_run_inside_as_they_would_outside() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &[]);
    codes_are_handed_on(&host);
    streams_are_handed_through(&host);
    surroundings_are_those_of_root(&host);
    a_terminal_is_one(&host);
}

fn codes_are_handed_on(host: &ScratchHost) {
    let exec = |line: &str| host.insula(&["exec", "web1", "--", "sh", "-c", line]);
    exec("exit 42").expect_code(42);
    exec("kill -TERM $$").expect_code(128 + 15);
    host.insula(&["exec", "web1", "--", "no-such-program"])
        .expect_code(127)
        .expect_complaint(&["no-such-program"]);
    host.insula(&["exec", "web1", "--", "/etc/passwd"]).expect_code(126);
    host.insula(&["exec", "web1", "--cwd", "/no/such", "--", "true"])
        .expect_code(127)
        .expect_complaint(&["/no/such"]);
}

fn streams_are_handed_through(host: &ScratchHost) {
    let outcome = host.insula(&["exec", "web1", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((&*outcome.text(), &*outcome.stderr), ("out", "err\n"));
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let outcome = host.command("insula").args(["exec", "web1", "--", "cat"]).input(sent.clone()).run_ok();
    assert!(outcome.stdout == sent, "{} bytes came back of {}", outcome.stdout.len(), sent.len());
    let summed = host.command("insula").args(["exec", "web1", "--", "wc", "-c"]).input(sent).run_ok();
    assert_eq!(summed.text(), "3000000", "the end of the input arrives");
}

fn surroundings_are_those_of_root(host: &ScratchHost) {
    assert_eq!(host.sh("web1", "id -un; echo $HOME; pwd"), "root\n/root\n/root");
    let outcome = host.insula(&[
        "exec",
        "web1",
        "--env",
        "COLOUR=red",
        "--cwd",
        "/etc",
        "--",
        "sh",
        "-c",
        "echo $COLOUR; pwd",
    ]);
    assert_eq!(outcome.expect_code(0).text(), "red\n/etc");
    let ours = host.sh("web1", "ls /proc/self/fd | wc -l; cat /proc/self/cgroup; env");
    assert!(ours.starts_with("4\n"), "no descriptor but the streams and that of ls: {ours}");
    assert!(!ours.contains("insula-test"), "nothing of the host's shows: {ours}");
}

fn a_terminal_is_one(host: &ScratchHost) {
    let line = "tty; stty size; read answer; echo \"got $answer\"; exit 7";
    let mut terminal =
        Terminal::start(&host.command("insula").args(["exec", "web1", "--", "sh", "-c", line]));
    terminal.expect("/dev/pts/");
    terminal.expect("24 80");
    assert!(terminal.is_raw());
    terminal.type_keys(b"yes\r");
    terminal.expect("got yes");
    assert_eq!(terminal.wait(), 7);
    assert!(!terminal.is_raw(), "the terminal is as it was");

    let mut shell = Terminal::start(&host.command("insula").args(["shell", "web1"]));
    shell.expect("root@web1");
    shell.type_keys(b"exit 3\r");
    assert_eq!(shell.wait(), 3);
}
