//! Where the host has AppArmor, guests run under a policy that is removed with them. Where it has
//! none, `insula version` says so. Both kinds of hosts are tested: `tests/vm` has AppArmor.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use insula_api::v1::VpsState;
use insula_testkit::{Image, PATIENCE, ScratchHost, eventually};

/// Attempts that nothing but the policy refuses. They write files that would make the host run a
/// program, if they were the kernel's.
const ATTEMPTS: [&str; 3] = [
    "mkdir -p /root/proc/sys/kernel && echo x >/root/proc/sys/kernel/core_pattern",
    "touch /root/release_agent",
    "mount -t tmpfs none /mnt && touch /mnt/sysrq-trigger",
];

#[test]
fn guests_are_confined_where_the_host_can() {
    let host = ScratchHost::with(Image::Debian12);
    for name in ["web1", "web2"] {
        host.create_ready(name, Image::Debian12, &[]);
    }
    let said = host.insula_json(&["version"])["host"]["apparmor"].as_str().unwrap_or_default().to_owned();
    match fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y") {
        true => {
            assert_eq!(said, "enforced");
            confined(&host);
        }
        false => {
            assert!(said.contains("no AppArmor"), "{said}");
            unconfined(&host);
        }
    }
}

fn confined(host: &ScratchHost) {
    check_policy(host, "web1");
    check_policy(host, "web2");
    for attempt in ATTEMPTS {
        let outcome = host.insula(&["exec", "web1", "--", "sh", "-c", attempt]);
        assert_ne!(outcome.code, 0, "this must not work: {outcome}");
    }
    let leave = "echo changeprofile unconfined >/proc/self/attr/apparmor/current";
    assert_ne!(host.insula(&["exec", "web1", "--", "sh", "-c", leave]).code, 0, "it can leave its policy");
    check_transfer(host, "web1");
    assert_eq!(host.sh("web1", "systemctl is-system-running --wait"), "running");
    // The guest reboots itself, and the agent has no part in it.
    host.sh("web1", "systemctl reboot");
    eventually("the guest has rebooted by itself", || {
        let vps = host.vps("web1");
        (vps.boots == 2 && vps.state() == VpsState::Ready).then_some(())
    });
    check_policy(host, "web1");
    host.insula_ok(&["stop", "--force", "web1", "web2"]);
    let left = host.traces().policies;
    for name in ["web1", "web2"] {
        let id = host.vps(name).id;
        assert!(!left.iter().any(|policy| policy.ends_with(&id)), "it has stopped: {left:?}");
    }
}

/// Init and a program of an exec are under the VPS's own policy. The host can see both.
#[track_caller]
fn check_policy(host: &ScratchHost, name: &str) {
    let vps = host.vps(name);
    let label = fs::read_to_string(format!("/proc/{}/attr/apparmor/current", vps.init_pid)).unwrap();
    assert_eq!(label.trim(), format!(":{}//{}:guest (enforce)", host.cgroup_root(), vps.id));
    assert!(fs::read(format!("/proc/{}/environ", vps.init_pid)).is_ok(), "the host can't look into it");
    assert_eq!(host.sh(name, "cat /proc/self/attr/apparmor/current"), "guest (enforce)");
}

/// The process that works with the guest's files is under the policy, too, and can still do its
/// work.
fn check_transfer(host: &ScratchHost, name: &str) {
    let id = host.vps(name).id;
    let group = host.groups().into_iter().find(|group| group.ends_with(&id)).expect("a group");
    let processes = group.join("payload/.insula/cgroup.procs");
    let push = host.command("insula").args(["file", "push", "-", &format!("{name}/root/pushed")]);
    let mut push = push.spawn_with(Stdio::piped(), Stdio::null(), Stdio::null());
    let worker =
        eventually("a worker", || fs::read_to_string(&processes).ok()?.lines().next().map(str::to_owned));
    let label = || fs::read_to_string(format!("/proc/{worker}/attr/apparmor/current")).unwrap();
    eventually("the worker is confined", || label().contains(":guest (enforce)").then_some(()));
    let input = push.child().stdin.take();
    input.unwrap().write_all(b"pushed").unwrap();
    assert!(push.wait(PATIENCE).expect("an end").success());
    assert_eq!(host.sh(name, "cat /root/pushed"), "pushed");
}

fn unconfined(host: &ScratchHost) {
    for attempt in ATTEMPTS {
        host.sh("web1", attempt);
    }
    assert!(host.traces().policies.is_empty());
}
