//! Real guests: how they boot and what they find.

mod scratch;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use insula_runtime::protocol::{ExecEnd, StartPhase};
use insula_runtime::{Event, GuestRoot, Phase, Request, hash_password, make_anonymous, set_password};
use insula_types::{Attachment, ExitReason};
use scratch::{ScratchHost, deadline, run, wait_for_end};

#[test]
fn a_guest_boots_and_runs_cleanly() {
    let host = ScratchHost::new();
    let (connection, status) = host.start(Phase::Ready);
    assert_eq!(status.boots, 1);
    assert!(status.ready_at_ms >= status.started_at_ms);
    let state = run(&connection, &["systemctl", "is-system-running", "--wait"]);
    let failed = run(&connection, &["systemctl", "--failed", "--no-legend"]);
    assert_eq!((&*state.stdout, &*failed.stdout), ("running\n", ""), "{state:?}");
}

#[test]
fn all_seven_namespaces_are_the_guests_own() {
    let host = ScratchHost::new();
    let (_connection, status) = host.start(Phase::Running);
    let namespaces = |pid: &str| -> BTreeSet<_> {
        ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"]
            .map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap())
            .into()
    };
    let (ours, its) = (namespaces("thread-self"), namespaces(&status.init_pid.unwrap().to_string()));
    assert_eq!((its.len(), ours.intersection(&its).count()), (7, 0));
}

#[test]
fn the_guest_sees_a_system_of_its_own() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let script = "hostname; cat /proc/1/comm; stat -c %u:%g / /etc/passwd; stat -f -c %T /sys/fs/cgroup; \
                  stat -c %F /dev/console /dev/null; cat /proc/self/uid_map | tr -s ' '; tr '\\0' '\\n' </proc/1/environ | grep container; \
                  test -w /sys/kernel || echo read-only; tail -n 1 /proc/1/cgroup";
    let output = run(&connection, &["sh", "-c", script]);
    let expected = format!(
        "scratch\nsystemd\n0:0\n0:0\ncgroup2fs\ncharacter special file\ncharacter special file\n \
         0 {} 65536\ncontainer=insula\nread-only\n0::/init.scope\n",
        host.ids.start
    );
    assert_eq!(output.stdout, expected, "{output:?}");
}

#[test]
fn limits_hold_from_the_first_instruction() {
    let mut host = ScratchHost::new();
    host.limits.memory = Some("96M".parse().unwrap());
    host.limits.processes = Some(80);
    let (connection, status) = host.start(Phase::Ready);
    let group = |controller: &str| {
        let legacy = format!("/sys/fs/cgroup/{controller}/{}/{}", host.layout.root_name.display(), host.id);
        if Path::new(&legacy).exists() {
            legacy
        } else {
            host.layout.unified_group(&host.id).display().to_string()
        }
    };
    let joined = fs::read_to_string(format!("/proc/{}/cgroup", status.init_pid.unwrap())).unwrap();
    assert!(joined.lines().any(|line| line.contains(":memory:") || line.starts_with("0::")), "{joined}");
    assert!(joined.contains(&host.id.to_string()), "{joined}");
    assert_eq!(fs::read_to_string(format!("{}/pids.max", group("pids"))).unwrap(), "80\n");
    // A guest that allocates more than it may is killed at it, not the host's memory used up.
    let greedy = run(&connection, &["sh", "-c", "head -c 200M /dev/zero | tail -c 200M >/dev/null; echo $?"]);
    assert_ne!(greedy.stdout, "0\n", "{greedy:?}");
    assert!(host.layout.observe_memory_kills(&host.id) > 0);
    let many = run(&connection, &["sh", "-c", "for i in $(seq 100); do sleep 60 & done; echo all"]);
    assert!(many.end != ExecEnd::Code(0) || many.stderr.contains("fork"), "{many:?}");
    let usage = host.layout.observe_usage(&host.id);
    assert!(usage.processes.unwrap() <= 80 && usage.memory_bytes.unwrap() <= 96 << 20, "{usage:?}");
    assert!(usage.cpu_ns.unwrap() > 0);
}

