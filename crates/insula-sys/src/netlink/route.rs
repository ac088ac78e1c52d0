//! Addresses and routes.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::error::NetlinkError;
use super::socket::Socket;

impl Socket {
    /// Gives an interface an address, in a network of this prefix length. It is no error if the interface has it already.
    pub fn add_address(&self, index: u32, address: IpAddr, prefix_length: u8) -> Result<(), NetlinkError> {
        let message = address_message(index, address, prefix_length);
        let what = format_args!("add address {address}/{prefix_length} to interface {index}");
        self.request(what, NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewAddress(message))
    }

    /// Takes an address from an interface. `false` if the interface didn't have it.
    pub fn delete_address(
        &self,
        index: u32,
        address: IpAddr,
        prefix_length: u8,
    ) -> Result<bool, NetlinkError> {
        let message = address_message(index, address, prefix_length);
        let what = format_args!("delete address {address}/{prefix_length} from interface {index}");
        match self.request(what, 0, RouteNetlinkMessage::DelAddress(message)) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes `gateway` the default route. It must be reachable through the interface, which must be up.
    pub fn add_default_route(&self, gateway: IpAddr, index: u32) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(gateway),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: RouteScope::Universe,
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        let through = match gateway {
            IpAddr::V4(gateway) => RouteAddress::Inet(gateway),
            IpAddr::V6(gateway) => RouteAddress::Inet6(gateway),
        };
        message.attributes = vec![RouteAttribute::Gateway(through), RouteAttribute::Oif(index)];
        let what = format_args!("add the default route through {gateway}");
        self.request(what, NLM_F_CREATE | NLM_F_REPLACE, RouteNetlinkMessage::NewRoute(message))
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(index: u32, address: IpAddr, prefix_length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.index = index;
    message.header.prefix_len = prefix_length;
    message.attributes = vec![AddressAttribute::Address(address), AddressAttribute::Local(address)];
    if let IpAddr::V4(address) = address
        && prefix_length < 31
    {
        let broadcast = address | Ipv4Addr::from(u32::MAX >> prefix_length);
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message
}
