//! Three tenants at their worst at the same time, and how much the fourth and the agent notice.

use std::process::Stdio;
use std::time::Duration;

use insula_testkit::{Process, slowness};

use super::arena::{ATTACKER, Arena, NEIGHBOUR};
use super::pulse::{Pulse, percentile};

/// How long they go on, in seconds: enough for hundreds of answers.
const SECONDS: &str = "8";

/// How long the agent should take for a list at most, on a machine that does nothing else.
const SOON: Duration = Duration::from_millis(50);

const NOISES: [(&str, &str); 3] = [
    (ATTACKER, "perl -e 'fork while 1'"),
    ("second", "while :; do tail /dev/zero; done"),
    ("third", "while :; do dd if=/dev/zero of=/root/filler bs=1M; sync; rm /root/filler; done"),
];

#[test]
fn three_bombs_at_once_are_hardly_felt() {
    let arena = Arena::new();
    for (name, _) in &NOISES[1..] {
        arena.create(name);
    }
    let pulse = Pulse::start(&arena.host, NEIGHBOUR);
    let mut noises: Vec<Process> = NOISES.iter().map(|(vps, line)| start(&arena, vps, line)).collect();
    for noise in &mut noises {
        noise.wait(insula_testkit::PATIENCE).expect("timeout(1) ends it");
    }
    let busy = pulse.stop();
    let soon = SOON * slowness();
    let late = busy.list.iter().filter(|took| **took > soon).count();
    println!("{late} of {} lists took longer than {soon:?}", busy.list.len());
    let factor = percentile(&busy.http, 99).as_secs_f64() / percentile(&arena.idle.http, 99).as_secs_f64();
    println!("HTTP: the 99th percentile is {factor:.1} times that of idle times");
    busy.assert_bearable(&arena.idle);
    assert!(late * 20 <= busy.list.len(), "{late} of {} lists took longer than {soon:?}", busy.list.len());
}

fn start(arena: &Arena, vps: &str, line: &str) -> Process {
    let exec = arena.host.command("insula").args(["exec", "--no-tty", vps, "--"]);
    let exec = exec.args(["timeout", "--kill-after=1", SECONDS, "sh", "-c", line]);
    exec.spawn_with(Stdio::null(), Stdio::null(), Stdio::null())
}