#[test]
fn the_processor_is_shared_as_planned() {
    let mut host = ScratchHost::new();
    host.limits.cpus = Some("0.2".parse().unwrap());
    let (connection, _) = host.start(Phase::Running);
    let before = host.layout.observe_usage(&host.id).cpu_ns.unwrap();
    let output = run(&connection, &["timeout", "1", "sh", "-c", "while :; do :; done"]);
    assert_eq!(output.end, ExecEnd::Code(124), "{output:?}");
    let used = host.layout.observe_usage(&host.id).cpu_ns.unwrap() - before;
    assert!(used < 500_000_000, "0.2 CPUs used {used} ns in a second");
}

#[test]
fn address_and_route_are_there_before_init() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let output =
        run(&connection, &["sh", "-c", "ip -o -4 address show dev eth0; ip route; ip -o link show lo"]);
    assert!(output.stdout.contains("inet 10.99.0.2/24"), "{output:?}");
    assert!(output.stdout.contains("default via 10.99.0.1 dev eth0"), "{output:?}");
    assert!(output.stdout.contains("LOOPBACK,UP"), "{output:?}");
    let ping = run(&connection, &["ping", "-c", "1", "-W", "5", "10.99.0.1"]);
    assert_eq!(ping.end, ExecEnd::Code(0), "{ping:?}");
}

#[test]
fn nothing_of_the_host_leaks_into_init() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let output = run(
        &connection,
        &[
            "sh",
            "-c",
            "ls -l /proc/1/fd | sed 's/.*-> //' | grep -v -E '^(total|/dev/null|anon_inode|socket:|pipe:|/proc|/sys|/dev/autofs|/run/)|^total'; \
             readlink /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/2; ls /proc/self/fd",
        ],
    );
    // Three streams on /dev/null; and the descriptors of `ls`: three streams and the directory.
    assert_eq!(output.stdout, "/dev/null\n/dev/null\n/dev/null\n0\n1\n2\n3\n", "{output:?}");
    let mounts = run(&connection, &["cat", "/proc/self/mountinfo"]);
    let scratch = host.run_dir.to_str().unwrap();
    assert!(!mounts.stdout.contains(scratch), "{mounts:?}");
}

#[test]
fn dangerous_calls_and_capabilities_are_refused() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let status = run(&connection, &["grep", "-E", "^(CapBnd|NoNewPrivs|Seccomp):", "/proc/self/status"]);
    let init = run(&connection, &["grep", "-E", "^(CapBnd|NoNewPrivs|Seccomp):", "/proc/1/status"]);
    assert_eq!(status.stdout, init.stdout);
    let lines: Vec<_> = status.stdout.lines().collect();
    let bound = u64::from_str_radix(lines[0].split_whitespace().last().unwrap(), 16).unwrap();
    for dropped in insula_runtime::plan::DROPPED_CAPABILITIES {
        assert_eq!(bound >> dropped.number & 1, 0, "{}", dropped.name);
    }
    assert_eq!(bound >> 22 & 1, 1, "CAP_SYS_BOOT is needed for reboot(2)");
    assert_eq!(lines[1..], ["NoNewPrivs:\t0", "Seccomp:\t2"]);
    for refused in ["dmesg", "mknod /x b 8 0", "hwclock --systohc", "date -s @0", "swapon /etc/passwd"] {
        let output = run(&connection, &["sh", "-c", refused]);
        assert_ne!(output.end, ExecEnd::Code(0), "{refused}");
    }
}

#[test]
fn a_guest_exhausts_no_budget_but_its_own() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    // Each wants an inotify instance; without, it polls and says so.
    let script = "for i in $(seq 140); do tail -f /etc/hostname & done; wait";
    let (mut words, stderr) = std::io::pipe().unwrap();
    let null = fs::File::open("/dev/null").unwrap();
    let request = scratch::request(&["sh", "-c", script], None);
    let fds = [null.as_fd(), null.as_fd(), stderr.as_fd()];
    connection.send(&Request::Exec(request), &fds).unwrap();
    drop(stderr);
    words.read_exact(&mut [0; 5]).unwrap(); // "tail: inotify resources exhausted"
    rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).expect("the host's own budget");
}

