//! Which kinds of networks can be created on this host.

use insula_types::{Attachment, InterfaceName, NetworkName, NetworkSpec};
use ipnet::IpNet;

/// Why a network can't be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkRefusal {
    /// The network is routed: its interfaces would not be ports of a bridge.
    #[error("network {network} is routed through {uplink}, and only bridged networks can be made")]
    Routed {
        /// The name of the network.
        network: NetworkName,
        /// The host's interface that the network names.
        uplink: InterfaceName,
    },
    /// The network is not an IPv4 one. NAT, the guard and the guest's files support IPv4 only.
    #[error("network {network} has the range {subnet}, and only networks of IPv4 can be made")]
    Family {
        /// The name of the network.
        network: NetworkName,
        /// The range of the network.
        subnet: IpNet,
    },
}

/// The network's bridge, if the network is of a kind that can be created here.
pub fn check_network(network: &NetworkSpec) -> Result<&InterfaceName, NetworkRefusal> {
    let NetworkSpec { name, attachment, subnet, .. } = network;
    match (attachment, subnet) {
        (Attachment::Routed(uplink), _) => {
            Err(NetworkRefusal::Routed { network: name.clone(), uplink: uplink.clone() })
        }
        (_, IpNet::V6(_)) => Err(NetworkRefusal::Family { network: name.clone(), subnet: *subnet }),
        (Attachment::Bridged(bridge), IpNet::V4(_)) => Ok(bridge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_is_refused_with_its_reason() {
        let bridge = Attachment::Bridged("insbr0".parse().unwrap());
        let uplink = Attachment::Routed("eth0".parse().unwrap());
        for (attachment, subnet, expected) in [
            (&bridge, "10.64.3.0/24", None),
            (&uplink, "10.64.3.0/24", Some("only bridged")),
            (&bridge, "2001:db8::/64", Some("only networks of IPv4")),
        ] {
            let network = NetworkSpec {
                name: "default".parse().unwrap(),
                attachment: attachment.clone(),
                subnet: subnet.parse().unwrap(),
                dns: vec![],
                origin: insula_types::NetworkOrigin::Settings,
            };
            let refusal = check_network(&network).err().map(|refusal| refusal.to_string());
            assert_eq!(refusal.is_some(), expected.is_some(), "{refusal:?}");
            assert!(refusal.unwrap_or_default().contains(expected.unwrap_or_default()));
        }
    }
}
