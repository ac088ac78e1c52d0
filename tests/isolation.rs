//! The walls between VPSes, and between a VPS and the host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use insula_testkit::{Image, ScratchHost, project_file};

#[test]
fn a_vps_has_namespaces_and_ids_of_its_own() {
    let host = ScratchHost::with(Image::Debian12);
    for name in ["web1", "web2"] {
        host.create_ready(name, Image::Debian12, &[]);
    }
    let (one, other) = (host.vps("web1"), host.vps("web2"));
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{namespace}")).unwrap();
        let (first, second) = (of(&one.init_pid.to_string()), of(&other.init_pid.to_string()));
        assert!(first != second, "the VPSes share their {namespace} namespace");
        assert!(![&first, &second].contains(&&of("self")), "the {namespace} namespace is the host's");
    }
    for vps in [&one, &other] {
        let map = fs::read_to_string(format!("/proc/{}/uid_map", vps.init_pid)).unwrap();
        let map: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert_eq!(map, [0, vps.id_range_start, 65_536]);
        let stored = fs::metadata(host.pool().join("vps").join(&vps.id).join("root/etc/hostname")).unwrap();
        assert_eq!(stored.uid(), 0, "what is stored is never chowned");
    }
    assert!(one.id_range_start.abs_diff(other.id_range_start) >= 65_536);
}

#[test]
fn a_guest_can_do_nothing_to_the_host() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &[]);
    let init = host.vps("web1").init_pid;
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    assert!(status.contains("Seccomp:\t2"), "{status}");
    for forbidden in [
        "echo 1 >/proc/sys/kernel/sysrq",
        "echo c >/proc/sysrq-trigger",
        "echo x >/sys/kernel/uevent_helper",
        "dmesg",
        "date -s 2001-01-01",
        "mknod /root/disk b 254 0",
        "mount -o remount,rw /sys",
        "swapon /root/none",
        "echo max >/sys/fs/cgroup/../pids.max",
    ] {
        let outcome = host.insula(&["exec", "web1", "--", "sh", "-c", forbidden]);
        assert_ne!(outcome.code, 0, "this must not work: {outcome}");
    }
    let seen = host.sh("web1", "ps -e; env; cat /proc/self/cgroup /proc/self/mountinfo");
    assert!(!seen.contains("insula-test"), "nothing of the host's shows: {seen}");
    // A guest's mounts stay inside it, although the mounts of this host are shared.
    host.sh("web1", "mount -t tmpfs none /mnt");
    assert!(!host.traces().mounts.iter().any(|mount| mount.ends_with("/mnt")));
}

/// The rows of the promises in docs/security.md: `| promise | by | test |`.
fn promises() -> Vec<(String, Vec<String>)> {
    let text = fs::read_to_string(project_file("docs/security.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    let row = |line: &str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, promise, _, tests, _] = cells[..] else { panic!("three cells: {line}") };
        (promise.to_owned(), tests.split('`').skip(1).step_by(2).map(str::to_owned).collect())
    };
    rows.map(row).collect()
}

fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: std::path::PathBuf| match path.is_dir() {
        true => sources(&path),
        false if path.extension().is_some_and(|extension| extension == "rs") => {
            fs::read_to_string(path).unwrap()
        }
        false => String::new(),
    };
    entries.map(read).collect()
}

#[test]
fn each_promise_has_a_test() {
    let sources = ["crates", "tests"].map(|directory| sources(&project_file(directory))).concat();
    let is_test = |name: &str| {
        let head = format!("fn {name}()");
        sources.lines().filter(|line| line.trim_start().starts_with(&head)).count() == 1
    };
    let promises = promises();
    assert!(promises.len() >= 15, "the table of promises is not found: {promises:?}");
    for (promise, tests) in promises {
        assert!(!tests.is_empty(), "no test is named for: {promise}");
        for test in tests {
            assert!(is_test(&test), "there is no one test {test}, named for: {promise}");
        }
    }
}
