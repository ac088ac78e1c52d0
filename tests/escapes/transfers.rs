//! Guests that attack processes which copy their files or write keys into them.

use std::process::Stdio;

use insula_testkit::{Command, PATIENCE, Process, slowness};

use super::arena::{ATTACKER, Arena, NEIGHBOUR};
use super::pulse::Pulse;
use super::witness::Witness;

/// How often a race is run. A slow machine runs fewer.
const ROUNDS: std::ops::RangeInclusive<u32> = 12..=60;

/// How many files a large directory has.
const MANY: u32 = 20_000;

#[test]
fn nobody_is_led_out_through_files() {
    let arena = Arena::new();
    let before = Witness::observe(&arena);
    let pulse = Pulse::start(&arena.host, NEIGHBOUR);
    directories_that_become_links(&arena);
    keys_that_are_links_and_pipes(&arena);
    what_must_not_be_opened(&arena);
    a_worker_is_out_of_reach(&arena);
    pulse.stop().assert_bearable(&arena.idle);
    assert_eq!(Witness::observe(&arena).changes_since(&before), "");
    a_transfer_ends_with_its_guest(&arena);
}

/// Exchanges a directory and a link to the host's files for each other, endlessly.
const RACE: &str = "mkdir -p /root/race/real && cd /root/race && echo mine >real/canary && \
    ln -s ../../../../../../../../../..$(dirname $CANARY) link && \
    exec perl -e 'while (1) { rename \"real\", \"at\"; rename \"at\", \"real\"; \
    rename \"link\", \"at\"; rename \"at\", \"link\" }'";

fn directories_that_become_links(arena: &Arena) {
    let racer = run_in_background(arena, RACE);
    let out = arena.host.directory().join("pulled");
    let target = format!("{ATTACKER}/root/race/at/canary");
    let mut came = 0;
    let least = (ROUNDS.end() / slowness()).max(*ROUNDS.start());
    for round in 0..*ROUNDS.end() {
        if round >= least && came > 0 {
            break;
        }
        arena.host.command("insula").args(["file", "push", "-", &target]).input("pushed").run();
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir(&out).unwrap();
        let tree = format!("{ATTACKER}/root/race/");
        let source = if round % 2 == 0 { &target } else { &tree };
        arena.host.command("insula").args(["file", "pull", "-r", source]).args([&out]).run();
        let line = format!("grep -rs 'of the host' {}", out.display());
        let found = Command::new("sh").args(["-c", &line]).run();
        assert_eq!(found.text(), "", "round {round}: a file of the host's was pulled");
        came += usize::from(std::fs::read_dir(&out).unwrap().count() > 0);
        assert_eq!(std::fs::read_to_string(arena.host.directory().join("canary")).unwrap(), "of the host");
    }
    assert!(came > 0, "no pull came through: this attempt can't succeed");
    std::fs::remove_dir_all(&out).unwrap();
    drop(racer);
    arena.host.sh(ATTACKER, "pkill perl; rm -rf /root/race");
}

fn keys_that_are_links_and_pipes(arena: &Arena) {
    let key = arena.host.ssh_key();
    let add = || arena.host.insula(&["ssh-key", "add", ATTACKER, &key]);
    for set in [
        "rm -rf /root/.ssh; mkdir /root/.ssh; ln -s $CANARY /root/.ssh/authorized_keys",
        "rm -rf /root/.ssh; mkdir /root/.ssh; mkfifo /root/.ssh/authorized_keys",
        "rm -rf /root/.ssh; mkdir -p /root/.ssh/authorized_keys",
        "rm -rf /root/.ssh; mkdir /root/.ssh; truncate -s 100G /root/.ssh/authorized_keys",
        "rm -rf /root/.ssh; ln -s ../../../../../../..$(dirname $CANARY) /root/.ssh",
    ] {
        run_in_background(arena, set).wait(PATIENCE).expect("an end");
        let outcome = add();
        assert_ne!(outcome.code, 0, "{set}: {outcome}");
        assert!(!arena.host.directory().join("authorized_keys").exists(), "{set}");
    }
    arena.host.sh(ATTACKER, "rm -rf /root/.ssh");
    let racer = run_in_background(
        arena,
        "mkdir -p /root/.own && ln -s ../../../../../../..$(dirname $CANARY) /root/.out && cd /root && \
         exec perl -e 'while (1) { rename \".own\", \".ssh\"; rename \".ssh\", \".own\"; \
         rename \".out\", \".ssh\"; rename \".ssh\", \".out\" }'",
    );
    for _ in 0..(ROUNDS.end() / slowness()).max(*ROUNDS.start()) / 2 {
        add();
        arena.host.insula(&["ssh-key", "remove", ATTACKER, &key]);
        assert!(!arena.host.directory().join("authorized_keys").exists());
    }
    drop(racer);
    arena.host.sh(ATTACKER, "pkill perl; rm -rf /root/.own /root/.out /root/.ssh");
}

