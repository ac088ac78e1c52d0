//! Addresses of VPSes: which ones a network may assign, and which is the next free one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use insula_types::NetworkSpec;
use ipnet::IpNet;

/// Why no VPS may have an address, whether it is taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    /// The address is not in the network's range.
    #[error("{address} is outside {subnet}, the range of the network")]
    OutsideRange {
        /// The address that was asked for.
        address: IpAddr,
        /// The network's range.
        subnet: IpNet,
    },
    /// The address is the host's own.
    #[error("{0} is the host's own address in the network, and the gateway of its guests")]
    Gateway(IpAddr),
    /// The address is that of the network (RFC 1122, section 3.2.1.3).
    #[error("{0} is the first address of the range and means the network itself")]
    Network(IpAddr),
    /// The address is the broadcast address (RFC 919).
    #[error("{0} is the last address of the range, which is the broadcast address of the network")]
    Broadcast(IpAddr),
}

/// Checks whether a VPS may have the address. Whether another VPS has it is for the store to know.
pub fn check_address(network: &NetworkSpec, address: IpAddr) -> Result<(), AddressRefusal> {
    let subnet = network.subnet;
    match address {
        _ if !subnet.contains(&address) => Err(AddressRefusal::OutsideRange { address, subnet }),
        _ if address == network.gateway() => Err(AddressRefusal::Gateway(address)),
        _ if address == subnet.network() => Err(AddressRefusal::Network(address)),
        _ if address == subnet.broadcast() => Err(AddressRefusal::Broadcast(address)),
        _ => Ok(()),
    }
}

/// Finds the first free address after `after`, and continues from the start of the range at its
/// end. `None` if all addresses are taken.
///
/// `after` is the address that was assigned last. An address that has just become free is therefore
/// assigned last, because others may still send to it.
/// send to it, but after all the others.
pub fn next_address(
    network: &NetworkSpec,
    taken: impl Fn(IpAddr) -> bool,
    after: Option<IpAddr>,
) -> Option<IpAddr> {
    let first = bits(network.subnet.network());
    let size = 1_u128 << host_bits(network.subnet);
    let start =
        after.filter(|after| network.subnet.contains(after)).map_or(0, |after| bits(after) - first + 1);
    (start..start + size)
        .map(|offset| address_like(network.subnet, first + offset % size))
        .find(|&address| network.may_assign(address) && !taken(address))
}

/// How many addresses of the network VPSes can have: all but the network's, the host's and the
/// broadcast address.
pub fn assignable(network: &NetworkSpec) -> u128 {
    (1_u128 << host_bits(network.subnet)).saturating_sub(3)
}

/// The number of bits that differ within the range. More than 126 count as 126, because no network
/// is that large.
fn host_bits(subnet: IpNet) -> u8 {
    (subnet.max_prefix_len() - subnet.prefix_len()).min(126)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address with these bits, in the family of the range.
fn address_like(subnet: IpNet, bits: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX)).into(),
        IpNet::V6(_) => Ipv6Addr::from_bits(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn network(subnet: &str) -> NetworkSpec {
        NetworkSpec {
            name: "default".parse().unwrap(),
            attachment: insula_types::Attachment::Bridged("insbr0".parse().unwrap()),
            subnet: subnet.parse().unwrap(),
            dns: vec![],
            origin: insula_types::NetworkOrigin::Settings,
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 64, 3, last])
    }

    #[test]
    fn a_refusal_says_why() {
        let network = network("10.64.3.0/24");
        for (last, refusal) in [
            (0, Some(AddressRefusal::Network(address(0)))),
            (1, Some(AddressRefusal::Gateway(address(1)))),
            (2, None),
            (254, None),
            (255, Some(AddressRefusal::Broadcast(address(255)))),
        ] {
            assert_eq!(check_address(&network, address(last)).err(), refusal, "{last}");
        }
        let error = check_address(&network, IpAddr::from([10, 64, 4, 2])).unwrap_err();
        assert_eq!(error.to_string(), "10.64.4.2 is outside 10.64.3.0/24, the range of the network");
    }

    #[test]
    fn an_address_just_freed_is_given_last() {
        let network = network("10.64.3.0/29"); // .2 to .6
        let mut taken = BTreeSet::from([address(2), address(3)]);
        taken.remove(&address(3));
        let mut given = vec![];
        let mut last = Some(address(3));
        while let Some(next) = next_address(&network, |address| taken.contains(&address), last) {
            taken.insert(next);
            given.push(next);
            last = Some(next);
        }
        assert_eq!(given, [4, 5, 6, 3].map(address));
    }

    #[test]
    fn a_position_outside_the_range_starts_at_its_beginning() {
        let network = network("10.64.3.0/24");
        for after in [None, Some(IpAddr::from([10, 1, 1, 1])), Some(address(255)), Some(address(0))] {
            assert_eq!(next_address(&network, |_| false, after), Some(address(2)), "{after:?}");
        }
    }

    #[test]
    fn a_range_of_ipv6_is_as_good() {
        let network = network("2001:db8:0:1::/64");
        let (first, second) = ("2001:db8:0:1::2".parse().unwrap(), "2001:db8:0:1::3".parse().unwrap());
        assert_eq!(next_address(&network, |_| false, None), Some(first));
        assert_eq!(next_address(&network, |_| false, Some(first)), Some(second));
        let foreign = check_address(&network, address(2)).unwrap_err();
        assert!(matches!(foreign, AddressRefusal::OutsideRange { .. }), "{foreign}");
        assert_eq!(assignable(&network), (1 << 64) - 3);
        assert_eq!(next_address(&self::network("::/0"), |_| false, None), Some("::2".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_free_and_allowed(
            prefix in 16_u8..=32,
            base: u32,
            taken in proptest::collection::btree_set(0_u128..300, 0..200),
            after: Option<u32>,
        ) {
            let subnet = IpNet::new(Ipv4Addr::from_bits(base).into(), prefix).unwrap().trunc();
            let network = NetworkSpec { subnet, ..network("10.0.0.0/24") };
            let first = bits(subnet.network());
            let is_taken = |address: IpAddr| taken.contains(&(bits(address) - first));
            let after = after.map(|after| Ipv4Addr::from_bits(after).into());
            match next_address(&network, is_taken, after) {
                Some(address) => {
                    prop_assert!(!is_taken(address));
                    prop_assert_eq!(check_address(&network, address), Ok(()));
                }
                None => prop_assert!(subnet.hosts().all(|a| is_taken(a) || !network.may_assign(a))),
            }
        }

        #[test]
        fn a_refusal_and_the_rule_agree(base: u32, offset in 0_u32..600, prefix in 22_u8..=32) {
            let subnet = IpNet::new(Ipv4Addr::from_bits(base).into(), prefix).unwrap().trunc();
            let network = NetworkSpec { subnet, ..network("10.0.0.0/24") };
            let last = u128::from(u32::MAX);
            let address = address_like(subnet, (bits(subnet.network()) + u128::from(offset)).min(last));
            prop_assert_eq!(check_address(&network, address).is_ok(), network.may_assign(address));
        }
    }
}
