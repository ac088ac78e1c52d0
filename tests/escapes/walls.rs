//! Walls that are not part of the plan of a start: the network's guard and the disk limit. What
//! they refuse succeeds without them.

use std::net::UdpSocket;

use insula_testkit::hostile::{Attempt, DISK_FILLER, FORGED_NEIGHBOUR, FORGED_SOURCE, Verdict};
use insula_testkit::{Command, Image, PATIENCE};

use super::arena::{ATTACKER, Arena, NEIGHBOUR};

#[test]
fn a_disk_is_filled_where_it_has_no_limit() {
    let arena = Arena::new();
    arena.host.create_ready("unlimited", Image::Debian12, &["--memory", "256M"]);
    let verdict = |vps| Verdict::parse(&arena.command(vps, &DISK_FILLER).run().text());
    let refused = verdict(ATTACKER);
    assert!(matches!(refused, Some(Verdict::Refused(_))), "{refused:?}");
    let filled = verdict("unlimited");
    assert!(matches!(filled, Some(Verdict::Succeeded(_))), "{filled:?}");
}

#[test]
fn forged_addresses_go_through_where_there_is_no_guard() {
    let arena = Arena::new();
    let before = learned_gateway(&arena);
    assert!(!forges_source(&arena), "a forged source has come through");
    run(&arena, &FORGED_NEIGHBOUR);
    assert_eq!(learned_gateway(&arena), before, "the neighbour sends to the attacker");
    for table in Command::new("nft").args(["list", "tables", "bridge"]).run_ok().text().lines() {
        Command::new("nft").args(["delete"]).args(table.split(' ')).run_ok();
    }
    assert!(forges_source(&arena), "this attempt can't fail");
    run(&arena, &FORGED_NEIGHBOUR);
    assert_ne!(learned_gateway(&arena), before, "this attempt can't fail");
}

fn run(arena: &Arena, attempt: &Attempt) {
    let outcome = arena.command(ATTACKER, attempt).run();
    assert!(outcome.text().contains("refused: sent"), "{outcome}");
}

/// Whether a datagram with the neighbour's source address arrives from the attacker.
fn forges_source(arena: &Arena) -> bool {
    let socket = UdpSocket::bind((&*arena.gateway, 4000)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    run(arena, &FORGED_SOURCE);
    let mut has_come = false;
    loop {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).expect("the honest datagram, which was sent last");
        match &bytes[..length] {
            b"forged" => has_come = true,
            _ => return has_come,
        }
    }
}

/// The Ethernet address that the neighbour has learned for the host.
fn learned_gateway(arena: &Arena) -> String {
    let line = format!(
        "ping -c 1 -W 2 {0} >/dev/null; ip neighbour show {0} | grep -o 'lladdr [^ ]*'",
        arena.gateway
    );
    arena.host.sh(NEIGHBOUR, &line)
}
