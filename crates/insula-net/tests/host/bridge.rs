//! A network's bridge is created, corrected and removed, and interfaces of others are left alone.

use insula_net::{BridgeError, bridge_mac, ensure_bridge, ensure_bridge_absent, ensure_forwarding};
use insula_sys::netlink::Socket;
use insula_types::{Attachment, NetworkSpec};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use crate::scratch::{bridge, network, on_scratch_host, plug_guest};

#[test]
fn a_bridge_is_made_once_and_removed_once() {
    on_scratch_host(|| {
        let network = network();
        assert!(ensure_bridge(&network).unwrap());
        assert!(!ensure_bridge(&network).unwrap());
        assert!(ensure_bridge_absent(&bridge()).unwrap());
        assert!(!ensure_bridge_absent(&bridge()).unwrap());
        assert!(ensure_bridge(&network).unwrap());
    });
}

#[test]
fn what_is_wrong_with_a_bridge_is_corrected() {
    on_scratch_host(|| {
        let network = network();
        ensure_bridge(&network).unwrap();
        let socket = Socket::open().unwrap();
        let index = socket.interface_index("insbr0").unwrap().unwrap();
        let gateway = network.gateway();

        assert!(socket.delete_address(index, gateway, 24).unwrap());
        assert!(!socket.delete_address(index, gateway, 24).unwrap());
        assert!(ensure_bridge(&network).unwrap(), "its address was missing");

        let mut down = LinkMessage::default();
        down.header.index = index;
        down.header.change_mask = LinkFlags::Up;
        down.attributes = vec![LinkAttribute::Address(vec![2, 9, 9, 9, 9, 9])];
        socket.request(format_args!("break the bridge"), 0, RouteNetlinkMessage::SetLink(down)).unwrap();
        assert!(ensure_bridge(&network).unwrap(), "it was down and had another Ethernet address");
        let bridge = socket.interface("insbr0").unwrap().unwrap();
        assert!(bridge.header.flags.contains(LinkFlags::Up));
        assert!(bridge.attributes.contains(&LinkAttribute::Address(bridge_mac(&network).0.to_vec())));

        let moved = NetworkSpec { subnet: "10.64.77.0/24".parse().unwrap(), ..network };
        assert!(ensure_bridge(&moved).unwrap(), "its range changed");
        assert!(!socket.delete_address(index, gateway, 24).unwrap(), "the old address is gone");
        assert!(!ensure_bridge(&moved).unwrap());
        assert_eq!(socket.interface_index("insbr0").unwrap(), Some(index), "it is the same bridge");
    });
}

#[test]
fn a_bridge_keeps_its_ports_and_its_ethernet_address() {
    on_scratch_host(|| {
        let _guest = plug_guest();
        assert!(!ensure_bridge(&network()).unwrap());
    });
}

#[test]
fn an_interface_of_others_is_left_alone() {
    on_scratch_host(|| {
        let socket = Socket::open().unwrap();
        let mut other = LinkMessage::default();
        other.attributes = vec![
            LinkAttribute::IfName("insbr0".into()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        socket.request(format_args!("take the name"), flags, RouteNetlinkMessage::NewLink(other)).unwrap();
        assert!(matches!(ensure_bridge(&network()), Err(BridgeError::NotABridge(_))));
        assert!(!ensure_bridge_absent(&bridge()).unwrap());
        assert!(socket.interface_index("insbr0").unwrap().is_some());
    });
}

#[test]
fn forwarding_is_turned_on_once() {
    on_scratch_host(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        assert!(ensure_forwarding().unwrap());
        assert!(!ensure_forwarding().unwrap());
    });
}

#[test]
fn what_can_not_be_made_leaves_nothing() {
    on_scratch_host(|| {
        let socket = Socket::open().unwrap();
        let routed = NetworkSpec { attachment: Attachment::Routed(bridge()), ..network() };
        let sixth = NetworkSpec { subnet: "2001:db8::/64".parse().unwrap(), ..network() };
        for refused in [routed, sixth] {
            let error = ensure_bridge(&refused).unwrap_err();
            assert!(matches!(error, BridgeError::Refused(_)), "{error:?}");
            assert_eq!(socket.interface_index("insbr0").unwrap(), None);
        }
    });
}
