//! A VPS on the network, with its addresses, NAT and guard.

use std::collections::BTreeSet;
use std::process::Stdio;

use insula_testkit::{Command, Image, Process, ScratchHost};

/// The host's address in the outside world, and a server there. Ranges for documentation (RFC
/// 5737).
const HOST: &str = "198.51.100.1";
const SERVER: &str = "198.51.100.2";

#[test]
fn the_network_works_from_the_first_second() {
    let host = ScratchHost::with(Image::Debian12);
    let key = host.ssh_key();
    for name in ["web1", "web2"] {
        host.create_ready(name, Image::Debian12, &["--ssh-key", &key]);
    }
    let (one, other) = (address(&host, "web1"), address(&host, "web2"));
    assert_eq!(
        host.ssh(&one, "hostname; systemctl is-system-running --wait").expect_code(0).text(),
        "web1\nrunning"
    );
    let gateway = host.insula_json(&["network", "show", "default"])["gateway"].as_str().unwrap().to_owned();
    for target in [&gateway, &other] {
        host.sh("web1", &format!("ping -c 1 -W 10 {target}"));
    }
    the_world_is_reached(&host);
    others_addresses_are_no_use(&host, &gateway);
    an_address_can_be_chosen(&host, &gateway);
}

/// The guard and NAT stay as they are when an agent ends, in whatever way. A new VPS adds its own
/// elements.
#[test]
fn an_agent_that_begins_touches_no_rule() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    let log = host.directory().join("nft-monitor");
    let monitor = Command::new("nft").args(["monitor"]);
    let output = std::fs::File::create(&log).unwrap();
    let _monitor = monitor.spawn_with(Stdio::null(), output.into(), Stdio::null());
    let told = || std::fs::read_to_string(&log).unwrap();
    insula_testkit::eventually("the monitor tells of changes", || {
        Command::new("nft").args(["add", "chain", "ip", "insula", "beginning"]).run_ok();
        Command::new("nft").args(["delete", "chain", "ip", "insula", "beginning"]).run_ok();
        told().contains("delete chain ip insula beginning").then_some(())
    });
    host.agent_stop();
    host.agent_start();
    host.agent_kill();
    host.agent_start();
    let before = guarded();
    host.insula_ok(&["create", "web2", "--image", "debian-12"]);
    let new: Vec<String> = guarded().difference(&before).cloned().collect();
    assert_eq!((before.len(), new.len()), (1, 1), "a guest each");
    insula_testkit::eventually("the monitor tells of the new VPS", || told().contains(&new[0]).then_some(()));
    let is_ours = |line: &&str| line.contains(" insula ") && !line.contains("beginning");
    let changes: Vec<String> = told().lines().filter(is_ours).map(str::to_owned).collect();
    let is_new = |line: &String| line.starts_with("add element bridge insula") && line.contains(&new[0]);
    assert!(!changes.is_empty() && changes.iter().all(is_new), "{changes:#?}");
}

/// The interfaces that the guard knows.
fn guarded() -> BTreeSet<String> {
    let set = Command::new("nft").args(["list", "set", "bridge", "insula", "guests"]).run_ok().text();
    set.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn address(host: &ScratchHost, name: &str) -> String {
    host.vps(name).interfaces[0].ip_addresses[0].clone()
}

/// A server that has no route to guests, so it sees the host's address.
fn the_world_is_reached(host: &ScratchHost) {
    let server = Command::new("unshare").args(["--net", "sleep", "infinity"]);
    let server = server.spawn_with(Stdio::null(), Stdio::null(), Stdio::null());
    let ip = |arguments: &str| Command::new("ip").args(arguments.split(' ')).run();
    // unshare(1) may not have created it yet.
    insula_testkit::eventually("the server has a namespace", || {
        let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        (of(&pid(&server)) != of("thread-self")).then_some(())
    });
    ip(&format!("link add world0 type veth peer name eth0 netns {}", pid(&server))).expect_code(0);
    ip(&format!("address add {HOST}/24 dev world0")).expect_code(0);
    ip("link set world0 up").expect_code(0);
    let inside = format!("ip address add {SERVER}/24 dev eth0 && ip link set eth0 up");
    Command::new("nsenter").args(["--net", "--target", &pid(&server), "sh", "-c", &inside]).run_ok();
    host.sh("web1", &format!("ping -c 1 -W 10 {SERVER}"));
    ip("link del world0").expect_code(0);
}

fn pid(process: &Process) -> String {
    process.id().as_raw_nonzero().to_string()
}

fn others_addresses_are_no_use(host: &ScratchHost, gateway: &str) {
    let free = gateway.rsplit_once('.').unwrap().0.to_owned() + ".250";
    let steal = format!("ip address add {free}/24 dev eth0 && ping -c 1 -W 2 -I {free} {gateway}");
    let outcome = host.insula(&["exec", "web1", "--", "sh", "-c", &steal]);
    assert_ne!(outcome.code, 0, "a forged address gets an answer: {outcome}");
    host.sh("web1", &format!("ip address del {free}/24 dev eth0; ping -c 1 -W 10 {gateway}"));
}

fn an_address_can_be_chosen(host: &ScratchHost, gateway: &str) {
    let chosen = gateway.rsplit_once('.').unwrap().0.to_owned() + ".77";
    host.insula_ok(&["create", "web3", "--image", "debian-12", "--ip", &chosen]);
    assert_eq!(address(host, "web3"), chosen);
    host.insula(&["create", "web4", "--image", "debian-12", "--ip", &chosen])
        .expect_code(4)
        .expect_complaint(&[&chosen, "belongs to another VPS"]);
}
