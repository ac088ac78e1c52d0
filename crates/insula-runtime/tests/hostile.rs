//! Guests whose owners mean harm: what is in their roots, and what they ask for.

mod scratch;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use insula_runtime::cgroup::{Controller, DeviceRule};
use insula_runtime::plan::PlannedBudget;
use insula_runtime::protocol::{ExecEnd, ExecFailure, StartFailure, StartPhase};
use insula_runtime::{Event, MonitorConnection, Phase, Request, StartPlan};
use scratch::{ScratchHost, deadline, run, wait_for_end, wait_for_phase};

/// An init that runs no other program.
const INIT: &str = "#!/bin/sh\nwhile :; do read -r line </dev/console; done\n";

/// Puts another init into the root.
fn replace_init(host: &ScratchHost) {
    let init = host.root.join("usr/sbin/init");
    fs::remove_file(&init).unwrap();
    fs::write(&init, INIT).unwrap();
    fs::set_permissions(&init, PermissionsExt::from_mode(0o755)).unwrap();
}

fn end(host: &ScratchHost, connection: &MonitorConnection) {
    connection.send(&Request::Kill, &[]).unwrap();
    wait_for_end(connection);
    host.layout.remove_groups(&host.id).unwrap();
}

/// The guest must not boot. Returns why.
fn fail_to_start(host: &ScratchHost, plan: &StartPlan) -> StartFailure {
    let connection = host.park().start(plan).unwrap();
    let failure = loop {
        match connection.receive(deadline()).unwrap().0 {
            Event::StartFailed { failure } => break failure,
            event => assert!(!matches!(event, Event::Phase { .. }), "{event:?}"),
        }
    };
    wait_for_end(&connection);
    host.layout.remove_groups(&host.id).unwrap();
    failure
}

