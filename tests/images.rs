//! Building images, successfully and not.

use std::fs;
use std::time::Duration;

use insula_testkit::{Image, ScratchHost};

/// The deadline of a build, which takes a minute on an idle machine.
const LIMIT: Duration = Duration::from_secs(600);

const SMALL: &str = r#"
version: 1
name: small
description: The least
distribution: debian
release: "12"
suite: bookworm
init: systemd
packages: [systemd-sysv]
run: ["true"]
"#;

#[test]
fn a_build_that_fails_half_way_leaves_nothing() {
    let definition = SMALL.replace("true", "echo the disk is on fire >&2; exit 3");
    fail_to_build(&definition, "the disk is on fire");
}

#[test]
fn a_build_without_one_of_its_packages_leaves_nothing() {
    let definition = SMALL.replace("systemd-sysv", "no-such-package");
    fail_to_build(&definition, "no-such-package");
}

fn fail_to_build(definition: &str, complaint: &str) {
    let host = ScratchHost::builder().uplink().start();
    let file = host.directory().join("small.yaml");
    fs::write(&file, definition).unwrap();
    let before = host.traces();
    let build = host.command("insula").args(["image", "build"]).args([&file]).limit(LIMIT).run();
    build.expect_code(1).expect_complaint(&["small", complaint]);
    assert_eq!(fs::read_dir(host.pool().join("staging")).unwrap().count(), 0);
    assert_eq!(host.insula_json(&["image", "list"])["images"].as_array().unwrap().len(), 0);
    assert_eq!(host.traces().mounts, before.mounts);
}

#[test]
fn a_build_without_a_network_says_so() {
    let host = ScratchHost::builder().start();
    let definition = Image::Debian12.definition();
    let build = host.command("insula").args(["image", "build"]).args([&definition]).limit(LIMIT).run();
    build.expect_code(1).expect_complaint(&["debian-12", "check the host's network"]);
    assert_eq!(fs::read_dir(host.pool().join("staging")).unwrap().count(), 0);
}

#[test]
fn a_build_whose_agent_dies_is_taken_back() {
    let mut host = ScratchHost::builder().uplink().start();
    let definition = Image::Debian12.definition().display().to_string();
    let id = host.insula_ok(&["image", "build", &definition, "--async"]);
    insula_testkit::eventually("the build writes something", || {
        let mut staging = fs::read_dir(host.pool().join("staging")).unwrap();
        let volume = staging.next()?.unwrap().path();
        volume.join("var/lib/dpkg").exists().then_some(())
    });
    host.agent_kill();
    host.agent_start();
    let outcome = host.insula(&["operation", "wait", &id]).expect_code(1);
    outcome.expect_complaint(&["rolled back"]);
    assert_eq!(fs::read_dir(host.pool().join("staging")).unwrap().count(), 0);
}

#[test]
fn what_has_been_built_is_there_at_once() {
    let host = ScratchHost::with(Image::Debian12);
    let definition = Image::Debian12.definition().display().to_string();
    let build = host.command("insula").args(["image", "build", &definition, "--alias", "again"]);
    build.limit(Duration::from_secs(10)).run_ok();
    let image = host.insula_json(&["image", "show", "again"]);
    assert_eq!(image["aliases"], serde_json::json!(["again", "debian-12"]));
    let bytes: u64 = image["sizeBytes"].as_str().unwrap().parse().unwrap();
    assert!(bytes <= 260 << 20, "the image has {bytes} bytes");

    host.create_ready("web1", Image::Debian12, &[]);
    host.insula_ok(&["image", "delete", "debian-12"]);
    assert_eq!(host.insula_json(&["image", "list"])["images"].as_array().unwrap().len(), 0);
    host.insula_ok(&["restart", "web1"]);
    host.sh("web1", "true"); // it keeps what it has
}
