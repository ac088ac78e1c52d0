//! Which address a VPS gets.

use std::net::Ipv4Addr;

use insula_types::NetworkSpec;

/// Why no VPS may have an address, whoever else has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressRefusal {
    /// It is not of this network.
    #[error("{address} is outside {subnet}, the range of the network")]
    OutsideRange {
        /// The address.
        address: Ipv4Addr,
        /// The network's range.
        subnet: ipnet::Ipv4Net,
    },
    /// It is the host's own.
    #[error("{0} is the host's own address in the network, and the gateway of its guests")]
    Gateway(Ipv4Addr),
    /// It is the network's (RFC 1122, section 3.2.1.3).
    #[error("{0} is the first address of the range and means the network itself")]
    Network(Ipv4Addr),
    /// It is everybody's (RFC 919).
    #[error("{0} is the last address of the range and means everybody in the network")]
    Broadcast(Ipv4Addr),
}

/// Whether a VPS may have the address, and if not, why. Who has it already is the store's to know.
pub fn check_address(network: &NetworkSpec, address: Ipv4Addr) -> Result<(), AddressRefusal> {
    let subnet = network.subnet;
    match address {
        _ if !subnet.contains(&address) => Err(AddressRefusal::OutsideRange { address, subnet }),
        _ if address == network.gateway() => Err(AddressRefusal::Gateway(address)),
        _ if address == subnet.network() => Err(AddressRefusal::Network(address)),
        _ if address == subnet.broadcast() => Err(AddressRefusal::Broadcast(address)),
        _ => Ok(()),
    }
}

/// The first free address behind `after`, going round at the end of the range; `None` when all are taken.
///
/// `after` is the address that was given last: one just freed is not given again at once, while others still
/// send to it, but after all the others.
pub fn next_address(
    network: &NetworkSpec,
    taken: impl Fn(Ipv4Addr) -> bool,
    after: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let first = network.subnet.network().to_bits();
    let size = 1_u64 << (32 - network.subnet.prefix_len());
    let start = after
        .filter(|after| network.subnet.contains(after))
        .map_or(0, |after| u64::from(after.to_bits() - first) + 1);
    (start..start + size)
        .filter_map(|offset| u32::try_from(offset % size).ok())
        .map(|offset| Ipv4Addr::from_bits(first + offset))
        .find(|&address| network.may_assign(address) && !taken(address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn network(subnet: &str) -> NetworkSpec {
        NetworkSpec {
            name: "default".parse().unwrap(),
            bridge: "insbr0".parse().unwrap(),
            subnet: subnet.parse().unwrap(),
            dns: vec![],
        }
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 64, 3, last)
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
        let error = check_address(&network, Ipv4Addr::new(10, 64, 4, 2)).unwrap_err();
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
        for after in [None, Some(Ipv4Addr::new(10, 1, 1, 1)), Some(address(255)), Some(address(0))] {
            assert_eq!(next_address(&network, |_| false, after), Some(address(2)), "{after:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_given_is_free_and_allowed(
            prefix in 16_u8..=32,
            base: u32,
            taken in proptest::collection::btree_set(0_u32..300, 0..200),
            after: Option<u32>,
        ) {
            let subnet = ipnet::Ipv4Net::new(base.into(), prefix).unwrap().trunc();
            let network = NetworkSpec { subnet, ..network("10.0.0.0/24") };
            let is_taken = |address: Ipv4Addr| taken.contains(&(address.to_bits() - subnet.network().to_bits()));
            match next_address(&network, is_taken, after.map(Into::into)) {
                Some(address) => {
                    prop_assert!(!is_taken(address));
                    prop_assert_eq!(check_address(&network, address), Ok(()));
                }
                None => prop_assert!(subnet.hosts().all(|a| is_taken(a) || !network.may_assign(a))),
            }
        }

        #[test]
        fn a_refusal_and_the_rule_agree(base: u32, offset in 0_u32..600, prefix in 22_u8..=32) {
            let subnet = ipnet::Ipv4Net::new(base.into(), prefix).unwrap().trunc();
            let network = NetworkSpec { subnet, ..network("10.0.0.0/24") };
            let address = Ipv4Addr::from_bits(subnet.network().to_bits().wrapping_add(offset));
            prop_assert_eq!(check_address(&network, address).is_ok(), network.may_assign(address));
        }
    }
}
