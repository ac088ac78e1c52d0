//! The bridge of a network, and the host's setting to route between the bridge and the world.

use std::net::IpAddr;
use std::{fs, io};

use insula_sys::netlink::{NetlinkError, Socket};
use insula_types::{InterfaceName, MacAddress, NetworkSpec};
use ipnet::IpNet;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::facility::{NetworkRefusal, check_network};
use crate::subnet::observe_addresses;

/// Why a bridge is not in the state that it should have.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The network is of a kind that can't be created here.
    #[error("failed to set up a bridge")]
    Refused(#[from] NetworkRefusal),
    /// The kernel refused a change.
    #[error("failed to set up bridge {bridge}")]
    Netlink {
        /// The name of the bridge.
        bridge: InterfaceName,
        /// What the kernel refused, and why.
        #[source]
        source: NetlinkError,
    },
    /// An interface that is not a bridge has its name.
    #[error("interface {0} exists and is not a bridge: choose another bridge name for the network")]
    NotABridge(InterfaceName),
    /// The host can't be made to route.
    #[error("failed to read or set {FORWARDING}")]
    Forwarding(#[source] io::Error),
}

/// Whether the host routes IPv4 packets between its interfaces, for the calling thread's network
/// namespace.
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The bridge's Ethernet address. It is locally administered and derived from the bridge's IP
/// address, so that a guest that moves to another host of the same network finds the same neighbour
/// there.
pub fn bridge_mac(network: &NetworkSpec) -> MacAddress {
    let [a, b, c, d] = match network.gateway() {
        IpAddr::V4(gateway) => gateway.octets(),
        IpAddr::V6(gateway) => gateway.octets()[12..].try_into().expect("the last four of sixteen"),
    };
    MacAddress([0x02, 0x00, a, b, c, d])
}

/// Creates the network's bridge with the host's address on it, or corrects what is wrong with it.
/// Returns `false` if nothing had to be changed.
///
/// The bridge belongs to the network alone: other IPv4 addresses are removed from it, but ports are
/// kept.
pub fn ensure_bridge(network: &NetworkSpec) -> Result<bool, BridgeError> {
    let bridge = check_network(network)?;
    let error = |source| BridgeError::Netlink { bridge: bridge.clone(), source };
    let socket = Socket::open().map_err(error)?;
    let mac = bridge_mac(network);
    let found = socket.interface(bridge.as_str()).map_err(error)?;
    if found.as_ref().is_some_and(|found| !is_bridge(found)) {
        return Err(BridgeError::NotABridge(bridge.clone()));
    }
    let is_right = found.is_some_and(|found| is_configured(&found, mac));
    if !is_right {
        socket.apply_bridge(bridge.as_str(), mac.0).map_err(error)?;
    }
    let address_changed = ensure_address(&socket, bridge, network).map_err(error)?;
    Ok(!is_right || address_changed)
}

/// Whether the host has an interface of this name, of any kind.
pub fn observe_interface(name: &InterfaceName) -> Result<bool, BridgeError> {
    let error = |source| BridgeError::Netlink { bridge: name.clone(), source };
    let socket = Socket::open().map_err(error)?;
    Ok(socket.interface_index(name.as_str()).map_err(error)?.is_some())
}

/// Removes the bridge. Returns `false` if there was none. Its ports remain as interfaces without a
/// bridge.
pub fn ensure_bridge_absent(bridge: &InterfaceName) -> Result<bool, BridgeError> {
    let error = |source| BridgeError::Netlink { bridge: bridge.clone(), source };
    let socket = Socket::open().map_err(error)?;
    match socket.interface(bridge.as_str()).map_err(error)? {
        Some(found) if is_bridge(&found) => socket.delete_interface(bridge.as_str()).map_err(error),
        _ => Ok(false),
    }
}

/// Lets the host route IPv4 packets between its interfaces. Returns `false` if it did already: a
/// caller that wants to turn routing off again later must remember this.
pub fn ensure_forwarding() -> Result<bool, BridgeError> {
    let is_on = fs::read(FORWARDING).map_err(BridgeError::Forwarding)?.starts_with(b"1");
    if !is_on {
        fs::write(FORWARDING, "1").map_err(BridgeError::Forwarding)?;
    }
    Ok(!is_on)
}

/// Gives the bridge the host's address in the network, and removes other addresses from it.
fn ensure_address(
    socket: &Socket,
    bridge: &InterfaceName,
    network: &NetworkSpec,
) -> Result<bool, NetlinkError> {
    let Some(index) = socket.interface_index(bridge.as_str())? else { return Ok(false) }; // removed by another just now
    let prefix_length = network.subnet.prefix_len();
    let mut present = false;
    let mut removed = false;
    for (_, net) in observe_addresses(socket)?.into_iter().filter(|(owner, _)| *owner == index) {
        match is_address_of(network, net) {
            true => present = true,
            false => removed |= socket.delete_address(index, net.addr(), net.prefix_len())?,
        }
    }
    if !present {
        socket.add_address(index, network.gateway(), prefix_length)?;
    }
    Ok(removed || !present)
}

fn is_address_of(network: &NetworkSpec, net: IpNet) -> bool {
    net.addr() == network.gateway() && net.prefix_len() == network.subnet.prefix_len()
}

/// What the kernel says about the kind of an interface.
fn link_info(interface: &LinkMessage) -> impl Iterator<Item = &LinkInfo> {
    interface
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(info) => Some(info),
            _ => None,
        })
        .flatten()
}

fn is_bridge(interface: &LinkMessage) -> bool {
    link_info(interface).any(|info| *info == LinkInfo::Kind(InfoKind::Bridge))
}

/// Whether the bridge has the settings that [`Socket::apply_bridge`] gives it.
fn is_configured(bridge: &LinkMessage, mac: MacAddress) -> bool {
    let options: Vec<_> = link_info(bridge)
        .filter_map(|info| match info {
            LinkInfo::Data(InfoData::Bridge(options)) => Some(options),
            _ => None,
        })
        .flatten()
        .collect();
    bridge.header.flags.contains(LinkFlags::Up)
        && bridge.attributes.contains(&LinkAttribute::Address(mac.0.to_vec()))
        && options.contains(&&InfoBridge::StpState(BridgeStpState::Disabled))
        && options.contains(&&InfoBridge::ForwardDelay(0))
}
