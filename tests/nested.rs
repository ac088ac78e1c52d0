//! Insula in a VPS of Insula: an agent whose root is only that of a user namespace creates, boots
//! and removes VPSes.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use insula_testkit::{
    Command, Image, Outcome, ScratchHost, binary, copy_plain_state, eventually, project_file,
};

const IMAGE: Image = Image::Debian12;

/// The deadline for a boot inside a boot, and for what it has to fetch, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a line of shell in the VPS `outer`.
fn run(host: &ScratchHost, line: &str) -> Outcome {
    let exec = ["exec", "outer", "--no-tty", "--", "sh", "-c", line];
    host.command("insula").args(exec).limit(PATIENCE).run()
}

#[track_caller]
fn sh(host: &ScratchHost, line: &str) -> String {
    run(host, line).expect_code(0).text()
}

#[test]
fn a_vps_in_a_vps_lives_its_life() {
    let host = ScratchHost::with(IMAGE);
    host.create_ready(
        "outer",
        IMAGE,
        &["--feature", "nesting", "--memory", "2G", "--disk", "6G", "--cpus", "2"],
    );
    install_programs(&host);
    install_state(&host);
    start_agent(&host, "insulad");
    let log = sh(&host, "journalctl --unit=insulad --output=cat");
    for said in ["this host is a container", "the pool is a plain directory", "the kernel maps no ids"] {
        assert!(log.contains(said), "{log}");
    }

    // Limits that can't be enforced are refused, and the error says which can.
    let refused = run(&host, "insula create web1 --image debian-12").expect_code(4);
    refused.expect_complaint(&["can't enforce", "hint:", "unlimited"]);
    sh(&host, "insula create web1 --image debian-12 --profile unlimited --wait ready");
    let inside = |line: &str| sh(&host, &format!("insula exec web1 --no-tty -- sh -c '{line}'"));
    assert_eq!(inside("systemctl is-system-running --wait; hostname; id -u"), "running\nweb1\n0");
    assert_eq!(
        inside("stat -c %u:%g / /etc/shadow; getcap /usr/bin/ping"),
        "0:0\n0:42\n/usr/bin/ping cap_net_raw=ep"
    );
    its_ids_are_its_own(&host);
    it_is_on_the_network(&host, inside);

    inside("echo before >/root/file");
    sh(&host, "insula restart web1 --wait ready && insula stop web1 && insula snapshot create web1 kept");
    sh(&host, "insula start web1 --wait ready && insula exec web1 -- sh -c \"echo after >/root/file\"");
    sh(&host, "insula stop web1 && insula snapshot restore web1 kept && insula clone web1 web2");
    sh(&host, "insula start web1 web2 --wait ready");
    assert_eq!(inside("cat /root/file"), "before");
    assert_eq!(sh(&host, "insula exec web2 -- sh -c \"cat /root/file; hostname\""), "before\nweb2");

    // Its guests outlive its agent, too. A boot of the outer VPS is a boot of their host.
    sh(&host, "systemctl kill --signal=KILL insulad && systemctl reset-failed insulad");
    start_agent(&host, "another-agent");
    assert_eq!(inside("cat /root/file"), "before");
    host.insula_ok(&["restart", "outer", "--wait", "ready"]);
    start_agent(&host, "insulad");
    eventually("what ran is started again", || {
        let states = sh(&host, "insula list --columns state -o csv");
        (states.lines().filter(|state| *state == "ready").count() == 2).then_some(())
    });
    assert_eq!(inside("cat /root/file"), "before");

    sh(&host, "insula stop web1 && insula delete --force --now web1 web2");
    assert_eq!(sh(&host, "ls /var/lib/insula/pools/default/vps"), "");
    assert_eq!(sh(&host, "cd /sys/fs/cgroup/insula && find -mindepth 1 -type d"), "./monitors");
    sh(&host, "systemctl stop insulad && insulad --teardown");
    assert_eq!(run(&host, "test -e /sys/fs/cgroup/insula").code, 1);
}

