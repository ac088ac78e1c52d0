//! Mounts that are attached to real guests while they run.

mod scratch;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use insula_runtime::protocol::{ExecEnd, ExecFailure};
use insula_runtime::{AttachError, ConnectionError, DetachedMount, Event, MonitorConnection, Phase, Request};
use scratch::{ScratchHost, deadline, run};

/// A directory of the host with a file in it, both with the guest's own ids.
fn data(host: &ScratchHost) -> PathBuf {
    let data = host.run_dir.join("data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("word"), "hello").unwrap();
    data
}

fn attach(host: &ScratchHost, target: &str) -> Result<(), AttachError> {
    let mount = DetachedMount::clone_of(&data(host)).unwrap().with_ids(host.ids).unwrap();
    host.connect().attach_mount(&mount, target, deadline())
}

fn output(connection: &MonitorConnection, script: &str) -> String {
    run(connection, &["sh", "-c", script]).stdout
}

#[test]
fn a_running_guest_gets_a_mount() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    assert_eq!(output(&connection, "ls -A /mnt"), "");
    attach(&host, "/mnt").unwrap();
    assert_eq!(output(&connection, "cat /mnt/word; stat -c %u:%g /mnt/word"), "hello0:0\n");
    assert_eq!(output(&connection, "echo new >/mnt/new; chown 7:8 /mnt/new; rm /mnt/word"), "");
    let new = host.run_dir.join("data/new");
    let stat = fs::metadata(&new).unwrap();
    assert_eq!((stat.uid(), stat.gid(), fs::read_to_string(&new).unwrap()), (7, 8, "new\n".to_owned()));
    // What init starts sees it, too, and the host has no such mount.
    let seen = output(&connection, "systemd-run --quiet --wait --pipe cat /mnt/new");
    assert_eq!(seen, "new\n");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(host.run_dir.to_str().unwrap()), "{mounts}");
    assert_eq!(output(&connection, "grep -c ' /mnt .*nodev' /proc/self/mountinfo"), "1\n");
    // It ends with the boot, and can be attached again.
    run(&connection, &["systemctl", "--no-block", "reboot"]);
    drop(connection);
    let connection = host.connect_when(|status| status.boots == 2 && status.phase == Phase::Ready);
    assert_eq!(output(&connection, "ls -A /mnt"), "");
    attach(&host, "/mnt").unwrap();
    assert_eq!(output(&connection, "cat /mnt/word"), "hello");
}

#[test]
fn no_path_of_a_hostile_guest_leads_a_mount_out_of_it() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let outside = host.run_dir.join("outside");
    fs::create_dir(&outside).unwrap();
    let path = outside.to_str().unwrap();
    let made = output(
        &connection,
        &format!(
            "ln -s {path} /absolute; ln -s ../../../../../../srv /relative; ln -s /proc/1/root /magic; \
             ln -s /proc/self/cwd /own; ln -s /loop /loop; touch /file"
        ),
    );
    assert_eq!(made, "");
    let refused = |target: &str| match attach(&host, target) {
        Err(AttachError::Failed { reason, chain, .. }) => (reason, chain.join(": ")),
        other => panic!("{target}: {other:?}"),
    };
    for (target, reason, word) in [
        ("/absolute", ExecFailure::NotFound, "find /absolute"),
        ("/none", ExecFailure::NotFound, "find /none"),
        ("/file/below", ExecFailure::NotFound, "find /file/below"),
        ("/magic", ExecFailure::Other, "Too many levels"),
        ("/loop", ExecFailure::Other, "Too many levels"),
        ("/file", ExecFailure::Other, "a directory to a directory"),
        ("", ExecFailure::NotFound, "find"),
    ] {
        let (refused, chain) = refused(target);
        assert!(refused == reason && chain.contains(word), "{target}: {refused:?} {chain}");
    }
    assert!(attach(&host, "/own").is_err());
    // Where links lead, they lead below the guest's root.
    attach(&host, "/relative").unwrap();
    assert_eq!(output(&connection, "cat /srv/word"), "hello");
    assert_eq!(output(&connection, &format!("mkdir -p {path}")), "");
    attach(&host, "/absolute").unwrap();
    assert_eq!(output(&connection, &format!("cat {path}/word")), "hello");
    attach(&host, "../../mnt").unwrap();
    assert_eq!(output(&connection, "cat /mnt/word"), "hello");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "the host's own directory");
    assert!(!fs::exists("/srv/word").unwrap() && !fs::exists("/mnt/word").unwrap());
}

#[test]
fn only_a_detached_mount_is_attached_and_only_to_a_guest_that_runs() {
    let host = ScratchHost::new();
    let (connection, _) = host.start(Phase::Ready);
    let refused = |fds: &[std::os::fd::BorrowedFd<'_>]| {
        let request = Request::AttachMount { exec: 1, target: "/mnt".into() };
        connection.send(&request, fds).unwrap();
        loop {
            match connection.receive(deadline()).unwrap().0 {
                Event::ExecFailed { exec: 1, chain, .. } => return chain.join(": "),
                Event::MountAttached { .. } => panic!("it was attached"),
                _ => {}
            }
        }
    };
    let directory = fs::File::open(data(&host)).unwrap();
    assert!(refused(&[directory.as_fd()]).contains("attach the mount"));
    assert!(refused(&[]).contains("one mount is needed"));
    assert_eq!(output(&connection, "ls -A /mnt"), "");
    host.layout.freeze(&host.id).unwrap();
    let paused = attach(&host, "/mnt");
    host.layout.thaw(&host.id).unwrap();
    assert!(matches!(paused, Err(AttachError::Failed { reason: ExecFailure::Paused, .. })), "{paused:?}");
    attach(&host, "/mnt").unwrap();
    assert_eq!(run(&connection, &["true"]).end, ExecEnd::Code(0));
}

#[test]
fn a_monitor_of_an_older_version_is_not_asked() {
    let mut host = ScratchHost::new();
    host.use_frozen_monitor(2);
    let (connection, _) = host.start(Phase::Ready);
    let refused = attach(&host, "/mnt");
    let Err(AttachError::Connection(ConnectionError::TooOld { version: 2, needed: 5 })) = refused else {
        panic!("{refused:?}");
    };
    // Asked all the same, it refuses, and its guest runs on.
    let directory = fs::File::open(data(&host)).unwrap();
    let request = Request::AttachMount { exec: 1, target: "/mnt".into() };
    connection.send(&request, &[directory.as_fd()]).unwrap();
    let refused = loop {
        if let Event::Refused { message } = connection.receive(deadline()).unwrap().0 {
            break message;
        }
    };
    assert!(refused.contains("unknown variant `attach_mount`"), "{refused}");
    assert_eq!(output(&connection, "ls -A /mnt"), "");
}
