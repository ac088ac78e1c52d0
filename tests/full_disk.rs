//! Disks that are full: a guest's, the pool's, the host's.

use insula_testkit::{Command, Image, ScratchHost};
use serde_json::json;

#[test]
fn a_vps_with_a_full_disk_can_be_managed() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--disk", "100M"]);
    for block in ["1M", "4k", "1"] {
        let fill = format!("dd if=/dev/zero of=/root/fill.{block} bs={block} count=4000; sync");
        host.insula(&["exec", "web1", "--", "sh", "-c", &fill]);
    }
    host.insula_ok(&["restart", "web1"]);
    host.sh("web1", "true");
    host.insula_ok(&["snapshot", "create", "web1", "full"]);
    host.insula_ok(&["stop", "web1"]);
    host.insula_ok(&["snapshot", "restore", "web1", "full"]);
    host.insula_ok(&["start", "web1"]);
    host.insula_ok(&["snapshot", "delete", "web1", "full"]);
    host.insula_ok(&["delete", "--force", "web1"]);
}

#[test]
fn a_full_pool_makes_no_vps_and_keeps_those_it_has() {
    let host = ScratchHost::builder().image(Image::Debian12).start();
    host.create_ready("web1", Image::Debian12, &[]);
    let filler = host.pool().join("filler");
    let free =
        host.insula_json(&["pool", "show", "default"])["freeBytes"].as_str().unwrap().parse::<u64>().unwrap();
    let length = (free - (40 << 20)).to_string();
    Command::new("fallocate").args(["--length", &length]).args([&filler]).run_ok();
    host.insula(&["create", "web2", "--image", "debian-12"]).expect_code(4).expect_complaint(&[
        "pool \"default\" has",
        "free",
        "hint:",
    ]);
    host.insula_ok(&["restart", "web1"]);
    std::fs::remove_file(&filler).unwrap();
    Command::new("sync").args(["-f"]).args([host.pool()]).run_ok();
    host.insula_ok(&["create", "web2", "--image", "debian-12"]);
}

#[test]
fn a_pool_that_does_not_fit_is_not_made() {
    let host = ScratchHost::builder().setting("pool", json!({ "size": "1000TiB" })).prepare();
    let outcome = host.agent().command().run().expect_code(1);
    outcome.expect_complaint(&["1000TiB", "pools/default.btrfs"]);
    assert!(!host.state_dir().join("pools/default.btrfs").exists());
    std::fs::remove_dir_all(host.state_dir()).unwrap(); // nothing to take down
}

/// The pool's file is sparse. It can't grow when the host's disk is full, whatever the pool says.
#[test]
fn a_full_host_disk_is_named_and_survived() {
    let mut host = ScratchHost::builder().image(Image::Debian12).prepare();
    move_to_a_small_disk(&host);
    host.agent_start();
    host.create_ready("web1", Image::Debian12, &[]);
    host.sh("web1", "echo data >/root/kept; sync");
    let filler = host.state_dir().join("filler");
    Command::new("dd")
        .args(["if=/dev/zero", "bs=4k"])
        .args([&format!("of={}", filler.display())])
        .run()
        .expect_code(1);
    for arguments in [&["create", "web2", "--image", "debian-12"][..], &["stop", "web1"]] {
        host.insula(arguments).expect_code(4).expect_complaint(&["disk", "full", "hint:"]);
    }
    std::fs::remove_file(&filler).unwrap();
    // The pool may have become read-only meanwhile, and its guest with it. Only a new start helps.
    host.agent_stop();
    host.agent().tear_down().expect_code(0);
    host.agent_start();
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.sh("web1", "cat /root/kept"), "data");
    host.insula_ok(&["create", "web2", "--image", "debian-12"]);
    host.agent_stop();
    host.agent().tear_down().expect_code(0);
    Command::new("umount").args([host.state_dir()]).run_ok();
    std::fs::remove_dir(host.state_dir()).unwrap();
}

/// Moves the state to an ext4 of one and a half GiB, at the same path.
fn move_to_a_small_disk(host: &ScratchHost) {
    let (file, state) = (host.directory().join("small.ext4"), host.state_dir());
    let full = host.directory().join("full");
    std::fs::rename(&state, &full).unwrap();
    std::fs::create_dir(&state).unwrap();
    std::fs::File::create(&file).unwrap().set_len(1536 << 20).unwrap();
    Command::new("mkfs.ext4").args(["-q", "-m", "0"]).args([&file]).run_ok();
    Command::new("mount").args(["-o", "loop"]).args([&file, &state]).run_ok();
    Command::new("cp").args(["-a", "--sparse=always"]).args([full.join("."), state]).run_ok();
}