/// Builds an image as docs/features.md says.
#[test]
fn an_image_is_built_in_a_vps() {
    let host = ScratchHost::builder().image(IMAGE).uplink().start();
    host.create_ready("outer", IMAGE, &["--feature", "nesting", "--memory", "2G", "--disk", "6G"]);
    install_programs(&host);
    sh(&host, "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install mmdebstrap nftables");
    copy(project_file("images/debian-12.yaml"), root_of(&host).join("root"));
    start_agent(&host, "insulad");
    sh(&host, "insula image build --quiet /root/debian-12.yaml");
    sh(&host, "insula create web1 --image debian-12 --profile unlimited --wait ready");
    // Its agent has chosen another range than the one that it is in itself.
    sh(&host, "insula exec web1 -- ping -c 1 -W 5 $(ip route show default | cut -d' ' -f3)");
    sh(&host, "insula delete --force --now web1 && systemctl stop insulad && insulad --teardown");
}

#[test]
fn an_agent_in_a_vps_without_nesting_says_what_is_missing() {
    let host = ScratchHost::with(IMAGE);
    host.create_ready("outer", IMAGE, &[]);
    install_programs(&host);
    let refused = run(&host, "insulad").expect_code(1);
    refused.expect_complaint(&["does not have the", "ids", "hint:", "the feature nesting"]);
    assert_eq!(sh(&host, "ls /sys/fs/cgroup | grep -c insula || true"), "0");
}

fn start_agent(host: &ScratchHost, unit: &str) {
    let run = "systemd-run --quiet --service-type=notify --property=KillMode=process";
    sh(host, &format!("{run} --unit={unit} insulad || {{ journalctl --unit={unit} --output=cat; false; }}"));
}

/// The root of the outer VPS as the host sees it: its files have ids of its own.
fn root_of(host: &ScratchHost) -> PathBuf {
    host.pool().join("vps").join(&host.vps("outer").id).join("root")
}

fn copy(from: impl Into<PathBuf>, to: PathBuf) {
    Command::new("cp").args(["--archive", "--dereference"]).args([from.into(), to]).run_ok();
}

fn install_programs(host: &ScratchHost) {
    for program in ["insulad", "insula", "insula-monitor"] {
        copy(binary(program), root_of(host).join("usr/local/bin"));
    }
}

/// Installs the host's nft, and the state of a host with an image, so that nothing has to be
/// fetched.
fn install_state(host: &ScratchHost) {
    let root = root_of(host);
    // With all its libraries, because the guest's may be older.
    let directory = root.join("opt/nft");
    std::fs::create_dir_all(&directory).unwrap();
    copy("/usr/sbin/nft", directory.clone());
    let libraries = Command::new("ldd").args(["/usr/sbin/nft"]).run_ok().text();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(library, directory.clone());
    }
    let script = "#!/bin/sh\ncd /opt/nft && exec ./ld-linux-x86-64.so.2 --library-path . ./nft \"$@\"\n";
    let program = root.join("usr/sbin/nft");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The state comes from another host, which had chosen the range that this one is in.
    std::fs::create_dir(root.join("etc/insula")).unwrap();
    std::fs::write(root.join("etc/insula/agent.yaml"), "network: {subnet: 10.213.72.0/24}\n").unwrap();
    let state = host.directory().join("inner");
    copy_plain_state(IMAGE, &state);
    Command::new("cp").args(["--archive"]).args([&state, &root.join("var/lib/insula")]).run_ok();
}

/// On the machine, its ids are some of the outer VPS's, and none that the outer VPS's own processes
/// have.
fn its_ids_are_its_own(host: &ScratchHost) {
    let map = sh(
        host,
        "cat /proc/$(insula show web1 -o json | sed -n \"s/.*\\\"initPid\\\": *\\([0-9]*\\).*/\\1/p\")/uid_map",
    );
    let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
    let outer = host.vps("outer");
    assert_eq!((numbers[0], numbers[2]), (0, 65_536), "{map}");
    assert!(numbers[1] >= 65_536 && numbers[1] + numbers[2] <= outer.id_range_length, "{map}");
}

/// It is behind two NATs: that of its host, and that of the host's host.
fn it_is_on_the_network(host: &ScratchHost, inside: impl Fn(&str) -> String) {
    let gateway = inside("ip route show default | cut -d\" \" -f3");
    inside(&format!("ping -c 1 -W 5 {gateway}"));
    let outer =
        host.insula_json(&["network", "show", "default"])["gateway"].as_str().unwrap_or_default().to_owned();
    inside(&format!("ping -c 1 -W 5 {outer}"));
}
