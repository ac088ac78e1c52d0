//! The life of a VPS: created, booted, used, rolled back to a snapshot, rebooted, powered off,
//! removed.

use insula_api::v1::VpsState;
use insula_testkit::{Image, ScratchHost, eventually};

#[test]
fn a_debian_12_vps_lives_its_life() {
    live(Image::Debian12);
}

#[test]
fn a_debian_13_vps_lives_its_life() {
    live(Image::Debian13);
}

fn live(image: Image) {
    let host = ScratchHost::with(image);
    create(&host, image);
    boot(&host);
    go_back_to_a_snapshot(&host);
    reboot_from_inside(&host);
    power_off_from_inside(&host);
    remove(&host);
}

fn create(host: &ScratchHost, image: Image) {
    let arguments = ["--memory", "512M", "--disk", "2G", "--cpus", "1.5", "--hostname", "web.example.org"];
    host.insula_ok(&[&["create", "web1", "--image", image.alias()], &arguments[..]].concat());
    let vps = host.vps("web1");
    assert_eq!(vps.state(), VpsState::Stopped);
    assert_eq!((vps.init_pid, vps.boots), (0, 0));
    let limits = vps.limits.unwrap();
    assert_eq!((limits.memory_bytes, limits.disk_bytes), (Some(512 << 20), Some(2 << 30)));
    assert_eq!((limits.cpu_milli, limits.processes), (Some(1500), Some(1000)), "flags, and the profile's");
}

fn boot(host: &ScratchHost) {
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    let vps = host.vps("web1");
    assert_eq!((vps.state(), vps.boots), (VpsState::Ready, 1));
    assert!(vps.ready_time.is_some() && vps.init_pid > 1);
    assert_eq!(host.sh("web1", "cat /proc/1/comm"), "systemd");
    assert_eq!(host.sh("web1", "hostname"), "web.example.org");
    assert_eq!(host.sh("web1", "systemctl is-system-running --wait"), "running");
    assert_eq!(host.sh("web1", "systemctl --failed --quiet --plain --no-legend"), "");
}

fn go_back_to_a_snapshot(host: &ScratchHost) {
    host.sh("web1", "echo before >/root/file && sync");
    host.insula_ok(&["snapshot", "create", "web1", "clean"]);
    host.insula_ok(&["snapshot", "create", "web1"]);
    let names = host.insula_ok(&["snapshot", "list", "web1", "--columns", "name", "-o", "csv"]);
    assert_eq!(names.lines().filter(|name| *name == "clean").count(), 1, "{names}");
    assert_eq!(names.lines().count(), 3, "a head and two snapshots, one named after the time: {names}");
    host.sh("web1", "echo after >/root/file");
    host.insula_ok(&["stop", "web1"]);
    assert_eq!(host.vps("web1").last_exit.unwrap().reason, "stopped");
    host.insula_ok(&["snapshot", "restore", "web1", "clean"]);
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.sh("web1", "cat /root/file"), "before");
    host.insula_ok(&["snapshot", "delete", "web1", "clean"]);
    let left = host.insula_json(&["snapshot", "list", "web1"]);
    assert_eq!(left["snapshots"].as_array().unwrap().len(), 1, "{left}");
}

fn reboot_from_inside(host: &ScratchHost) {
    host.insula_ok(&["restart", "web1"]);
    let pid = host.vps("web1").init_pid;
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    host.insula_ok(&["exec", "web1", "--", "systemctl", "reboot"]);
    let vps = eventually("the guest has rebooted by itself", || {
        Some(host.vps("web1")).filter(|vps| vps.boots == 2 && vps.state() == VpsState::Ready)
    });
    assert_ne!(vps.init_pid, pid);
    assert_eq!(host.sh("web1", "systemctl is-system-running --wait"), "running");
}

fn power_off_from_inside(host: &ScratchHost) {
    host.insula_ok(&["exec", "web1", "--", "systemctl", "poweroff"]);
    let vps = eventually("the guest has powered itself off", || {
        Some(host.vps("web1")).filter(|vps| vps.state() == VpsState::Stopped)
    });
    assert_eq!(vps.last_exit.unwrap().reason, "power_off");
    assert_eq!((vps.init_pid, vps.boots), (0, 0));
}

fn remove(host: &ScratchHost) {
    let id = host.vps("web1").id;
    host.insula_ok(&["delete", "web1"]);
    host.insula(&["show", "web1"]).expect_code(3);
    assert_eq!(host.insula_json(&["show", &id])["state"], "VPS_STATE_DELETED");
    host.insula_ok(&["delete", "--now", &id]);
    host.insula(&["show", &id]).expect_code(3);
    assert_eq!(host.insula_json(&["network", "show", "default"])["assignedAddresses"], 0);
    // The directory stays until its quota has been removed as well.
    assert!(!host.pool().join("vps").join(&id).join("root").exists(), "its root is left");
    assert!(!host.pool().join("snapshots").join(&id).exists(), "its snapshots are left");
    assert!(!host.run_dir().join("vps").join(&id).exists(), "its run directory is left");
    let traces = host.traces();
    assert!(!traces.interfaces.iter().any(|name| name.starts_with("ins") && !name.starts_with("insbr")));
    assert!(!traces.groups.iter().any(|group| group.ends_with(&id)), "{:?}", traces.groups);
}
