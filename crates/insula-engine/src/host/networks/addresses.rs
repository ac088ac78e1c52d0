//! Which interfaces a VPS gets, and which addresses they have. All of it is pure: it reads neither the database nor the
//! host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use insula_net::{check_address, next_address};
use insula_types::{
    AddressAssignment, InterfaceName, MacAddress, NetworkName, NetworkSpec, Nic, NicAddresses, Reason, VpsId,
};

use crate::error::EngineError;

/// An interface that a VPS is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedNic {
    pub(super) network: NetworkName,
    pub(super) default_route: bool,
}

impl WantedNic {
    /// As a VPS has it that is cloned.
    pub(crate) fn like(nic: &Nic) -> Self {
        Self { network: nic.network.clone(), default_route: nic.default_route }
    }
}

/// One interface in each of these networks. The first one named leads to the world.
pub(super) fn plan_wanted(names: &[NetworkName]) -> Result<Vec<WantedNic>, EngineError> {
    let unique: BTreeSet<_> = names.iter().collect();
    if unique.len() != names.len() {
        return Err(EngineError::invalid("networks", "a network is given twice"));
    }
    let wanted =
        |(index, name): (usize, &NetworkName)| WantedNic { network: name.clone(), default_route: index == 0 };
    Ok(names.iter().enumerate().map(wanted).collect())
}

/// What is known of the addresses that VPSes have.
#[derive(Debug, Default)]
pub(super) struct Assigned {
    /// All of them.
    pub(super) taken: Vec<AddressAssignment>,
    /// Which one a network gave last.
    pub(super) last: BTreeMap<NetworkName, IpAddr>,
}

/// The interfaces, and their addresses: those that were asked for go to the network whose range they are from, and a
/// network without one gives its next free one.
pub(super) fn plan_nics(
    vps: &VpsId,
    wanted: &[(WantedNic, Arc<NetworkSpec>)],
    asked: &[IpAddr],
    assigned: &Assigned,
) -> Result<(Vec<Nic>, NicAddresses), EngineError> {
    let networks: Vec<Arc<NetworkSpec>> = wanted.iter().map(|(_, network)| network.clone()).collect();
    let asked = sort_asked(&networks, asked, &assigned.taken)?;
    let (mut nics, mut placed) = (vec![], NicAddresses::new());
    for ((index, (nic, network)), mut addresses) in (0_u8..).zip(wanted).zip(asked) {
        if addresses.is_empty() {
            addresses.push(choose_address(network, assigned)?);
        }
        let name: InterfaceName = format!("eth{index}").parse().expect("a short word");
        placed.insert(name.clone(), addresses);
        nics.push(Nic {
            name,
            network: network.name.clone(),
            mac: MacAddress::of(vps, index),
            default_route: nic.default_route,
        });
    }
    Ok((nics, placed))
}

fn choose_address(network: &NetworkSpec, assigned: &Assigned) -> Result<IpAddr, EngineError> {
    let taken: BTreeSet<IpAddr> = taken_of(network, &assigned.taken).collect();
    let last = assigned.last.get(&network.name).copied();
    next_address(network, |address| taken.contains(&address), last).ok_or_else(|| {
        let message = format!("network {:?} ({}) has no free address", network.name.as_str(), network.subnet);
        EngineError::new(Reason::AddressesExhausted, message).hint("delete VPSes, or use another network")
    })
}

/// The addresses of a network that VPSes have.
fn taken_of<'a>(
    network: &'a NetworkSpec,
    taken: &'a [AddressAssignment],
) -> impl Iterator<Item = IpAddr> + 'a {
    taken.iter().filter(|other| other.network == network.name).map(|other| other.address)
}

/// The addresses that were asked for, by network, if all of them may be assigned and none is taken.
fn sort_asked(
    networks: &[Arc<NetworkSpec>],
    asked: &[IpAddr],
    taken: &[AddressAssignment],
) -> Result<Vec<Vec<IpAddr>>, EngineError> {
    let mut sorted = vec![vec![]; networks.len()];
    let mut seen = BTreeSet::new();
    for &address in asked {
        let index = network_of(networks, address)?;
        let network = &networks[index];
        check_address(network, address)
            .map_err(|refusal| EngineError::new(Reason::AddressOutOfRange, refusal.to_string()))?;
        if taken_of(network, taken).any(|other| other == address) {
            let message = format!("address {address} belongs to another VPS");
            return Err(EngineError::new(Reason::AddressInUse, message).hint("see insula list"));
        }
        if !seen.insert(address) {
            return Err(EngineError::invalid("ip_addresses", format!("address {address} is given twice")));
        }
        sorted[index].push(address);
    }
    Ok(sorted)
}

