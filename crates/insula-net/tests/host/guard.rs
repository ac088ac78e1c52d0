//! The guard against forged addresses: what a guest sends, and what of that reaches the host.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use insula_net::{GuestPort, TableName, add_ports, bridge_mac, ensure_guard, remove_ports};
use insula_sys::netlink::Socket;
use insula_types::MacAddress;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::scratch::{GUEST_ADDRESS, GUEST_MAC, GUEST_VETH, Namespace, network, on_scratch_host, plug_guest};

/// An address that the guest was not given.
const FORGED_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 64, 3, 99);
const FORGED_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// Receives on the host what the guest sends. The kernel keeps the order of what one processor sends (the scratch
/// host has one only), so what had not come when the last datagram came was dropped.
struct Witness<'a> {
    guest: &'a Namespace,
    eth0: u32,
    server: UdpSocket,
}

impl<'a> Witness<'a> {
    /// Waits until the guest's packets arrive, which can take a second: the kernel may find the new pair's carrier after
    /// the first packet, which is lost then.
    fn new(guest: &'a Namespace) -> Self {
        let server = UdpSocket::bind((network().gateway(), 0)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let witness = Self { guest, eth0: guest.netlink().interface_index("eth0").unwrap().unwrap(), server };
        witness.ask_by_arp();
        witness
    }

    /// Sends a datagram with a forged address, one with a forged Ethernet address, and one as it should be.
    fn what_comes_through(&self) -> Vec<String> {
        let destination = self.server.local_addr().unwrap();
        let inside = self.guest.netlink();
        inside.add_address(self.eth0, FORGED_ADDRESS.into(), 24).unwrap();
        let (own, forged) = (self.bind(GUEST_ADDRESS), self.bind(FORGED_ADDRESS));
        for (mac, socket, text) in [
            (GUEST_MAC, &forged, "forged address"),
            (FORGED_MAC, &own, "forged Ethernet address"),
            (GUEST_MAC, &own, "last"),
        ] {
            set_mac(&inside, self.eth0, mac);
            set_gateway_neighbour(&inside, self.eth0); // no datagram waits for ARP
            socket.send_to(text.as_bytes(), destination).unwrap();
        }
        inside.delete_address(self.eth0, FORGED_ADDRESS.into(), 24).unwrap();
        self.received_until_last()
    }

    /// Lets the guest ask by ARP for the host's Ethernet address in the name of another, and then in its own again.
    fn forge_arp(&self) {
        let inside = self.guest.netlink();
        set_mac(&inside, self.eth0, GUEST_MAC); // the guest forgets what it knows of its neighbours
        inside.add_address(self.eth0, FORGED_ADDRESS.into(), 24).unwrap();
        self.bind(FORGED_ADDRESS).send_to(b"forged address", self.server.local_addr().unwrap()).unwrap();
        set_mac(&inside, self.eth0, GUEST_MAC);
        self.ask_by_arp();
    }

    fn ask_by_arp(&self) {
        self.bind(GUEST_ADDRESS).send_to(b"last", self.server.local_addr().unwrap()).unwrap();
        self.received_until_last();
    }

    fn bind(&self, address: Ipv4Addr) -> UdpSocket {
        self.guest.within(|| UdpSocket::bind((address, 0)).unwrap())
    }

    fn received_until_last(&self) -> Vec<String> {
        let mut received = vec![];
        while received.last().is_none_or(|text| text != "last") {
            let mut buffer = [0; 64];
            let length = self.server.recv(&mut buffer).unwrap();
            received.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        received
    }
}

fn set_mac(inside: &Socket, index: u32, mac: [u8; 6]) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::Address(mac.to_vec())];
    let what = format_args!("set an Ethernet address");
    inside.request(what, 0, RouteNetlinkMessage::SetLink(message)).unwrap();
}

fn set_gateway_neighbour(inside: &Socket, index: u32) {
    let network = network();
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(neighbour(network.gateway())),
        NeighbourAttribute::LinkLayerAddress(bridge_mac(&network).0.to_vec()),
    ];
    let what = format_args!("set a neighbour");
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    inside.request(what, flags, RouteNetlinkMessage::NewNeighbour(message)).unwrap();
}

fn neighbour(address: IpAddr) -> NeighbourAddress {
    match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }
}

/// Whether the host has learned by ARP which MAC address has the address.
fn host_knows(address: Ipv4Addr) -> bool {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    let what = format_args!("list neighbours");
    let neighbours = Socket::open().unwrap().dump(what, RouteNetlinkMessage::GetNeighbour(message)).unwrap();
    let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet(address));
    neighbours.iter().any(|answer| {
        matches!(answer, RouteNetlinkMessage::NewNeighbour(neighbour) if neighbour.attributes.contains(&destination))
    })
}

fn table() -> TableName {
    "insula_test".parse().unwrap()
}

fn port() -> GuestPort {
    GuestPort {
        veth: GUEST_VETH.parse().unwrap(),
        mac: MacAddress(GUEST_MAC),
        addresses: vec![GUEST_ADDRESS.into()],
    }
}

#[test]
fn a_guest_sends_only_from_its_own_addresses() {
    const ALL: [&str; 3] = ["forged address", "forged Ethernet address", "last"];
    on_scratch_host(|| {
        let guest = plug_guest();
        let witness = Witness::new(&guest);
        assert_eq!(witness.what_comes_through(), ALL, "without the guard all comes through");
        ensure_guard(&table(), &[]).unwrap();
        assert_eq!(witness.what_comes_through(), ALL, "a guard without guests guards nobody");
        add_ports(&table(), &[port()]).unwrap();
        assert_eq!(witness.what_comes_through(), ["last"]);
        add_ports(&table(), &[port()]).unwrap();
        ensure_guard(&table(), &[port()]).unwrap();
        assert_eq!(witness.what_comes_through(), ["last"], "entered twice is as good as once");
        remove_ports(&table(), &[port()]).unwrap();
        remove_ports(&table(), &[port()]).unwrap();
        assert_eq!(witness.what_comes_through(), ALL);
    });
}

#[test]
fn a_guest_can_not_take_another_s_address_by_arp() {
    on_scratch_host(|| {
        let guest = plug_guest();
        ensure_guard(&table(), &[port()]).unwrap();
        Witness::new(&guest).forge_arp();
        assert!(!host_knows(FORGED_ADDRESS));
        assert!(host_knows(GUEST_ADDRESS), "its own requests come through");
    });
}

#[test]
fn without_the_guard_a_guest_takes_another_s_address_by_arp() {
    on_scratch_host(|| {
        let guest = plug_guest();
        Witness::new(&guest).forge_arp();
        assert!(host_knows(FORGED_ADDRESS));
    });
}