fn what_must_not_be_opened(arena: &Arena) {
    arena.host.sh(
        ATTACKER,
        "mkdir /root/odd && cd /root/odd && mkfifo pipe && perl -MIO::Socket -e 'IO::Socket::UNIX->new(Local => \"socket\", Listen => 1)' && \
         ln -s /dev/zero zero && ln -s /proc/1/root root && touch \"$(printf 'a\\nb')\" \"$(printf '\\033[2J')\" \"$(printf '\\377')\" && \
         i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done",
    );
    let many = MANY / slowness();
    let make = format!("mkdir many; for (1 .. {many}) {{ open my $f, '>', \"many/$_\" }}");
    arena.host.insula_ok(&["exec", "--no-tty", "--cwd", "/root/odd", ATTACKER, "--", "perl", "-e", &make]);
    let out = arena.host.directory().join("odd");
    std::fs::create_dir(&out).unwrap();
    for name in ["pipe", "socket", "zero", "root/etc/passwd"] {
        let place = format!("{ATTACKER}/root/odd/{name}");
        arena.host.insula(&["file", "pull", &place, "-"]).expect_code(4);
    }
    let pull = ["file", "pull", "-r", &format!("{ATTACKER}/root/odd"), out.to_str().unwrap()];
    let outcome = arena.host.insula(&pull).expect_code(1);
    let warnings = ["pipe", "socket", "too deep"].map(|word| outcome.stderr.contains(word));
    assert_eq!(warnings, [true; 3], "{outcome}");
    assert!(!outcome.stderr.contains('\x1b'), "{outcome}");
    assert_eq!(std::fs::read_dir(out.join("odd/many")).unwrap().count(), many as usize);
    assert!(out.join("odd/zero").is_symlink() && out.join("odd/root").is_symlink());
    arena.host.insula_ok(&["file", "list", &format!("{ATTACKER}/root/odd/many")]);
    std::fs::remove_dir_all(&out).unwrap();
    arena.host.sh(ATTACKER, "rm -rf /root/odd");
}

/// No process in the guest can find, signal or end the process that works with the guest's files,
/// or freeze its group.
fn a_worker_is_out_of_reach(arena: &Arena) {
    const KILL: &str = "for p in $(cat /sys/fs/cgroup/.insula/cgroup.procs) $(ls /proc | grep '^[0-9]*$'); do \
        [ $p -le 1 ] || [ $p = $$ ] || grep -q systemd /proc/$p/comm || kill -KILL $p; done 2>/dev/null; true";
    let mut push = begin_push(arena);
    let seen = arena.host.sh(ATTACKER, "cat /proc/[0-9]*/comm");
    assert!(!seen.contains("insula-files"), "{seen}");
    arena.host.sh(ATTACKER, KILL);
    for control in ["cgroup.kill", "cgroup.freeze"] {
        let write = format!("echo 1 >/sys/fs/cgroup/.insula/{control}");
        let outcome = arena.host.insula(&["exec", "--no-tty", ATTACKER, "--", "sh", "-c", &write]);
        assert!(outcome.stderr.contains("Permission denied"), "{outcome}");
    }
    drop(push.child().stdin.take());
    assert!(push.wait(PATIENCE).expect("an end").success(), "the transfer was stopped from inside");
    arena.host.sh(ATTACKER, "rm /root/pushed");
}

/// A transfer ends with its guest, and nothing is left of it.
fn a_transfer_ends_with_its_guest(arena: &Arena) {
    let mut push = begin_push(arena);
    arena.host.insula_ok(&["restart", "--force", ATTACKER, "--wait", "ready"]);
    assert_eq!(push.wait(PATIENCE).expect("an end").code(), Some(1));
    let left = arena.host.sh(ATTACKER, "ls -A /root");
    assert!(!left.contains("pushed") && !left.contains("insula"), "{left}");
}

/// Starts a transfer that does not end by itself.
fn begin_push(arena: &Arena) -> Process {
    let command =
        arena.host.command("insula").args(["file", "push", "-", &format!("{ATTACKER}/root/pushed")]);
    let mut push = command.spawn_with(Stdio::piped(), Stdio::null(), Stdio::null());
    let stdin = push.child().stdin.as_mut().unwrap();
    std::io::Write::write_all(stdin, &vec![7; 4 << 20]).unwrap();
    push
}

fn run_in_background(arena: &Arena, line: &str) -> Process {
    let canary = format!("CANARY={}", arena.host.directory().join("canary").display());
    let exec = ["exec", "--no-tty", "--env", &canary, ATTACKER, "--", "sh", "-c", line];
    arena.host.command("insula").args(exec).spawn_with(Stdio::null(), Stdio::null(), Stdio::null())
}
