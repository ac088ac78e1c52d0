//! Networks that come and go, with bridges and rules of the kernel, in a network namespace for each test.

use std::collections::{BTreeMap, BTreeSet};

use insula_sys::program::Program;
use insula_types::{
    Attachment, InterfaceName, OperationId, OperationKind, OperationRecord, OperationState, Progress,
    Requester,
};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use super::*;

/// A host with a network `default`, as far as networks go.
struct Host {
    directory: tempfile::TempDir,
    settings: NetworkSettings,
}

impl Host {
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
        let subnet = Some("10.64.3.0/24".parse().unwrap());
        Self {
            directory: tempfile::tempdir().unwrap(),
            settings: NetworkSettings { subnet, ..NetworkSettings::default() },
        }
    }

    fn open(&self) -> Networks {
        let store = Store::open(&self.directory.path().join("insula.db")).unwrap();
        Networks::open(&self.settings, Database::new(store)).unwrap()
    }
}

fn office() -> NetworkSpec {
    NetworkSpec {
        name: "office".parse().unwrap(),
        attachment: bridged("insbr1"),
        subnet: "10.64.9.0/24".parse().unwrap(),
        dns: vec![],
        origin: NetworkOrigin::Request,
    }
}

fn bridged(bridge: &str) -> Attachment {
    Attachment::Bridged(bridge.parse().unwrap())
}

fn has_bridge(name: &str) -> bool {
    observe_interface(&name.parse::<InterfaceName>().unwrap()).unwrap()
}

fn ruleset() -> String {
    String::from_utf8(Program::new("nft").args(["list", "ruleset"]).output().unwrap()).unwrap()
}

fn names(networks: &Networks) -> BTreeSet<String> {
    networks.all().iter().map(|network| network.name.to_string()).collect()
}

