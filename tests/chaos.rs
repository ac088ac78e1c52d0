//! The agent may die at any moment. Every request is done completely or not at all, and nothing is
//! assigned twice.

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use insula_api::v1::Vps;
use insula_testkit::{Image, PATIENCE, Process, ScratchHost};

use crate::dice::{Dice, scale};
use crate::whole::check_whole;

#[test]
fn the_agent_may_die_at_any_moment() {
    let (count, deaths) = scale();
    eprintln!("{count} VPSes, {deaths} deaths");
    let mut dice = Dice::new();
    let mut host = ScratchHost::with(Image::Debian12);
    let mut given = Given::default();
    for death in 1..=deaths {
        let known: BTreeMap<String, Vps> =
            host.vpses().into_iter().map(|vps| (vps.name.clone(), vps)).collect();
        let clients = (0..6 + count / 8).map(|_| begin_something(&host, &mut dice, count, &known)).collect();
        die(&mut host, &mut dice, clients);
        host.agent_start();
        wait_for_operations(&host);
        let log = fs::read_to_string(host.agent().log()).unwrap();
        let interrupted = log.lines().filter(|line| line.contains("continuing ")).count();
        eprintln!(
            "death {death}: {} VPSes, {interrupted} operations so far were interrupted",
            host.vpses().len()
        );
        check(&host, &mut given);
    }
    for vps in host.vpses() {
        host.insula_ok(&["delete", "--force", "--now", &vps.name]);
    }
    check(&host, &mut given);
}

/// Starts some command about some VPS.
fn begin_something(
    host: &ScratchHost,
    dice: &mut Dice,
    count: usize,
    known: &BTreeMap<String, Vps>,
) -> Process {
    let name = &*format!("web{}", dice.below(count));
    let arguments: &[&str] = match known.get(name) {
        None => &["create", name, "--image", "debian-12", "--memory", "256M", "--wait", "ready"],
        Some(_) => match dice.below(8) {
            0 => &["delete", name, "--force"],
            1 => &["delete", name, "--force", "--now"],
            2 => &["stop", name],
            3 => &["restart", name],
            4 => &["snapshot", "create", name],
            5 => &["stop", name, "--force"],
            6 => &["exec", name, "--", "systemctl", "reboot"],
            _ => &["start", name, "--wait", "ready"],
        },
    };
    host.command("insula").args(arguments).spawn_with(Stdio::null(), Stdio::null(), Stdio::null())
}

/// Kills the agent some time after the first of the clients has started, or when one of them has
/// ended.
fn die(host: &mut ScratchHost, dice: &mut Dice, mut clients: Vec<Process>) {
    let index = dice.below(clients.len());
    let moment = Duration::from_millis(dice.below(1200) as u64);
    clients[index].wait(moment);
    host.agent_kill();
    for mut client in clients {
        assert!(client.wait(PATIENCE).is_some(), "a client waits for a dead agent");
    }
}

fn wait_for_operations(host: &ScratchHost) {
    let list = host.insula_json(&["operation", "list", "--limit", "1000"]);
    for operation in list["operations"].as_array().unwrap() {
        host.insula(&["operation", "wait", operation["id"].as_str().unwrap()]);
    }
}

/// The ids and addresses that every VPS so far has been given, by the VPS's id.
#[derive(Default)]
struct Given(BTreeMap<String, (u32, String)>);

fn check(host: &ScratchHost, given: &mut Given) {
    for vps in check_whole(host) {
        let own = (vps.id_range_start, vps.interfaces[0].ip_addresses[0].clone());
        let before = given.0.entry(vps.id.clone()).or_insert_with(|| own.clone());
        assert_eq!(*before, own, "{} has changed its ids or its address", vps.name);
    }
}
