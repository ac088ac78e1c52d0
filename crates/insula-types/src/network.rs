//! Networks, interfaces and addresses.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use crate::{InterfaceName, NetworkName, VpsId};

/// An Ethernet address, written `02:00:00:00:00:01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The address of a VPS's interface number `index`: locally administered (IEEE 802), unicast, and the same
    /// for ever, because it comes from the id.
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

/// A bridge network of this host with its own private range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name.
    pub name: NetworkName,
    /// The bridge on the host.
    pub bridge: InterfaceName,
    /// The range; the host has its first address.
    pub subnet: Ipv4Net,
    /// The servers that guests resolve names with. Empty: those of the host.
    pub dns: Vec<IpAddr>,
}

impl NetworkSpec {
    /// The host's own address in the network, and the guests' default route.
    pub fn gateway(&self) -> Ipv4Addr {
        self.subnet.hosts().next().unwrap_or(self.subnet.addr())
    }

    /// Whether a VPS may have the address: inside the range, not the network's, the host's or the broadcast address.
    pub fn may_assign(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
            && address != self.subnet.network()
            && address != self.subnet.broadcast()
            && address != self.gateway()
    }
}

/// A VPS's network interface as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// The name inside the guest, `eth0`.
    pub name: InterfaceName,
    /// The network that it is plugged into.
    pub network: NetworkName,
    /// Its Ethernet address.
    pub mac: MacAddress,
    /// Its addresses in the network's range.
    pub addresses: Vec<Ipv4Addr>,
}

/// Who has an address. An address belongs to at most one VPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressAssignment {
    /// The network whose range it is from.
    pub network: NetworkName,
    /// The address.
    pub address: Ipv4Addr,
    /// Whose it is.
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
            bridge: "insbr0".parse().unwrap(),
            subnet: "10.90.4.0/24".parse().unwrap(),
            dns: vec![],
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
}
