//! Hosts on which an agent can't start, and says why.

use std::fs;

use insula_testkit::{Command, Image, ScratchHost, binary};
use serde_json::json;

#[test]
fn wrong_settings_name_the_key() {
    for (key, value, texts) in [
        ("run_dri", json!("/run/x"), &["run_dri", "unknown", "agent.yaml"][..]),
        ("pool", json!({ "size": "much" }), &["pool", "much"]),
        ("pool", json!({ "size": "1MiB" }), &["pool.size"]),
        ("ids", json!({ "start": 0, "length": 65536 }), &["ids"]),
        ("cgroup_root", json!("../x"), &["cgroup_root"]),
        ("network", json!({ "bridge": "a/b" }), &["network", "a/b"]),
    ] {
        let host = ScratchHost::builder().setting(key, value).prepare();
        host.agent().command().run().expect_code(1).expect_complaint(texts);
        assert!(!host.state_dir().exists(), "{key}: something was made");
    }
    let missing = Command::new(binary("insulad")).args(["--config", "/no/such.yaml"]).run();
    missing.expect_code(1).expect_complaint(&["/no/such.yaml", "No such file"]);
}

#[test]
fn an_agent_must_be_root() {
    let host = ScratchHost::builder().prepare();
    host.command_as_nobody("insulad").run().expect_code(1).expect_complaint(&["must run as root"]);
}

#[test]
fn a_state_directory_has_one_agent() {
    let host = ScratchHost::builder().start();
    let first = host.agent().process().id().as_raw_nonzero().to_string();
    let state_dir = host.state_dir().display().to_string();
    host.agent().command().run().expect_code(1).expect_complaint(&["another agent", &first, &state_dir]);
    host.insula_ok(&["list"]); // the first is as it was
}

#[test]
fn a_damaged_database_is_not_touched() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    host.agent_stop();
    let (database, copy) = (host.state_dir().join("insula.db"), host.directory().join("copy.db"));
    fs::rename(&database, &copy).unwrap();
    let garbage = "no database ".repeat(10_000);
    fs::write(&database, &garbage).unwrap();
    host.agent().command().run().expect_code(1).expect_complaint(&["insula.db", "not a database"]);
    assert_eq!(fs::read_to_string(&database).unwrap(), garbage, "whoever repairs it finds it as it was");
    fs::rename(&copy, &database).unwrap();
    host.agent_start();
    host.vps("web1");
}

/// Programs are looked up in fixed places, which are covered in this host's mounts.
#[test]
fn a_missing_program_is_named() {
    let host = ScratchHost::builder().prepare();
    let cover = |program: &str| {
        let path = Command::new("sh").args(["-c", "command -v $0", program]).run_ok().text();
        Command::new("mount").args(["--bind", "/dev/null", &path]).run_ok();
        path
    };
    let covered = cover("mkfs.btrfs");
    host.agent().command().run().expect_code(1).expect_complaint(&["mkfs.btrfs", "not found"]);
    assert!(!host.pool().with_extension("btrfs").exists());
    Command::new("umount").args([&covered]).run_ok();

    let mut host = host;
    host.agent_start();
    let covered = cover("mmdebstrap");
    let build = ["image", "build", Image::Debian12.definition().to_str().unwrap()].map(str::to_owned);
    host.insula(&build.each_ref().map(String::as_str))
        .expect_code(1)
        .expect_complaint(&["mmdebstrap", "not installed"]);
    Command::new("umount").args([&covered]).run_ok();
}
