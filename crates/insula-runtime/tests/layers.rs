//! Guests whose root is layers, and what a start may end with.

mod scratch;

use std::fs;
use std::os::unix::fs::MetadataExt;

use insula_runtime::plan::RestorePlan;
use insula_runtime::protocol::{StartFailure, StartPhase};
use insula_runtime::{ConnectionError, Event, Phase, RootPlan, StartEnd, StartPlan};
use scratch::{ScratchHost, deadline, run};

/// A plan with an upper volume on a small layer that lies on the guest's root.
fn layered(host: &ScratchHost) -> StartPlan {
    let (upper, middle) = (host.run_dir.join("upper"), host.run_dir.join("middle"));
    for directory in [upper.join("upper"), upper.join("work"), middle.join("etc")] {
        fs::create_dir_all(directory).unwrap();
    }
    fs::write(middle.join("etc/middle"), "middle").unwrap();
    fs::write(middle.join("etc/hostname"), "layered\n").unwrap();
    let lower = vec![middle, host.root.clone()];
    let mut plan = host.plan();
    plan.host.root = RootPlan { upper, lower, has_shifted_ids: false };
    plan
}

#[test]
fn a_guest_boots_from_layers_and_writes_the_upper_one_only() {
    let host = ScratchHost::new();
    let connection = host.park().start(&layered(&host)).unwrap();
    scratch::wait_for_phase(&connection, Phase::Ready);
    let script = "cat /etc/middle /etc/hostname; stat -c %u:%g /etc/middle /etc/passwd; echo new >/etc/new; \
                  chown 7:8 /etc/new; echo more >>/etc/middle; rm /etc/issue; findmnt -no FSTYPE,OPTIONS /";
    let output = run(&connection, &["sh", "-c", script]);
    assert!(output.stdout.starts_with("middlelayered\n0:0\n0:0\noverlay "), "{output:?}");
    assert!(output.stdout.contains("nodev"), "{output:?}");
    run(&connection, &["systemctl", "--no-block", "reboot"]);
    drop(connection);
    let connection = host.connect_when(|status| status.boots == 2 && status.phase == Phase::Ready);
    let output = run(&connection, &["sh", "-c", "cat /etc/middle /etc/new; ls /etc/issue"]);
    assert_eq!(output.stdout, "middlemore\nnew\n", "{output:?}");
    let etc = host.run_dir.join("upper/upper/etc");
    let (new, copied) = (fs::metadata(etc.join("new")).unwrap(), fs::metadata(etc.join("middle")).unwrap());
    assert_eq!((new.uid(), new.gid(), copied.uid(), copied.gid()), (7, 8, 0, 0), "ids as the guest has them");
    assert_eq!(fs::read_to_string(host.run_dir.join("middle/etc/middle")).unwrap(), "middle");
    assert!(host.root.join("etc/issue").exists() && !host.root.join("etc/new").exists());
    assert_eq!(fs::read_to_string(host.root.join("etc/hostname")).unwrap(), "scratch\n");
}

#[test]
fn a_layer_that_is_missing_is_named() {
    let host = ScratchHost::new();
    for missing in ["upper/work", "middle"] {
        let plan = layered(&host);
        fs::remove_dir_all(host.run_dir.join(missing)).unwrap();
        let failure = failure(&host, &plan);
        assert_eq!((failure.phase, failure.errno), (StartPhase::Root, Some(libc::ENOENT)), "{failure}");
        let named = host.run_dir.join(missing.split('/').next().unwrap());
        assert!(failure.to_string().contains(named.to_str().unwrap()), "{failure}");
    }
}

/// A plan that ends with a restore.
fn restoring(host: &ScratchHost) -> StartPlan {
    let restore = RestorePlan {
        images: "/images".into(),
        console: (0x8803, 0x1b),
        boots: 1,
        started_at_ms: 1,
        ready_at_ms: Some(2),
    };
    StartPlan { end: StartEnd::Restore(restore), ..host.plan() }
}

#[test]
fn nothing_is_booted_in_the_place_of_a_restore() {
    let host = ScratchHost::new();
    let failure = failure(&host, &restoring(&host));
    assert_eq!((failure.phase, failure.errno), (StartPhase::Prepare, Some(libc::EOPNOTSUPP)), "{failure}");
    assert!(failure.to_string().contains("restore the guest from /images"), "{failure}");
    assert!(!host.directory.socket().exists());
}

#[test]
fn a_monitor_of_an_older_version_gets_no_plan_that_it_would_misread() {
    let mut host = ScratchHost::new();
    host.use_frozen_monitor(2);
    for plan in [layered(&host), restoring(&host)] {
        let refused = host.park().start(&plan);
        let Err(ConnectionError::TooOld { version: 2, needed: 5 }) = refused else { panic!("{refused:?}") };
    }
}

fn failure(host: &ScratchHost, plan: &StartPlan) -> StartFailure {
    let connection = host.park().start(plan).unwrap();
    let failure = loop {
        match connection.receive(deadline()).unwrap().0 {
            Event::StartFailed { failure } => break failure,
            event => assert!(!matches!(event, Event::Phase { .. }), "{event:?}"),
        }
    };
    while connection.receive(deadline()).is_ok() {} // its monitor ends
    host.layout.remove_groups(&host.id).unwrap();
    failure
}
