//! Checks that a host is consistent: everything is assigned once, nothing is half done, and nothing
//! is left of what was removed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use insula_api::v1::{GetNetworkRequest, ListSnapshotsRequest, ListVpsesRequest, Vps, VpsState};
use insula_testkit::{Command, ScratchHost, call};

/// Checks everything while no operation is running. Returns all VPSes, including those in the
/// trash.
#[track_caller]
pub fn check_whole(host: &ScratchHost) -> Vec<Vps> {
    let request = ListVpsesRequest { show_deleted: true, ..Default::default() };
    let vpses = call!(host, vps.list_vpses(request)).unwrap().vpses;
    for vps in &vpses {
        let is_half = matches!(vps.state(), VpsState::Creating | VpsState::Deleting);
        assert!(!is_half, "{vps:?} is neither whole nor gone");
        assert_eq!(vps.operation, "", "something works on {vps:?}");
    }
    check_unique(&vpses);
    check_volumes(host, &vpses);
    check_running(host, &vpses);
    check_guard(&vpses);
    let request = GetNetworkRequest { network: "default".into() };
    let network = call!(host, networks.get_network(request)).unwrap().network.unwrap();
    assert_eq!(network.assigned_addresses as usize, vpses.len(), "{network:?}");
    vpses
}

#[track_caller]
fn check_unique(vpses: &[Vps]) {
    let facts: [fn(&Vps) -> String; 4] = [
        |vps| if vps.state() == VpsState::Deleted { vps.id.clone() } else { vps.name.clone() },
        |vps| vps.id_range_start.to_string(),
        |vps| vps.interfaces[0].ip_addresses[0].clone(),
        |vps| vps.interfaces[0].mac_address.clone(),
    ];
    for fact in facts {
        let unique: BTreeSet<String> = vpses.iter().map(fact).collect();
        assert_eq!(unique.len(), vpses.len(), "something is given twice: {vpses:#?}");
    }
}

/// The pool has the volumes that the database knows, and no others.
#[track_caller]
fn check_volumes(host: &ScratchHost, vpses: &[Vps]) {
    let mut expected: BTreeSet<String> = vpses.iter().map(|vps| format!("vps/{}/root", vps.id)).collect();
    for vps in vpses {
        let request = ListSnapshotsRequest { vps: vps.id.clone() };
        let snapshots = call!(host, snapshots.list_snapshots(request)).unwrap().snapshots;
        expected.extend(snapshots.iter().map(|snapshot| format!("snapshots/{}/{}", vps.id, snapshot.name)));
    }
    let mut found = BTreeSet::new();
    for top in ["vps", "snapshots"] {
        for directory in names(&host.pool().join(top)) {
            let volumes = names(&host.pool().join(top).join(&directory));
            found.extend(volumes.iter().map(|volume| format!("{top}/{directory}/{volume}")));
        }
    }
    found.extend(names(&host.pool().join("staging")));
    assert_eq!(found, expected);
}

/// A running VPS has an init, an interface and a cgroup. Others have none.
#[track_caller]
fn check_running(host: &ScratchHost, vpses: &[Vps]) {
    let traces = host.traces();
    for vps in vpses {
        let runs = vps.init_pid != 0;
        assert_eq!(runs, Path::new(&format!("/proc/{}", vps.init_pid)).exists() && runs, "{vps:?}");
        assert_eq!(runs, traces.groups.iter().any(|group| group.ends_with(&vps.id)), "the groups of {vps:?}");
        let interface = &vps.interfaces[0].host_interface;
        let has_interface = traces.interfaces.iter().any(|name| name.split('@').next() == Some(interface));
        assert_eq!(runs, has_interface, "{vps:?}");
    }
    let running = vpses.iter().filter(|vps| vps.init_pid != 0).count();
    let interfaces = traces.interfaces.iter().filter(|name| name.contains('@')).count();
    assert_eq!(interfaces, running, "{:?}", traces.interfaces);
    assert_eq!(names(&host.run_dir().join("vps")).len(), running, "run directories");
}

/// The guard against forged addresses, where the kernel has one, knows the addresses of all VPSes
/// and no others.
#[track_caller]
fn check_guard(vpses: &[Vps]) {
    let set = Command::new("nft").args(["-j", "list", "set", "bridge", "insula", "addresses"]).run();
    if set.code != 0 {
        assert!(set.stderr.contains("No such file") || set.stderr.contains("not supported"), "{set}");
        return; // the agent says in its log that guests can forge addresses
    }
    let set = set.json();
    let elements = set["nftables"].as_array().unwrap().iter().find_map(|object| object["set"].get("elem"));
    let elements = elements.map_or(0, |elements| elements.as_array().unwrap().len());
    assert_eq!(elements, vpses.len(), "{set}");
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}
