//! Traps: what a guest prepares for processes that come from outside, and what it does to itself.

use std::collections::BTreeSet;
use std::process::Stdio;

use insula_testkit::hostile::{ENTERING, Verdict};
use insula_testkit::{Command, PATIENCE, Terminal, slowness};

use super::arena::{ATTACKER, Arena};
use super::pulse::Pulse;
use super::witness::Witness;

/// A trap that a guest prepares.
struct Trap {
    name: &'static str,
    /// A line for the guest's shell. `$CANARY` is the path of a file of the host.
    set: &'static str,
    /// The commands that are then run on the VPS. They may fail, but must end soon.
    acts: &'static [&'static [&'static str]],
    /// A line that makes the guest normal again.
    disarm: &'static str,
}

const PASSWD: &[&str] = &["passwd", ATTACKER];
const CLONE: &[&str] = &["clone", ATTACKER, "copy"];
const DELETE_CLONE: &[&str] = &["delete", "--force", "--now", "copy"];
const STOP: &[&str] = &["stop", "--force", ATTACKER];
const START: &[&str] = &["start", ATTACKER, "--wait", "ready"];
const EXEC: &[&str] = &["exec", "--no-tty", ATTACKER, "--", "true"];

const TRAPS: [Trap; 12] = [
    Trap {
        name: "the password file is a pipe",
        set: "mv /etc/shadow /etc/kept; mkfifo /etc/shadow",
        acts: &[PASSWD],
        disarm: "mv -f /etc/kept /etc/shadow",
    },
    Trap {
        name: "the password file is a link to the host's",
        set: "mv /etc/shadow /etc/kept; ln -s $CANARY /etc/shadow",
        acts: &[PASSWD],
        disarm: "mv -f /etc/kept /etc/shadow",
    },
    Trap {
        name: "the password file is without end",
        set: "mv /etc/shadow /etc/kept; truncate -s 100G /etc/shadow",
        acts: &[PASSWD],
        disarm: "mv -f /etc/kept /etc/shadow",
    },
    Trap {
        name: "the place of the password file is a link out of the root",
        set: "cp -a /etc /kept; mv /etc /etc.own; ln -s ../../../../../../../..$(dirname $CANARY) /etc",
        acts: &[PASSWD],
        disarm: "rm /etc; mv /etc.own /etc; rm -rf /kept",
    },
    Trap {
        name: "all that is written into a new root is a pipe",
        set: "mv /etc/hostname /etc/hostname.own; mkfifo /etc/hostname; mv /etc/hosts /etc/hosts.own; mkfifo /etc/hosts; \
              rm -f /etc/machine-id; mkfifo /etc/machine-id; rm -rf /root/.ssh; mkdir -p /root/.ssh; mkfifo /root/.ssh/authorized_keys",
        acts: &[CLONE, DELETE_CLONE],
        disarm: "mv -f /etc/hostname.own /etc/hostname; mv -f /etc/hosts.own /etc/hosts; \
                 rm -rf /etc/machine-id /root/.ssh; touch /etc/machine-id",
    },
    Trap {
        name: "all that is written into a new root is a link to the host's",
        set: "mv /etc/hostname /etc/hostname.own; ln -s $CANARY /etc/hostname; rm -rf /root/.ssh; ln -s $(dirname $CANARY) /root/.ssh; \
              mkdir -p /etc/systemd; mv /etc/systemd/network /etc/systemd/network.own; ln -s $(dirname $CANARY) /etc/systemd/network; \
              rm /etc/machine-id; ln -s $CANARY /etc/machine-id",
        acts: &[CLONE, DELETE_CLONE],
        disarm: "rm -f /root/.ssh /etc/systemd/network /etc/machine-id; mv -f /etc/hostname.own /etc/hostname; \
                 mv /etc/systemd/network.own /etc/systemd/network; touch /etc/machine-id",
    },
    Trap {
        name: "names that are none",
        set: "cd /root && mkdir odd && cd odd && for name in \"$(printf 'a\\nb')\" \"$(printf '\\033[2J\\007')\" \
              \"$(printf '\\377\\376')\" '-rf' '*' \"$(printf 'x%.0s' $(seq 255))\"; do touch -- \"$name\"; done; \
              i=0; while [ $i -lt 300 ]; do mkdir d && cd d; i=$((i+1)); done",
        acts: &[
            &["snapshot", "create", ATTACKER, "odd"],
            CLONE,
            DELETE_CLONE,
            &["snapshot", "delete", ATTACKER, "odd"],
        ],
        disarm: "rm -rf /root/odd",
    },
    Trap {
        name: "the root is a read-only volume",
        set: "perl -e 'opendir(my $d, \"/\"); my $f = pack(\"Q\", 2); ioctl($d, 0x4008941a, $f)'; true",
        acts: &[PASSWD, STOP, START],
        disarm: "perl -e 'opendir(my $d, \"/\"); my $f = pack(\"Q\", 0); ioctl($d, 0x4008941a, $f)'; touch /root/writable",
    },
    Trap {
        name: "init is killed and stopped",
        set: "kill -KILL 1; kill -STOP 1; kill -SEGV 1; true",
        acts: &[EXEC, STOP, START],
        disarm: "true",
    },
    Trap {
        name: "the guest freezes itself",
        set: "mkdir /sys/fs/cgroup/ice && for p in $(cat /sys/fs/cgroup/init.scope/cgroup.procs); do echo $p >/sys/fs/cgroup/ice/cgroup.procs; done; \
              echo 1 >/sys/fs/cgroup/ice/cgroup.freeze",
        acts: &[EXEC, STOP, START],
        disarm: "true",
    },
    Trap {
        name: "the places of mounts are links",
        set: "mkdir /elsewhere; mount --bind / /mnt; cd /mnt; for d in dev proc sys run; do mv $d $d.own; ln -s /elsewhere/../../../..$(dirname $CANARY) $d; done; true",
        acts: &[STOP, &["start", ATTACKER], STOP],
        disarm: "",
    },
    Trap {
        name: "there is nothing to execute any more",
        set: "",
        acts: &[&["delete", "--force", "--now", ATTACKER]],
        disarm: "",
    },
];

#[test]
fn traps_catch_nobody() {
    let arena = Arena::new();
    let names = files_of_the_host(&arena);
    let canary = arena.host.directory().join("canary");
    let pulse = Pulse::start(&arena.host, super::arena::NEIGHBOUR);
    for trap in &TRAPS {
        println!("{}", trap.name);
        run_inside(&arena, trap.set);
        for act in trap.acts {
            let outcome = arena.host.command("insula").args(*act).input("new password").run();
            println!("  insula {}: {} {}", act.join(" "), outcome.code, outcome.stderr.trim());
        }
        assert_eq!(std::fs::read_to_string(&canary).unwrap(), "of the host", "{}", trap.name);
        assert_eq!(files_of_the_host(&arena), names, "{}", trap.name);
        run_inside(&arena, trap.disarm);
    }
    pulse.stop().assert_bearable(&arena.idle);
    let left = arena.host.vpses();
    assert_eq!(left.len(), 1, "all copies and the attacker could be deleted: {left:?}");
}

/// The files beside the canary.
fn files_of_the_host(arena: &Arena) -> BTreeSet<String> {
    let entries = std::fs::read_dir(arena.host.directory()).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn run_inside(arena: &Arena, line: &str) {
    if !line.is_empty() {
        let canary = format!("CANARY={}", arena.host.directory().join("canary").display());
        let exec = ["exec", "--no-tty", "--env", &canary, ATTACKER, "--", "sh", "-c", line];
        let outcome = arena.host.insula(&exec);
        println!("  {}", outcome.stderr.trim());
    }
}

#[test]
fn whoever_enters_shows_nothing() {
    let arena = Arena::new();
    let before = Witness::observe(&arena);
    arena.host.sh(
        ATTACKER,
        "printf '#!/proc/self/exe\\n' >/root/trap; chmod +x /root/trap; ln -s /proc/self/fd/5 /root/five",
    );
    for attempt in ENTERING {
        let mut output = tempfile::NamedTempFile::new().unwrap();
        let stdout = output.reopen().unwrap();
        let streams = (stdout.try_clone().unwrap().into(), stdout.into());
        let mut watcher = arena.command(ATTACKER, attempt).spawn_with(Stdio::piped(), streams.0, streams.1);
        super::bombs::wait_for_hold(&mut watcher, output.path());
        for _ in 0..(20 / slowness()).max(5) {
            arena.host.insula(&["exec", "--no-tty", ATTACKER, "--", "true"]).expect_code(0);
            arena.host.insula(&["exec", "--no-tty", ATTACKER, "--", "/root/trap"]);
        }
        drop(watcher.child().stdin.take());
        watcher.wait(PATIENCE).expect("an end");
        let text = std::io::read_to_string(output.as_file_mut()).unwrap();
        let verdict = Verdict::parse(&text);
        println!("{}: {verdict:?}", attempt.name);
        assert!(matches!(verdict, Some(Verdict::Refused(_))), "{} ({}): {text}", attempt.name, attempt.tries);
    }
    directories_lead_nowhere(&arena);
    nobody_types_for_an_admin(&arena);
    assert_eq!(Witness::observe(&arena).changes_since(&before), "");
}

/// A working directory that is a descriptor of the host (CVE-2024-21626).
fn directories_lead_nowhere(arena: &Arena) {
    let canary = arena.host.directory().join("canary").display().to_string();
    let line = format!("test -e {}{canary} && echo outside; pwd", "../".repeat(40));
    let paths = (0..16).map(|number| format!("/proc/self/fd/{number}"));
    for path in paths.chain(["/root/five", "/proc/self/cwd", "/proc/self/root/.."].map(str::to_owned)) {
        let outcome =
            arena.host.insula(&["exec", "--no-tty", "--cwd", &path, ATTACKER, "--", "sh", "-c", &line]);
        assert!(!outcome.text().contains("outside"), "{path}: {outcome}");
        assert!(!outcome.text().contains(&arena.host.cgroup_root()), "{path}: {outcome}");
    }
}

/// What a program pushes into its terminal's input (`TIOCSTI`) is not read by the shell that ran
/// the command.
fn nobody_types_for_an_admin(arena: &Arena) {
    const TYPE: &str = r#"ioctl(STDIN, 0x5412, $_) for split //, "owned\n"; print "typed\n""#;
    let insula = arena.host.command("insula");
    let line = format!(
        "{insula} exec --tty {ATTACKER} -- perl -e '{TYPE}'; stty -icanon min 0 time 5; echo \"read: [$(head -c 20)]\""
    );
    let socket = arena.host.socket();
    let shell = Command::new("sh").args(["-c", &line]).env("INSULA_SOCKET", socket);
    let mut terminal = Terminal::start(&shell);
    terminal.expect("typed");
    let after = {
        terminal.expect("read: [");
        terminal.expect("]")
    };
    assert_eq!(after, "", "a guest types at the host");
    assert_eq!(terminal.wait(), 0);
}
