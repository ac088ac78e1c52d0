//! Limits of a VPS change while it runs, completely or not at all, and they last. Usage is counted,
//! and limits that were hit are reported. Also passwords.

use insula_api::{Reason, v1};
use insula_testkit::{Image, PATIENCE, ScratchHost, call, done, eventually, failure};
use v1::VpsState;

const MIB: u64 = 1 << 20;

#[test]
fn limits_change_while_it_runs() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--memory", "512M", "--cpus", "1", "--disk", "1G"]);
    limits_are_live(&host);
    limits_outlive_the_guests_reboot(&host);
    a_refused_limit_changes_nothing(&host);
    a_profile_is_swapped_whole(&host);
    what_is_hit_is_told(&host);
    what_is_used_is_counted(&host);
    a_password_is_accepted(&host);
}

/// The kernel's limits on memory, in bytes, and on CPU time in a tenth of a second, in µs, in
/// cgroup v1 or v2.
fn kernels(host: &ScratchHost) -> (u64, u64) {
    let id = host.vps("web1").id;
    let groups: Vec<_> = host.traces().groups.into_iter().filter(|group| group.ends_with(&id)).collect();
    let value = |files: [&str; 2]| {
        let read = |file| groups.iter().find_map(|group| std::fs::read_to_string(group.join(file)).ok());
        let text = files.into_iter().find_map(read).expect("a value");
        text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
    };
    (value(["memory.limit_in_bytes", "memory.max"]), value(["cpu.cfs_quota_us", "cpu.max"]))
}

fn limits(memory_mib: u64, cpu_milli: u32) -> v1::UpdateVpsRequest {
    let limits =
        v1::Limits { memory_bytes: Some(memory_mib * MIB), cpu_milli: Some(cpu_milli), ..Default::default() };
    let changes = v1::VpsChanges { limits: Some(limits), ..Default::default() };
    v1::UpdateVpsRequest { vps: "web1".into(), changes: Some(changes), ..Default::default() }
}

fn limits_are_live(host: &ScratchHost) {
    assert_eq!(kernels(host), (512 * MIB, 100_000));
    let before = host.vps("web1");
    done!(host, vps.update_vps(limits(768, 1500)));
    assert_eq!(kernels(host), (768 * MIB, 150_000));
    let after = host.vps("web1");
    assert_eq!(after.init_pid, before.init_pid);
    let own = after.own_limits.unwrap();
    assert_eq!((own.memory_bytes, own.disk_bytes), (Some(768 * MIB), Some(1 << 30)), "the others stay");
    done!(host, vps.update_vps(limits(400, 500)));
    assert_eq!(kernels(host), (400 * MIB, 50_000));
}

fn limits_outlive_the_guests_reboot(host: &ScratchHost) {
    reboot(host);
    assert_eq!(kernels(host), (400 * MIB, 50_000));
}

/// The guest reboots itself, and the agent has no part in it.
fn reboot(host: &ScratchHost) {
    let before = host.vps("web1");
    host.sh("web1", "systemctl reboot");
    eventually("the guest has rebooted by itself", || {
        let vps = host.vps("web1");
        (vps.boots > before.boots && vps.state() == VpsState::Ready).then_some(())
    });
}

/// A limit below the memory that the VPS holds is refused.
fn a_refused_limit_changes_nothing(host: &ScratchHost) {
    host.sh("web1", "head -c 250M /dev/zero >/dev/shm/full");
    let before = host.vps("web1");
    let refused = host.over(call!(host, vps.update_vps(limits(128, 2000))).unwrap().operation);
    assert_eq!(failure(&refused), Reason::LimitRefused, "{refused:?}");
    let after = host.vps("web1");
    assert_eq!((after.limits, after.own_limits, after.etag), (before.limits, before.own_limits, before.etag));
    assert_eq!(kernels(host), (400 * MIB, 50_000));
}

