//! What a billing system relies on: retries, changes that are made completely or not at all,
//! suspension, the trash, copies, and operations that wait or are cancelled.

mod copies;
mod holds;
mod limits;
mod queue;
mod retries;
mod trash;

use insula_api::v1;
use insula_testkit::{ScratchHost, call, done};

/// A request for a VPS that is not started.
fn create(name: &str) -> v1::CreateVpsRequest {
    v1::CreateVpsRequest { name: name.into(), image: "debian-12".into(), ..Default::default() }
}

/// Creates VPSes that are not started.
#[track_caller]
fn make(host: &ScratchHost, names: &[&str]) {
    for name in names {
        done!(host, vps.create_vps(create(name)));
    }
}

/// Boots a VPS, and waits until it is ready.
#[track_caller]
fn boot(host: &ScratchHost, vps: &str) {
    let request = v1::StartVpsRequest { vps: vps.into(), wait_ready: true, ..Default::default() };
    done!(host, vps.start_vps(request));
}

/// The names of the VPSes that match a filter.
#[track_caller]
fn names(host: &ScratchHost, filter: &str) -> Vec<String> {
    let request = v1::ListVpsesRequest { filter: filter.into(), ..Default::default() };
    let vpses = call!(host, vps.list_vpses(request)).unwrap().vpses;
    vpses.into_iter().map(|vps| vps.name).collect()
}
