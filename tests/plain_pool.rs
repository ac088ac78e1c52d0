//! A pool of plain directories, for hosts without btrfs and for those whose kernel can't map ids.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use insula_api::v1::VpsState;
use insula_testkit::{Command, Image, ScratchHost};

const IMAGE: Image = Image::Debian12;

#[test]
fn a_vps_lives_in_plain_directories() {
    let host = ScratchHost::builder().image(IMAGE).plain_pool().start();
    live(&host, |_| 0);
}

#[test]
fn a_vps_lives_where_the_kernel_maps_no_ids() {
    let mut host = ScratchHost::builder().image(IMAGE).plain_pool().prepare();
    let layers = ["upper", "work"].map(|name| host.directory().join(name));
    layers.iter().for_each(|layer| std::fs::create_dir(layer).unwrap());
    let pool = host.pool();
    let [upper, work] = layers;
    let (lower, upper, work) = (pool.display(), upper.display(), work.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    Command::new("mount").args(["-t", "overlay", "-o", &options, "overlay"]).args([&pool]).run_ok();
    host.agent_start();
    assert!(host.agent().log_end().contains("the kernel maps no ids"), "{}", host.agent().log_end());
    live(&host, |start| start);
    // Its guests are gone, and with them everything in it.
    host.agent_stop();
    host.agent().tear_down().expect_code(0);
    Command::new("umount").args([&pool]).run_ok();
}

/// The life of a VPS whose root is owned on disk by the id that `owner` makes of its first id.
fn live(host: &ScratchHost, owner: impl Fn(u32) -> u32) {
    let create = ["create", "web1", "--image", IMAGE.alias()];
    let refused = host.insula(&create).expect_code(4);
    refused.expect_complaint(&["the pool can't enforce a disk limit", "hint:", "unlimited"]);
    let key = host.ssh_key();
    let unlimited = ["--profile", "unlimited", "--memory", "512M", "--ssh-key", &key];
    host.create_ready("web1", IMAGE, &unlimited);
    assert_eq!(host.sh("web1", "systemctl is-system-running --wait"), "running");
    assert_eq!(
        host.sh("web1", "stat -c %u:%g / /etc/shadow /root/.ssh /root/.ssh/authorized_keys"),
        "0:0\n0:42\n0:0\n0:0"
    );
    assert_eq!(host.sh("web1", "stat -c %A /usr/bin/passwd"), "-rwsr-xr-x");
    assert_eq!(host.sh("web1", "getcap /usr/bin/ping"), "/usr/bin/ping cap_net_raw=ep");
    let address = host.vps("web1").interfaces[0].ip_addresses[0].clone();
    assert_eq!(host.ssh(&address, "id -u").expect_code(0).text(), "0");
    let root = |name: &str| root_of(host, name);
    let ids = |name: &str| host.vps(name).id_range_start;
    assert_eq!(std::fs::metadata(root("web1")).unwrap().uid(), owner(ids("web1")));

    // A range that grows must not have its new ids on disk already.
    let nesting = host.insula(&["set", "web1", "features=nesting"]);
    match owner(1) {
        0 => nesting.expect_code(0),
        _ => nesting.expect_code(4).expect_complaint(&["65536 user ids on disk", "create a new VPS"]),
    };
    host.insula_ok(&["set", "web1", "features="]);

    host.sh("web1", "touch /root/mine && chown 33:33 /root/mine && ln /root/mine /root/same");
    let running = host.insula(&["snapshot", "create", "web1", "kept"]).expect_code(4);
    running.expect_complaint(&["is running", "copies file by file", "insula stop web1"]);
    host.insula(&["clone", "web1", "web2"]).expect_code(4).expect_complaint(&["is running"]);
    host.insula_ok(&["stop", "web1"]);
    host.insula_ok(&["snapshot", "create", "web1", "kept"]);
    host.insula_ok(&["clone", "web1", "web2"]);
    host.insula_ok(&["start", "web2", "--wait", "ready"]);
    assert_ne!(ids("web1"), ids("web2"));
    assert_eq!(std::fs::metadata(root("web2")).unwrap().uid(), owner(ids("web2")));
    assert_eq!(host.sh("web2", "stat -c %u:%g:%h /root/mine"), "33:33:2");
    assert_eq!(host.sh("web2", "getcap /usr/bin/ping"), "/usr/bin/ping cap_net_raw=ep");

    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    host.sh("web1", "rm /root/mine && echo after >/root/later");
    host.insula_ok(&["stop", "web1"]);
    host.insula_ok(&["snapshot", "restore", "web1", "kept"]);
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.sh("web1", "ls /root; stat -c %u /root/mine"), "mine\nsame\n33");
    // The guest reboots itself, and the agent is killed: the plan and the pool know whose the files
    // are.
    host.insula_ok(&["rebuild", "web1", "--image", IMAGE.alias(), "--force"]);
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.sh("web1", "ls /root"), "");
    host.command("insula").args(["passwd", "web1"]).input("a good password\n").run_ok();
    assert!(
        host.sh("web1", "stat -c %u:%g:%a /etc/shadow; grep ^root: /etc/shadow")
            .starts_with("0:42:640\nroot:$6$")
    );

    host.insula_ok(&["delete", "--force", "--now", "web1", "web2"]);
    assert!(host.vpses().iter().all(|vps| vps.state() == VpsState::Deleted));
    for directory in ["vps", "snapshots", "owners", "unfinished", "removed"] {
        assert_eq!(std::fs::read_dir(host.pool().join(directory)).unwrap().count(), 0, "{directory}");
    }
}

fn root_of(host: &ScratchHost, name: &str) -> PathBuf {
    host.pool().join("vps").join(&host.vps(name).id).join("root/tree")
}
