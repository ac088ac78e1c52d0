//! Ranges of networks: what the host uses already, and which range is free.

use std::net::Ipv4Addr;

use insula_sys::netlink::{NetlinkError, Socket};
use insula_types::InterfaceName;
use ipnet::{IpNet, Ipv4Net};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::dns::observe_host_dns;

/// Where ranges are taken from, in this order. First come blocks that others' defaults leave alone:
/// libvirt has 192.168.122/24, Docker 172.17 to 172.31 and 192.168, Podman 10.88 and upwards,
/// Kubernetes 10.42, 10.43, 10.96 and 10.244, clouds and homes the low ends of 10/8 and 192.168/16.
/// For hosts with a route to all of 10/8, some of the other blocks follow. At last comes everything
/// in RFC 1918.
const SOURCES: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(10, 64, 0, 0), 12),
    (Ipv4Addr::new(172, 16, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 192, 0), 18),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// The prefix length of a range. A /24 has room for 253 VPSes.
const PREFIX: u8 = 24;

/// Shorter routes say nothing about who uses a range: they are the default route, or its two halves
/// that VPNs use.
const SHORTEST_PREFIX: u8 = 8;

/// Chooses a private /24 (RFC 1918) that overlaps with nothing occupied. `None` if there is none.
/// The same seed on the same host gives the same range.
pub fn choose_subnet(occupied: &[IpNet], seed: u64) -> Option<IpNet> {
    let is_free =
        |subnet: &IpNet| !occupied.iter().any(|other| other.contains(subnet) || subnet.contains(other));
    SOURCES.into_iter().find_map(|(start, prefix)| {
        let count = 1_u64 << (PREFIX - prefix);
        (0..count)
            .filter_map(|step| u32::try_from((seed % count + step) % count).ok())
            .filter_map(|number| {
                Ipv4Net::new((start.to_bits() + (number << (32 - PREFIX))).into(), PREFIX).ok()
            })
            .map(IpNet::V4)
            .find(is_free)
    })
}

/// The ranges that the host uses or has a route to, except through `own_bridge`: its addresses, its
/// routes in all tables, and its name servers, which may be behind the default route and so not
/// visible in any other route.
pub fn observe_occupied(own_bridge: &InterfaceName) -> Result<Vec<IpNet>, NetlinkError> {
    let socket = Socket::open()?;
    let own_index = socket.interface_index(own_bridge.as_str())?;
    let mut occupied: Vec<IpNet> = observe_addresses(&socket)?
        .into_iter()
        .filter_map(|(index, net)| (Some(index) != own_index).then_some(net.trunc()))
        .chain(observe_routes(&socket, own_index)?)
        .chain(observe_host_dns().into_iter().map(IpNet::from))
        .collect();
    occupied.sort();
    occupied.dedup();
    Ok(occupied)
}

/// Every IPv4 address of the host as a network, by the index of the interface that has it.
pub(crate) fn observe_addresses(socket: &Socket) -> Result<Vec<(u32, IpNet)>, NetlinkError> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let dump =
        socket.dump(format_args!("list the host's addresses"), RouteNetlinkMessage::GetAddress(message))?;
    let address = |answer| {
        let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        })?;
        Some((message.header.index, IpNet::new(address, message.header.prefix_len).ok()?))
    };
    Ok(dump.into_iter().filter_map(address).collect())
}

fn observe_routes(socket: &Socket, own_index: Option<u32>) -> Result<Vec<IpNet>, NetlinkError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let dump = socket.dump(format_args!("list the host's routes"), RouteNetlinkMessage::GetRoute(message))?;
    let routes = dump.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    let is_own = |route: &RouteMessage| {
        own_index.is_some_and(|index| route.attributes.contains(&RouteAttribute::Oif(index)))
    };
    Ok(routes.filter(|route| !is_own(route)).filter_map(|route| destination(&route)).collect())
}

/// The destination of a route, unless it is too wide to say anything.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    let prefix_length = route.header.destination_prefix_length;
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) if prefix_length >= SHORTEST_PREFIX => {
            IpNet::new((*address).into(), prefix_length).ok()
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::IpAddr;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_sources_are_tried_in_order() {
        for (occupied, seed, chosen) in [
            (nets(&[]), 0, Some("10.64.0.0/24")),
            (nets(&[]), 4095, Some("10.79.255.0/24")),
            (nets(&[]), 4096 + 7, Some("10.64.7.0/24")),
            (nets(&["10.64.7.9/32"]), 7, Some("10.64.8.0/24")),
            (nets(&["10.79.255.0/24"]), 4095, Some("10.64.0.0/24")),
            (nets(&["10.64.6.0/23"]), 7, Some("10.64.8.0/24")),
            (nets(&["10.0.0.0/8"]), 5, Some("172.16.5.0/24")),
            (nets(&["10.0.0.0/8", "172.16.0.0/12"]), 0, Some("192.168.192.0/24")),
            (nets(&["10.64.0.0/12", "172.16.0.0/12", "192.168.0.0/16"]), 0, Some("10.0.0.0/24")),
            (nets(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), 0, None),
        ] {
            assert_eq!(choose_subnet(&occupied, seed).map(|net| net.to_string()).as_deref(), chosen);
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_private_and_free(
            seed: u64,
            occupied in proptest::collection::vec((any::<u32>(), 8_u8..=32), 0..30),
        ) {
            let occupied: Vec<IpNet> = occupied
                .into_iter()
                .map(|(base, prefix)| Ipv4Net::new((0x0a00_0000 | base >> 8).into(), prefix).unwrap().trunc().into())
                .collect();
            let chosen = choose_subnet(&occupied, seed).unwrap();
            let is_private = |address| matches!(address, IpAddr::V4(address) if address.is_private());
            prop_assert!(is_private(chosen.network()) && is_private(chosen.broadcast()));
            prop_assert_eq!(chosen, chosen.trunc());
            prop_assert!(occupied.iter().all(|net| !net.contains(&chosen) && !chosen.contains(net)));
            prop_assert_eq!(choose_subnet(&occupied, seed), Some(chosen));
        }
    }
}