fn a_profile_is_swapped_whole(host: &ScratchHost) {
    let limits = |memory_mib: u64| {
        let memory_bytes = Some(memory_mib * MIB);
        Some(v1::Limits { memory_bytes, cpu_milli: Some(2000), processes: Some(300), ..Default::default() })
    };
    for (name, memory_mib) in [("tight", 128), ("wide", 640)] {
        let profile = v1::Profile {
            name: name.into(),
            limits: limits(memory_mib),
            networks: vec!["default".into()],
            ..Default::default()
        };
        let request = v1::CreateProfileRequest { profile: Some(profile), ..Default::default() };
        done!(host, profiles.create_profile(request));
    }
    let change = |profile: &str| v1::UpdateVpsRequest {
        vps: "web1".into(),
        changes: Some(v1::VpsChanges { profile: profile.into(), ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["profile".into(), "limits".into()] }),
        ..Default::default()
    };
    let refused = host.over(call!(host, vps.update_vps(change("tight"))).unwrap().operation);
    assert_eq!(failure(&refused), Reason::LimitRefused);
    assert_eq!((&*host.vps("web1").profile, kernels(host)), ("small", (400 * MIB, 50_000)));
    done!(host, vps.update_vps(change("wide")));
    let vps = host.vps("web1");
    assert_eq!((&*vps.profile, vps.limits), ("wide", limits(640)), "the plan's, and none of its own");
    assert_eq!(kernels(host), (640 * MIB, 200_000));
    let in_use = v1::DeleteProfileRequest { profile: "wide".into(), ..Default::default() };
    assert_eq!(insula_testkit::reason(call!(host, profiles.delete_profile(in_use))), Reason::ProfileInUse);
    reboot(host);
    assert_eq!(kernels(host), (640 * MIB, 200_000));
}

fn what_is_hit_is_told(host: &ScratchHost) {
    let request =
        v1::WatchEventsRequest { vps: "web1".into(), kinds: vec!["limit".into()], ..Default::default() };
    let mut events = call!(host, events.watch_events(request)).unwrap();
    let first = host.block_on(events.message()).unwrap().unwrap();
    assert_eq!(first.event, None, "the watch has begun");
    // tail(1) keeps a line that never ends, until the kernel kills it.
    host.insula(&["exec", "web1", "--", "tail", "/dev/zero"]).expect_code(137);
    let told = host.block_on(async { tokio::time::timeout(PATIENCE, events.message()).await });
    let event = told.expect("an event").unwrap().unwrap().event.unwrap();
    let v1::event::Payload::Limit(hit) = event.payload.unwrap() else { panic!("of another kind") };
    assert_eq!((&*event.vps_name, hit.limit(), hit.count), ("web1", v1::limit_event::Limit::Memory, 1));
}

fn what_is_used_is_counted(host: &ScratchHost) {
    let before = host.usage("web1");
    let network = call!(host, networks.get_network(v1::GetNetworkRequest { network: "default".into() }));
    let gateway = network.unwrap().network.unwrap().gateway;
    host.sh("web1", &format!("head -c 20M /dev/urandom >/root/noise; sync; ping -q -c 3 -i 0.2 {gateway}"));
    let after = host.usage("web1");
    assert!(after.cpu_ns > before.cpu_ns, "{before:?} {after:?}");
    assert!(after.sent_bytes >= before.sent_bytes + 3 * 84, "{before:?} {after:?}");
    assert!(after.received_bytes >= before.received_bytes + 3 * 84, "{before:?} {after:?}");
    assert!(after.disk_bytes >= before.disk_bytes + 20 * MIB, "{before:?} {after:?}");
    assert!(after.memory_bytes > 0 && after.processes > 1, "{after:?}");
    assert_eq!(after.memory_limit_bytes, 640 * MIB);
    let all = call!(host, usage.list_usage(v1::ListUsageRequest::default())).unwrap().usage;
    assert_eq!(all.len(), 1);
}

fn a_password_is_accepted(host: &ScratchHost) {
    let password = "Sésame, öffne: dich $6$ !";
    let request = v1::SetVpsPasswordRequest {
        vps: "web1".into(),
        password: password.into(),
        request_id: "password-1".into(),
        ..Default::default()
    };
    done!(host, vps.set_vps_password(request.clone()));
    done!(host, vps.set_vps_password(request.clone()));
    // PAM asks this helper for programs that may not read the file. The password ends with a NUL:
    // unix_chkpwd(8).
    let check = |password: &str| {
        let line = format!("printf '%s\\0' '{password}' | unix_chkpwd root nonull");
        host.insula(&["exec", "web1", "--no-tty", "--", "sh", "-c", &line]).code
    };
    assert_eq!(check(password), 0);
    assert_ne!(check("Sésame"), 0);
    let other = v1::SetVpsPasswordRequest { password: "another".into(), ..request.clone() };
    assert_eq!(insula_testkit::reason(call!(host, vps.set_vps_password(other))), Reason::RequestIdReused);
    let nobody = v1::SetVpsPasswordRequest { user: "nobody2".into(), request_id: String::new(), ..request };
    let failed = host.over(call!(host, vps.set_vps_password(nobody)).unwrap().operation);
    assert_eq!(failure(&failed), Reason::UserNotFound);
}