#[test]
fn a_root_with_links_at_the_places_of_mounts_does_not_boot() {
    let host = ScratchHost::new();
    let outside = tempfile::tempdir_in(&host.run_dir).unwrap();
    for place in ["proc", "sys", "dev", "run"] {
        let path = host.root.join(place);
        let kept = host.root.join(format!("{place}.kept"));
        fs::rename(&path, &kept).unwrap();
        for target in ["/", "/etc", "proc.kept", "../../../../..", outside.path().to_str().unwrap()] {
            symlink(target, &path).unwrap();
            let failure = fail_to_start(&host, &host.plan());
            assert_eq!(failure.phase, StartPhase::Mounts, "{failure}");
            let words = format!("at /{place}: the guest's root has a symbolic link there");
            assert!(failure.to_string().contains(&words), "{failure}");
            fs::remove_file(&path).unwrap();
        }
        fs::write(&path, "").unwrap();
        let failure = fail_to_start(&host, &host.plan());
        assert!(
            failure.phase == StartPhase::Mounts && failure.to_string().contains("no directory"),
            "{failure}"
        );
        fs::remove_file(&path).unwrap();
        fs::rename(&kept, &path).unwrap();
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn covers_are_on_the_kernels_files_whatever_the_root_has() {
    let host = ScratchHost::new();
    replace_init(&host);
    for (path, contents) in [("dev/null", "no device"), ("proc/keys", "secret"), ("proc/kcore", "secret")] {
        let _ = fs::remove_file(host.root.join(path));
        fs::write(host.root.join(path), contents).unwrap();
    }
    let (connection, _) = host.start(Phase::Running);
    let script = "stat -c '%F %t:%T' /dev/null /proc/keys /proc/timer_list; cat /proc/keys /proc/timer_list; \
                  stat -f -c %T /proc; echo gone >/proc/keys; touch /proc/sysrq-trigger 2>/dev/null || echo read-only";
    let output = run(&connection, &["sh", "-c", script]);
    let device = "character special file 1:3\n";
    assert_eq!(output.stdout, format!("{}proc\nread-only\n", device.repeat(3)), "{output:?}");
    assert_eq!(fs::read_to_string(host.root.join("proc/keys")).unwrap(), "secret");
    // What is called null and is another device, or a file of the host, covers nothing.
    end(&host, &connection);
    let mut plan = host.plan();
    plan.host.devices[0].source = "/dev/zero".into();
    let failure = fail_to_start(&host, &plan);
    assert!(failure.to_string().contains("cover /proc/"), "{failure}");
    plan.host.devices[0].source = "/etc/hostname".into();
    let failure = fail_to_start(&host, &plan);
    assert!(failure.to_string().contains("the device /etc/hostname"), "{failure}");
}

#[test]
fn init_is_no_path_through_what_the_monitor_has_open() {
    let host = ScratchHost::new();
    let init = host.root.join("usr/sbin/init");
    for number in 0..12 {
        for path in ["", "/bin/true", "/../../../../../../../bin/true"] {
            fs::remove_file(&init).unwrap();
            symlink(format!("/proc/self/fd/{number}{path}"), &init).unwrap();
            let failure = fail_to_start(&host, &host.plan());
            assert_eq!(failure.phase, StartPhase::Execute, "{number}{path}: {failure}");
        }
    }
}

/// Asks for a program in a directory; returns why there is none.
fn fail_to_run(connection: &MonitorConnection, program: &str, directory: &str) -> (ExecFailure, String) {
    let null = fs::File::open("/dev/null").unwrap();
    let fds = [(); 3].map(|()| std::os::fd::AsFd::as_fd(&null));
    let mut request = scratch::request(&[program], None);
    request.directory = directory.into();
    connection.send(&Request::Exec(request), &fds).unwrap();
    loop {
        match connection.receive(deadline()).expect("an event").0 {
            Event::ExecFailed { reason, chain, .. } => return (reason, chain.join(": ")),
            event => assert!(!matches!(event, Event::ExecStarted { .. }), "{directory} {program}: {event:?}"),
        }
    }
}

#[test]
fn a_program_is_in_no_directory_that_the_monitor_has_open() {
    let host = ScratchHost::new();
    replace_init(&host);
    let (connection, _) = host.start(Phase::Running);
    for number in 3..24 {
        for path in ["", "/..", "/../../.."] {
            let descriptor = format!("/proc/self/fd/{number}{path}");
            let (_, error) = fail_to_run(&connection, "/bin/true", &descriptor);
            assert!(error.contains("failed to enter the directory"), "{descriptor}: {error}");
            let (_, error) = fail_to_run(&connection, &format!("{descriptor}/bin/true"), "/");
            assert!(error.contains("failed to execute"), "{descriptor}: {error}");
        }
    }
    for magic in ["/proc/1/root", "/proc/1/cwd", "/proc/self/cwd", "/proc/self/root/etc"] {
        let (_, error) = fail_to_run(&connection, "/bin/true", magic);
        assert!(error.contains("failed to enter the directory"), "{magic}: {error}");
    }
    let (reason, _) = fail_to_run(&connection, "/bin/true", "/no/such/directory");
    assert_eq!(reason, ExecFailure::NotFound);
}

#[test]
fn the_monitors_program_is_a_sealed_copy() {
    let host = ScratchHost::new();
    replace_init(&host);
    let (connection, _) = host.start(Phase::Running);
    let program = PathBuf::from(format!("/proc/{}/exe", scratch::monitor_pid(&connection)));
    let path = fs::read_link(&program).unwrap();
    assert_eq!(path.to_str(), Some("/memfd:insula-monitor (deleted)"));
    // Root of the host may not, nor may a guest by a script that the monitor's program is the interpreter of.
    let error = fs::OpenOptions::new().write(true).open(&program).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ExecutableFileBusy, "{error}");
    let script = "printf '#!/proc/self/exe\\n' >/root/evil; chmod +x /root/evil; echo";
    assert_eq!(run(&connection, &["sh", "-c", script]).end, ExecEnd::Code(0));
    let before = fs::read(env!("CARGO_BIN_EXE_insula-monitor")).unwrap();
    let evil = run(&connection, &["/root/evil"]);
    assert_ne!(evil.end, ExecEnd::Code(101), "{evil:?}");
    assert!(before == fs::read(env!("CARGO_BIN_EXE_insula-monitor")).unwrap());
}

#[test]
fn only_devices_that_are_listed_can_be_opened() {
    let host = ScratchHost::new();
    replace_init(&host);
    let script = "for device in null zero full random urandom ptmx; do (: </dev/$device) 2>/dev/null && echo $device; done; \
                  mknod /root/null c 1 3 2>/dev/null || echo no nodes";
    let full = DeviceRule::character(1, 7);
    // On v1's list, and on that of a program.
    for (is_unified, has_full) in [(false, true), (false, false), (true, true), (true, false)] {
        let mut plan = host.plan();
        if is_unified {
            plan.host.layout.legacy.retain(|hierarchy| !hierarchy.controllers.contains(&Controller::Devices));
        }
        plan.host.device_rules.retain(|rule| has_full || *rule != full);
        let connection = host.park().start(&plan).unwrap();
        wait_for_phase(&connection, Phase::Running);
        let output = run(&connection, &["sh", "-c", script]);
        let expected = "null\nzero\nfull\nrandom\nurandom\nptmx\nno nodes\n";
        let expected = if has_full { expected.to_owned() } else { expected.replace("full\n", "") };
        assert_eq!(output.stdout, expected, "unified: {is_unified}: {output:?}");
        end(&host, &connection);
    }
}

#[test]
fn a_guest_cannot_raise_its_budgets() {
    let host = ScratchHost::new();
    replace_init(&host);
    let mut plan = host.plan();
    let most = |name: &str, most| PlannedBudget { name: name.into(), most };
    // One is the guest's own.
    plan.host.budgets = vec![most("max_net_namespaces", 3), most("max_uts_namespaces", 9)];
    let connection = host.park().start(&plan).unwrap();
    wait_for_phase(&connection, Phase::Running);
    let script = "cat /proc/sys/user/max_net_namespaces /proc/sys/user/max_uts_namespaces; \
                  echo 99 >/proc/sys/user/max_net_namespaces || echo refused; \
                  unshare -U -r sh -c 'echo 99 >/proc/sys/user/max_net_namespaces' || echo refused; \
                  unshare -n unshare -n echo two; unshare -n unshare -n unshare -n echo three || echo no more; \
                  echo 1 >/proc/sys/net/ipv4/ip_forward && echo others are written";
    let output = run(&connection, &["sh", "-c", script]);
    let expected = "3\n9\nrefused\nrefused\ntwo\nno more\nothers are written\n";
    assert_eq!(output.stdout, expected, "{output:?}");
}