#[test]
fn a_full_root_still_starts() {
    let host = ScratchHost::new();
    let image = host.run_dir.join("full.img");
    host.move_root_to_full_file_system(&image);
    let (connection, _) = host.start(Phase::Running);
    let full = run(&connection, &["sh", "-c", "head -c 1M /dev/zero >/full; echo $?"]);
    assert_ne!(full.stdout, "0\n", "the file system is not full: {full:?}");
}

#[test]
fn a_failed_start_names_its_phase_and_leaves_nothing() {
    let host = ScratchHost::new();
    let mut no_init = host.plan();
    no_init.guest.init.argv = vec!["/sbin/no-such-init".into()];
    let mut no_root = host.plan();
    no_root.host.root.upper = "/nonexistent".into();
    let mut no_bridge = host.plan();
    no_bridge.host.nics[0].attachment = Attachment::Bridged("nobridge".parse().unwrap());
    let mut no_mount = host.plan();
    no_mount.guest.mounts[0].filesystem = "nofs".into();
    let mut no_limit = host.plan();
    no_limit.host.cgroup_values[0].file = "cpu.nosuchfile".into();
    for (plan, phase, word) in [
        (no_init, StartPhase::Execute, "/sbin/no-such-init"),
        (no_root, StartPhase::Root, "/nonexistent"),
        (no_bridge, StartPhase::Network, "nobridge"),
        (no_mount, StartPhase::Mounts, "nofs"),
        (no_limit, StartPhase::Cgroup, "cpu.nosuchfile"),
    ] {
        let connection = host.park().start(&plan).unwrap();
        let failure = loop {
            match connection.receive(deadline()).unwrap().0 {
                Event::StartFailed { failure } => break failure,
                event => assert!(!matches!(event, Event::Phase { .. }), "{event:?}"),
            }
        };
        assert_eq!(failure.phase, phase, "{failure}");
        assert!(failure.to_string().contains(word), "{failure}");
        assert_eq!(wait_for_end(&connection).reason, ExitReason::StartFailed);
        let record = host.directory.read_exit_record().unwrap().unwrap();
        assert!(record.detail.unwrap().contains(word));
        host.assert_no_interface();
        host.layout.remove_groups(&host.id).unwrap();
        assert_eq!(host.layout.observe_groups().unwrap(), []);
    }
}

#[test]
fn a_password_set_from_the_host_is_the_guests() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Running);
    let root = GuestRoot::open(&host.root).unwrap();
    let password = "Sésame, öffne: dich $6$ !";
    set_password(&root, "root", &hash_password(password).unwrap()).unwrap();
    // What PAM asks on behalf of programs that may not read the file: the password ends with a NUL, unix_chkpwd(8).
    let check = |password: &str| {
        let script = format!("printf '%s\\0' '{password}' | unix_chkpwd root nonull");
        run(&connection, &["sh", "-c", &script]).end
    };
    assert_eq!(check(password), ExecEnd::Code(0));
    assert_ne!(check("Sésame"), ExecEnd::Code(0));
    let aged = run(&connection, &["sh", "-c", "passwd --status root; stat -c '%U:%G %a' /etc/shadow"]);
    assert!(aged.stdout.starts_with("root P ") && aged.stdout.ends_with("root:shadow 640\n"), "{aged:?}");
}

#[test]
fn a_copy_of_a_guest_makes_an_identity_of_its_own() {
    let host = ScratchHost::new();
    let identity = || {
        let (connection, _) = host.start(Phase::Ready);
        let id = run(&connection, &["cat", "/etc/machine-id"]).stdout;
        connection.send(&Request::Stop { timeout_ms: 60_000 }, &[]).unwrap();
        wait_for_end(&connection);
        id
    };
    let original = identity();
    assert_eq!(original.trim().len(), 32, "{original}");
    assert_eq!(identity(), original);
    make_anonymous(&GuestRoot::open(&host.root).unwrap()).unwrap();
    assert_ne!(identity(), original);
    let left = fs::read_dir(host.root.join("etc/ssh")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("ssh_host_")));
}
