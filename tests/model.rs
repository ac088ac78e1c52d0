//! Several clients send hundreds of random requests while the agent dies again and again. A model
//! knows what the requests should lead to. In the end the host agrees with it, everything was done
//! once, and nothing is lost or left behind.
//!
//! Each client has VPSes of its own, so that their states are known. They share addresses, ids, the
//! pool and the agent, and a meddler interferes with all of them. Most guests boot at once; one is
//! a whole Debian.

mod asking;
mod client;
mod machine;
mod watcher;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use insula_api::v1;
use insula_testkit::{Image, QUICK_INIT, ScratchHost, call};
use rustix::process::{Signal, kill_process};
use v1::VpsState;

use crate::dice::{Dice, scale};
use crate::whole::check_whole;
use client::{Owner, World, mark_file, meddle};
use machine::{Fleet, Machine};
use watcher::{Watcher, all_operations, check_audit};

/// How many requests a client may send before the agent dies, so that the test ends even if the
/// agent lives.
const MOST_REQUESTS: usize = 10_000;

#[test]
fn what_clients_ask_for_is_done_once_while_the_agent_dies() {
    let (count, deaths) = scale();
    let mut dice = Dice::new();
    let mut host = ScratchHost::with(Image::Debian12);
    host.create_ready("c0-0", Image::Debian12, &["--memory", "512M"]);
    host.replace_init(QUICK_INIT);
    let first = Machine { id: host.vps("c0-0").id, ..Machine::new("c0-0", Some(512), true) };
    let mut owners: Vec<Owner> = (0..count.div_ceil(2))
        .map(|number| {
            let fleet = if number == 0 { vec![first.clone()] } else { vec![] };
            Owner::new(number, dice.split(), Fleet(fleet))
        })
        .collect();
    let mut watcher = Watcher::new();
    for death in 1..=deaths {
        (owners, watcher) = live_and_die(&mut host, &mut dice, owners, watcher);
        begin_again(&mut host, &mut dice);
        owners = settle(&host, owners);
        let asked: usize = owners.iter().map(|owner| owner.asked.len()).sum();
        let refused: usize = owners.iter().map(|owner| owner.refused).sum();
        eprintln!("death {death}: {asked} operations, {refused} refusals");
        let vpses = check_whole(&host);
        check_fleets(&host, &owners, &vpses);
        watcher.check(&host);
    }
    let operations = all_operations(&host);
    for (request, operation) in owners.iter().flat_map(|owner| &owner.asked) {
        assert_eq!(operations.get(request).map(|operation| &operation.id), Some(operation), "it is lost");
    }
    check_audit(&host, &operations);
}

/// Lets the clients send requests until the agent dies, or is told to end.
fn live_and_die(
    host: &mut ScratchHost,
    dice: &mut Dice,
    owners: Vec<Owner>,
    watcher: Watcher,
) -> (Vec<Owner>, Watcher) {
    let world = world(host);
    let moment = Duration::from_millis(500 + dice.below(4000) as u64);
    let signal = if dice.once_in(6) { Signal::TERM } else { Signal::KILL };
    let agent = host.agent().process().id();
    let vpses = owners.iter().flat_map(|owner| &owner.fleet.0).map(|machine| machine.id.clone()).collect();
    let meddler_dice = dice.split();
    let left = host.block_on(async {
        let watching = tokio::spawn(watcher.run(world.client.clone()));
        let meddling = tokio::spawn(meddle(world.clone(), meddler_dice, vpses));
        let asking: Vec<_> =
            owners.into_iter().map(|owner| tokio::spawn(owner.run(world.clone(), MOST_REQUESTS))).collect();
        let _ = tokio::time::timeout(moment, std::future::pending::<()>()).await; // that is what it is for
        world.ends.store(true, Ordering::Release);
        kill_process(agent, signal).expect("an agent that lives");
        let mut left = vec![];
        for owner in asking {
            left.push(owner.await.expect("a client without doubts"));
        }
        meddling.await.expect("a client without doubts");
        (left, watching.await.expect("a watcher"))
    });
    if signal == Signal::TERM {
        host.agent_stop();
    }
    host.agent_kill();
    left
}

/// Starts the agent, which may die once more during its start.
fn begin_again(host: &mut ScratchHost, dice: &mut Dice) {
    if dice.once_in(3) {
        let null = std::process::Stdio::null;
        let mut process = host.agent().command().spawn_with(null(), null(), null());
        process.wait(Duration::from_millis(dice.below(400) as u64));
        process.kill();
    }
    host.agent_start();
}