fn kept(networks: &Networks) -> BTreeSet<String> {
    networks.store.networks().unwrap().iter().map(|network| network.name.to_string()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// A VPS with the first addresses of a network, as the database keeps it.
fn insert_vps(networks: &Networks, network: &NetworkSpec) -> VpsSpec {
    let id = VpsId::new();
    let address = network.subnet.hosts().nth(1).unwrap();
    let mac = insula_types::MacAddress::of(&id, 0);
    let spec: VpsSpec = serde_json::from_value(json!({
        "id": id, "name": format!("in-{}", network.name), "hostname": "web1", "image": "07".repeat(32),
        "init": "systemd", "profile": "small", "limits": {},
        "nics": [{"name": "eth0", "network": network.name, "mac": mac, "default_route": true}],
        "ssh_keys": [], "power": "off", "created_at": 1,
        "placement": {
            "host_id": networks.store.host_id(), "epoch": 1, "pool": "default",
            "ids": {"start": 65536, "length": 65536}, "addresses": {"eth0": [address]}
        }
    }))
    .unwrap();
    networks.store.insert_vps(&spec, &operation(OperationKind::CreateVps, &id)).unwrap();
    spec
}

fn operation(kind: OperationKind, vps: &VpsId) -> OperationRecord {
    OperationRecord {
        id: OperationId::new(),
        kind,
        target: vps.to_string(),
        target_name: "web1".to_owned(),
        request: "{}".to_owned(),
        state: OperationState::Succeeded,
        step: 0,
        progress: Progress::default(),
        error: None,
        steps: vec![],
        step_names: vec![],
        outputs: BTreeMap::new(),
        notes: vec![],
        requester: Requester::root(),
        request_id: None,
        digest: String::new(),
        tenant: None,
        created_at_ms: 1,
        updated_at_ms: 1,
    }
}

#[test]
fn a_network_comes_and_goes_while_the_agent_runs() {
    let networks = Host::new().open();
    let before = ruleset();
    networks.add(office()).unwrap();
    assert_eq!((names(&networks), kept(&networks)), (set(["default", "office"]), set(["default", "office"])));
    assert!(has_bridge("insbr1"));
    assert!(ruleset().contains("10.64.9.0/24 . 10.64.9.0/24"), "it has NAT");

    networks.remove("office").unwrap();
    assert_eq!((names(&networks), kept(&networks)), (set(["default"]), set(["default"])));
    assert!(has_bridge("insbr0") && !has_bridge("insbr1"));
    assert_eq!(ruleset(), before);
    assert_eq!(networks.remove("office").unwrap_err().reason(), Reason::NetworkNotFound);
    networks.add(office()).unwrap();
}

#[test]
fn the_next_agent_finds_networks_and_touches_no_rule() {
    let host = Host::new();
    let networks = host.open();
    networks.add(office()).unwrap();
    insert_vps(&networks, &office());
    networks.store.vpses().unwrap().iter().for_each(|vps| {
        add_ports(&networks.table, &guest_ports(vps)).unwrap();
    });
    drop(networks);
    let before = ruleset();
    let networks = host.open();
    assert_eq!(names(&networks), set(["default", "office"]));
    assert_eq!(ruleset(), before);
}

#[test]
fn what_a_crash_left_undone_is_made_by_the_next_agent() {
    let host = Host::new();
    host.open().store.put_network(&office()).unwrap();
    let networks = host.open();
    assert_eq!(names(&networks), set(["default", "office"]));
    assert!(has_bridge("insbr1") && ruleset().contains("10.64.9.0/24"));
}

#[test]
fn a_network_in_use_stays_as_it_is() {
    let networks = Host::new().open();
    networks.add(office()).unwrap();
    let vps = insert_vps(&networks, &office());
    let error = networks.remove("office").unwrap_err();
    assert!(error.chain().contains("is used by 1 VPSes"), "{}", error.chain());
    let moved = NetworkSpec { subnet: "10.64.10.0/24".parse().unwrap(), ..office() };
    assert!(networks.change(moved.clone()).is_err());
    assert_eq!(networks.of(&vps).unwrap()[0].subnet, office().subnet);

    let dns: Vec<IpAddr> = vec!["9.9.9.9".parse().unwrap()];
    networks.change(NetworkSpec { dns: dns.clone(), ..office() }).unwrap();
    assert_eq!(networks.find("office").unwrap().dns, dns, "its name servers may change");
    networks.store.delete_vps(&vps.id, &operation(OperationKind::DeleteVps, &vps.id)).unwrap();
    networks.remove("office").unwrap();
}

#[test]
fn a_network_that_nobody_uses_may_move() {
    let networks = Host::new().open();
    networks.add(office()).unwrap();
    let moved =
        NetworkSpec { subnet: "10.64.10.0/24".parse().unwrap(), attachment: bridged("insbr2"), ..office() };
    networks.change(moved.clone()).unwrap();
    assert_eq!(*networks.find("office").unwrap(), moved);
    assert!(has_bridge("insbr2") && !has_bridge("insbr1"));
    assert!(ruleset().contains("10.64.10.0/24") && !ruleset().contains("10.64.9.0/24"));
}

#[test]
fn what_cannot_be_made_is_refused_and_leaves_nothing() {
    let networks = Host::new().open();
    let routed = Attachment::Routed("insbr1".parse().unwrap());
    for (spec, expected) in [
        (NetworkSpec { attachment: routed, ..office() }, "only bridged networks"),
        (NetworkSpec { subnet: "2001:db8::/64".parse().unwrap(), ..office() }, "only networks of IPv4"),
        (NetworkSpec { subnet: "10.64.0.0/16".parse().unwrap(), ..office() }, "bridge or addresses with"),
        (NetworkSpec { attachment: bridged("insbr0"), ..office() }, "bridge or addresses with"),
        (NetworkSpec { attachment: bridged("lo"), ..office() }, "an interface lo already exists"),
        (
            NetworkSpec { name: "default".parse().unwrap(), ..office() },
            "a network \"default\" already exists",
        ),
    ] {
        let error = networks.add(spec).unwrap_err().chain();
        assert!(error.contains(expected), "{error}");
    }
    Program::new("nft").args(["delete", "table", "ip", "insula"]).output().unwrap();
    let error = networks.add(office()).unwrap_err().chain();
    assert!(error.contains("the firewall refused"), "{error}");
    assert!(!has_bridge("insbr1"), "the bridge that was made went again");
    assert_eq!((names(&networks), kept(&networks)), (set(["default"]), set(["default"])));
}

#[test]
fn a_network_that_settings_no_longer_name_stays_while_it_is_used() {
    let mut host = Host::new();
    let networks = host.open();
    let vps = insert_vps(&networks, &networks.find("default").unwrap());
    drop(networks);

    host.settings = NetworkSettings {
        name: "second".parse().unwrap(),
        bridge: "insbr2".parse().unwrap(),
        subnet: Some("10.64.4.0/24".parse().unwrap()),
        ..NetworkSettings::default()
    };
    let networks = host.open();
    assert_eq!(names(&networks), set(["default", "second"]));
    assert!(has_bridge("insbr0") && has_bridge("insbr2"));
    assert!(networks.remove("second").is_err(), "the settings name it");

    networks.store.delete_vps(&vps.id, &operation(OperationKind::DeleteVps, &vps.id)).unwrap();
    drop(networks);
    let networks = host.open();
    assert_eq!((names(&networks), kept(&networks)), (set(["second"]), set(["second"])));
    assert!(!has_bridge("insbr0") && !ruleset().contains("10.64.3.0/24"));
}
