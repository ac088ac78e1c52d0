//! Networks, interfaces and addresses.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{InterfaceName, NetworkName, VpsId};

/// An Ethernet address, written `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address of interface number `index` of a VPS: locally administered (IEEE 802) and
    /// unicast. It never changes, because it is derived from the VPS's id.
    pub fn of(vps: &VpsId, index: u8) -> Self {
        let [_, _, _, a, b, c, d, e] = vps.short().to_be_bytes();
        Self([0x02 | (index << 2 & 0xfc), a, b, c, d, e])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected six pairs of hexadecimal digits with colons between them";
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(EXPECTED)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| EXPECTED)?;
        }
        parts.next().is_none().then_some(Self(bytes)).ok_or(EXPECTED)
    }
}

impl TryFrom<String> for MacAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> String {
        mac.to_string()
    }
}

/// A network of this host, with a private range of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// The network's name.
    pub name: NetworkName,
    /// How VPSes' interfaces are connected to the network.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// The network's range. The host has the first address in it.
    pub subnet: IpNet,
    /// The name servers that guests use. If empty, they use those of the host.
    pub dns: Vec<IpAddr>,
    /// Whether the settings or a client asked for the network.
    #[serde(default)]
    pub origin: NetworkOrigin,
}

/// Who asked for a network, which decides when it is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkOrigin {
    /// The agent's settings. The network is removed when they no longer name it and no VPS uses it.
    #[default]
    Settings,
    /// A client. The network is removed when a client asks for that.
    Request,
}

impl NetworkSpec {
    /// The host's own address in the network, which is the guests' default gateway.
    pub fn gateway(&self) -> IpAddr {
        let first = match self.subnet {
            IpNet::V4(subnet) => subnet.hosts().next().map(IpAddr::V4),
            IpNet::V6(subnet) => subnet.hosts().nth(1).map(IpAddr::V6), // the network's own counts as one
        };
        first.unwrap_or(self.subnet.addr())
    }

    /// Whether a VPS may have the address: it is in the range, and is not the network's, the host's
    /// or the broadcast address.
    pub fn may_assign(&self, address: IpAddr) -> bool {
        self.subnet.contains(&address)
            && address != self.subnet.network()
            && address != self.subnet.broadcast()
            && address != self.gateway()
    }
}

/// How an interface of a VPS is connected on the host.
///
/// In JSON it is one field of the object that has it. The field's name is the kind: `"bridge":
/// "insbr0"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attachment {
    /// A port of this bridge. All ports share one link, and the host's address is on the bridge.
    #[serde(rename = "bridge")]
    Bridged(InterfaceName),
    /// A link of its own with the host, which routes between it and the interface named here. It
    /// can be described, but nothing creates it yet: the code that would have to refuses.
    #[serde(rename = "uplink")]
    Routed(InterfaceName),
}

impl Attachment {
    /// The bridge, if the interface is connected to one.
    pub fn bridge(&self) -> Option<&InterfaceName> {
        match self {
            Self::Bridged(bridge) => Some(bridge),
            Self::Routed(_) => None,
        }
    }
}

/// A VPS's network interface as it should be, wherever the VPS lives. Its addresses are in the
/// [`Placement`](crate::Placement): they come from the range that the network has on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The interface's name inside the guest, such as `eth0`.
    pub name: InterfaceName,
    /// The network that the interface is plugged into.
    pub network: NetworkName,
    /// The interface's Ethernet address.
    pub mac: MacAddress,
    /// Whether the guest's default route goes through this interface, to the network's gateway.
    /// Chosen when the VPS is created.
    pub default_route: bool,
}

/// An address, and the VPS that has it. An address belongs to at most one VPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressAssignment {
    /// The network in whose range the address is.
    pub network: NetworkName,
    /// The address itself.
    pub address: IpAddr,
    /// The VPS that has the address.
    pub vps: VpsId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_is_local_and_unicast() {
        let id = VpsId::new();
        for index in 0..8 {
            let mac = MacAddress::of(&id, index);
            assert_eq!(mac.0[0] & 0b11, 0b10, "{mac}");
            assert_eq!(mac.to_string().parse(), Ok(mac));
        }
        assert!("02:00".parse::<MacAddress>().is_err());
        assert!("02:00:00:00:00:00:00".parse::<MacAddress>().is_err());
    }

    #[test]
    fn only_addresses_of_hosts_are_given() {
        let network = NetworkSpec {
            name: "default".parse().unwrap(),
            attachment: Attachment::Bridged("insbr0".parse().unwrap()),
            subnet: "10.90.4.0/24".parse().unwrap(),
            dns: vec![],
            origin: NetworkOrigin::Settings,
        };
        assert_eq!(network.gateway().to_string(), "10.90.4.1");
        for (address, allowed) in [
            ("10.90.4.2", true),
            ("10.90.4.254", true),
            ("10.90.4.0", false),
            ("10.90.4.1", false),
            ("10.90.4.255", false),
            ("10.90.5.2", false),
        ] {
            assert_eq!(network.may_assign(address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn networks_are_written_as_they_always_were() {
        let old = r#"{"name":"default","bridge":"insbr0","subnet":"10.90.4.0/24","dns":["9.9.9.9"]}"#;
        let network: NetworkSpec = serde_json::from_str(old).unwrap();
        assert_eq!(network.attachment.bridge().map(InterfaceName::as_str), Some("insbr0"));
        assert_eq!(network.origin, NetworkOrigin::Settings);
        let written = serde_json::to_string(&network).unwrap();
        assert_eq!(written, old.replace('}', r#","origin":"settings"}"#));
        let routed = old.replace("bridge", "uplink").replace("10.90.4.0/24", "2001:db8::/64");
        let network: NetworkSpec = serde_json::from_str(&routed).unwrap();
        assert_eq!(network.attachment, Attachment::Routed("insbr0".parse().unwrap()));
        assert!(serde_json::from_str::<NetworkSpec>(&old.replace("bridge", "tunnel")).is_err());
    }
}