fn world(host: &ScratchHost) -> World {
    World { client: host.client(), ends: Arc::new(AtomicBool::new(false)), pool: host.pool() }
}

/// Lets all clients find out the results of their last requests, and waits for those of the
/// meddler.
fn settle(host: &ScratchHost, owners: Vec<Owner>) -> Vec<Owner> {
    let world = world(host);
    let owners = host.block_on(async {
        let settling: Vec<_> =
            owners.into_iter().map(|owner| tokio::spawn(owner.settle(world.clone()))).collect();
        let mut settled = vec![];
        for owner in settling {
            settled.push(owner.await.expect("a client without doubts"));
        }
        settled
    });
    let request = v1::ListOperationsRequest { page_size: 1000, unfinished: true, ..Default::default() };
    for operation in call!(host, operations.list_operations(request)).unwrap().operations {
        host.over(Some(operation));
    }
    owners
}

/// Checks that all VPSes are as the model says, and that there are no others.
fn check_fleets(host: &ScratchHost, owners: &[Owner], vpses: &[v1::Vps]) {
    let mut count = 0;
    for machine in owners.iter().flat_map(|owner| &owner.fleet.0) {
        let vps = vpses.iter().find(|vps| vps.id == machine.id);
        let vps = vps.unwrap_or_else(|| panic!("{machine:?} is lost"));
        check_machine(host, machine, vps);
        count += 1;
    }
    assert_eq!(vpses.len(), count, "nobody has asked for one of {vpses:#?}");
}

fn check_machine(host: &ScratchHost, machine: &Machine, vps: &v1::Vps) {
    let state = match vps.state() {
        // No client has waited for it to become ready.
        VpsState::Running => VpsState::Ready,
        state => state,
    };
    assert_eq!(state, machine.state(), "{machine:#?} {vps:#?}");
    assert_eq!((&vps.name, &vps.profile), (&machine.name, &machine.profile), "{vps:#?}");
    let own = vps.own_limits.and_then(|limits| limits.memory_bytes);
    assert_eq!(own, machine.memory_mib.map(|mib| mib << 20), "{machine:#?} {vps:#?}");
    let memory_bytes = vps.limits.and_then(|limits| limits.memory_bytes);
    assert_eq!(memory_bytes, Some(machine.memory_bytes()), "{machine:#?} {vps:#?}");
    let suspension = vps.suspension.as_ref().map(|suspension| suspension.was_running);
    assert_eq!(suspension, machine.suspension, "{machine:#?} {vps:#?}");
    assert_eq!(vps.labels.get("model"), machine.label.as_ref(), "{machine:#?} {vps:#?}");
    if machine.is_on {
        assert_eq!(kernel_memory_bytes(host, &vps.id), machine.memory_bytes(), "{machine:#?}");
    }
    let list =
        call!(host, snapshots.list_snapshots(v1::ListSnapshotsRequest { vps: vps.id.clone() })).unwrap();
    let mut snapshots: Vec<&str> = list.snapshots.iter().map(|snapshot| &*snapshot.name).collect();
    snapshots.sort_unstable();
    assert!(machine.snapshots.keys().eq(snapshots), "{machine:#?} {list:#?}");
    let read = |file| std::fs::read_to_string(file).ok().map(|text| text.parse::<u64>().expect("a mark"));
    assert_eq!(read(mark_file(&host.pool(), &vps.id)), machine.mark, "{machine:#?}");
    for (name, mark) in &machine.snapshots {
        let file = host.pool().join("snapshots").join(&vps.id).join(name).join("root/mark");
        assert_eq!(read(file), *mark, "snapshot {name} of {machine:#?}");
    }
}

/// The limit that the kernel enforces, in cgroup v1 or v2.
fn kernel_memory_bytes(host: &ScratchHost, vps: &str) -> u64 {
    let group = format!("{}/{vps}", host.cgroup_root());
    let files = [format!("memory/{group}/memory.limit_in_bytes"), format!("{group}/memory.max")];
    let read =
        |file: &String| std::fs::read_to_string(std::path::Path::new("/sys/fs/cgroup").join(file)).ok();
    let text = files.iter().find_map(read).expect("a limit");
    text.trim().parse().expect("a number")
}