/// The network whose range the address is from, by its place.
fn network_of(networks: &[Arc<NetworkSpec>], address: IpAddr) -> Result<usize, EngineError> {
    let found = networks.iter().position(|network| network.subnet.contains(&address));
    found.map_or_else(|| Err(foreign_address(networks, address)), Ok)
}

fn foreign_address(networks: &[Arc<NetworkSpec>], address: IpAddr) -> EngineError {
    let message = match networks {
        [] => {
            return EngineError::invalid("ip_addresses", "an address needs a network, and the VPS has none");
        }
        [network] => match check_address(network, address) {
            Err(refusal) => refusal.to_string(),
            Ok(()) => format!("{address} is not in network {}", network.name),
        },
        _ => {
            let range = |network: &Arc<NetworkSpec>| format!("{} ({})", network.subnet, network.name);
            let ranges: Vec<String> = networks.iter().map(range).collect();
            format!("{address} is outside the ranges of all networks of the VPS: {}", ranges.join(", "))
        }
    };
    EngineError::new(Reason::AddressOutOfRange, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::{Attachment, NetworkOrigin};

    fn network(name: &str, subnet: &str) -> Arc<NetworkSpec> {
        Arc::new(NetworkSpec {
            name: name.parse().unwrap(),
            attachment: Attachment::Bridged("insbr0".parse().unwrap()),
            subnet: subnet.parse().unwrap(),
            dns: vec![],
            origin: NetworkOrigin::Settings,
        })
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_goes_to_the_network_that_it_is_of() {
        let networks = [network("default", "10.64.3.0/24"), network("office", "10.64.9.0/24")];
        let asked = addresses(&["10.64.9.5", "10.64.3.7", "10.64.9.6"]);
        let sorted = sort_asked(&networks, &asked, &[]).unwrap();
        assert_eq!(sorted, [addresses(&["10.64.3.7"]), addresses(&["10.64.9.5", "10.64.9.6"])]);
        assert_eq!(sort_asked(&networks, &[], &[]).unwrap(), [addresses(&[]), addresses(&[])]);
    }

    #[test]
    fn what_cannot_be_given_is_refused_with_its_reason() {
        let one = [network("default", "10.64.3.0/24")];
        let two = [one[0].clone(), network("office", "10.64.9.0/24")];
        let taken = [AddressAssignment {
            network: "default".parse().unwrap(),
            address: "10.64.3.9".parse().unwrap(),
            vps: VpsId::new(),
        }];
        for (networks, asked, expected) in [
            (&one[..], vec!["10.64.9.5"], "10.64.9.5 is outside 10.64.3.0/24, the range of the network"),
            (&one, vec!["2001:db8::2"], "2001:db8::2 is outside 10.64.3.0/24, the range of the network"),
            (&one, vec!["10.64.3.9"], "address 10.64.3.9 belongs to another VPS"),
            (&one, vec!["10.64.3.5", "10.64.3.5"], "address 10.64.3.5 is given twice"),
            (&[], vec!["10.64.3.5"], "an address needs a network, and the VPS has none"),
            (
                &two,
                vec!["10.64.3.5", "10.1.1.1"],
                "10.1.1.1 is outside the ranges of all networks of the VPS: 10.64.3.0/24 (default), \
                 10.64.9.0/24 (office)",
            ),
        ] {
            let error = sort_asked(networks, &addresses(&asked), &taken).unwrap_err();
            assert_eq!(error.messages().join(": "), expected, "{asked:?}");
        }
    }

    #[test]
    fn each_network_gives_an_address_and_one_of_them_the_default_route() {
        let names: Vec<NetworkName> = ["office", "default"].map(|name| name.parse().unwrap()).into();
        let wanted = plan_wanted(&names).unwrap();
        let networks = [network("office", "10.64.9.0/24"), network("default", "10.64.3.0/24")];
        let wanted: Vec<_> = wanted.into_iter().zip(networks).collect();
        let (vps, asked) = (VpsId::new(), addresses(&["10.64.3.7"]));
        let last = BTreeMap::from([("office".parse().unwrap(), "10.64.9.5".parse().unwrap())]);
        let (nics, placed) = plan_nics(&vps, &wanted, &asked, &Assigned { taken: vec![], last }).unwrap();
        let told = |nic: &Nic| (nic.name.to_string(), placed[&nic.name].clone(), nic.default_route);
        assert_eq!(
            nics.iter().map(told).collect::<Vec<_>>(),
            [
                ("eth0".to_owned(), addresses(&["10.64.9.6"]), true),
                ("eth1".to_owned(), addresses(&["10.64.3.7"]), false),
            ]
        );
        assert!(plan_wanted(&[names[0].clone(), names[0].clone()]).is_err());
    }
}
