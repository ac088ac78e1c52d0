//! The elements of the tables' sets: the networks and guests that the firewall knows.

use std::collections::BTreeSet;
use std::net::IpAddr;

use insula_types::NetworkSpec;
use ipnet::{IpNet, Ipv4Net};

use super::name::TableName;
use super::nft;
use super::ruleset::{Ruleset, Set};
use super::terms::{FirewallError, GuestPort};

/// Elements of the sets of one table.
pub(super) type Elements = BTreeSet<Element>;

/// An element of a set: the name of the set, and the element as nft writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    set: &'static str,
    text: String,
}

impl Element {
    /// Quotes names of interfaces, because nft would read some of their characters differently.
    fn new(set: &Set, parts: &[String]) -> Self {
        let part = |(kind, part): (&str, &String)| match kind {
            "ifname" => format!("\"{part}\""),
            _ => part.clone(),
        };
        let parts: Vec<String> = set.kind.split(" . ").zip(parts).map(part).collect();
        Self { set: set.name, text: parts.join(" . ") }
    }
}

/// The elements that the ruleset's sets need for these networks.
pub(super) fn of_networks<'a>(
    ruleset: &Ruleset,
    networks: impl IntoIterator<Item = &'a NetworkSpec>,
) -> Result<Elements, FirewallError> {
    let mut elements = Elements::new();
    for network in networks {
        let IpNet::V4(subnet) = network.subnet else {
            return Err(FirewallError::Family { what: network.subnet.to_string() });
        };
        for set in ruleset.sets {
            let parts = vec![range_text(subnet); set.kind.split(" . ").count()];
            elements.insert(Element::new(set, &parts));
        }
    }
    Ok(elements)
}

/// A range as nft lists it: a single address has no prefix.
fn range_text(subnet: Ipv4Net) -> String {
    match subnet.prefix_len() {
        32 => subnet.addr().to_string(),
        _ => subnet.to_string(),
    }
}

/// The elements that the ruleset's sets need for these guests.
pub(super) fn of_ports(ruleset: &Ruleset, ports: &[GuestPort]) -> Result<Elements, FirewallError> {
    let mut elements = Elements::new();
    for port in ports {
        let (veth, mac) = (port.veth.to_string(), port.mac.to_string());
        for set in ruleset.sets {
            if set.kind == "ifname" {
                elements.insert(Element::new(set, std::slice::from_ref(&veth)));
                continue;
            }
            for address in &port.addresses {
                let IpAddr::V4(address) = address else {
                    return Err(FirewallError::Family { what: address.to_string() });
                };
                elements.insert(Element::new(set, &[veth.clone(), mac.clone(), address.to_string()]));
            }
        }
    }
    Ok(elements)
}

/// The elements of a listing. Those in a form that we do not write are left out.
pub(super) fn of_listing(ruleset: &Ruleset, listed: &[nft::Set]) -> Elements {
    let ours = |listed: &nft::Set| ruleset.sets.iter().find(|set| set.name == listed.name);
    let elements = |listed: &nft::Set| {
        let set = ours(listed)?;
        let parts = listed.elem.iter().filter_map(nft::element_parts);
        Some(parts.map(|parts| Element::new(set, &parts)).collect::<Vec<_>>())
    };
    listed.iter().filter_map(elements).flatten().collect()
}

/// The commands that add or delete the elements, one for each set. Adding an element that exists is
/// no error.
pub(super) fn render(verb: &str, ruleset: &Ruleset, table: &TableName, elements: &Elements) -> String {
    let command = |set: &Set| {
        let own: Vec<&str> =
            elements.iter().filter(|element| element.set == set.name).map(|element| &*element.text).collect();
        match own.is_empty() {
            true => String::new(), // nft knows no empty list
            false => {
                let (family, name) = (ruleset.family, set.name);
                format!("{verb} element {family} {table} {name} {{ {} }}\n", own.join(", "))
            }
        }
    };
    ruleset.sets.iter().map(command).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ruleset::{guard, nat};
    use super::*;
    use insta::assert_snapshot;
    use serde_json::json;

    fn network(subnet: &str) -> NetworkSpec {
        NetworkSpec {
            name: "default".parse().unwrap(),
            attachment: insula_types::Attachment::Bridged("insbr0".parse().unwrap()),
            subnet: subnet.parse().unwrap(),
            dns: vec![],
            origin: insula_types::NetworkOrigin::Settings,
        }
    }

    fn port(veth: &str, addresses: &[&str]) -> GuestPort {
        GuestPort {
            veth: veth.parse().unwrap(),
            mac: "02:00:00:00:00:aa".parse().unwrap(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn rendered(ruleset: &Ruleset, elements: &Elements) -> String {
        render("add", ruleset, &"insula".parse().unwrap(), elements)
    }

    #[test]
    fn networks_are_a_few_elements() {
        let networks = [network("10.64.3.0/24"), network("10.64.9.0/25")];
        let elements = of_networks(&nat(), &networks).unwrap();
        assert_snapshot!(rendered(&nat(), &elements), @r"
        add element ip insula networks { 10.64.3.0/24, 10.64.9.0/25 }
        add element ip insula within { 10.64.3.0/24 . 10.64.3.0/24, 10.64.9.0/25 . 10.64.9.0/25 }
        ");
        assert_eq!(rendered(&nat(), &Elements::new()), "");
    }

    #[test]
    fn guests_are_a_few_elements() {
        let ports = [port("ins0000000000aa", &["10.64.3.2", "10.64.3.9"]), port("int0000000000aa", &[])];
        let elements = of_ports(&guard(), &ports).unwrap();
        assert_snapshot!(rendered(&guard(), &elements), @r#"
        add element bridge insula guests { "ins0000000000aa", "int0000000000aa" }
        add element bridge insula addresses { "ins0000000000aa" . 02:00:00:00:00:aa . 10.64.3.2, "ins0000000000aa" . 02:00:00:00:00:aa . 10.64.3.9 }
        "#);
    }

    #[test]
    fn what_is_listed_is_what_was_added() {
        let listed = [
            nft::Set { name: "guests".to_owned(), elem: vec![json!("ins0000000000aa")] },
            nft::Set {
                name: "addresses".to_owned(),
                elem: vec![json!({"concat": ["ins0000000000aa", "02:00:00:00:00:aa", "10.64.3.2"]})],
            },
            nft::Set { name: "foreign".to_owned(), elem: vec![json!("ins0000000000bb")] },
        ];
        let own = of_ports(&guard(), &[port("ins0000000000aa", &["10.64.3.2"])]).unwrap();
        assert_eq!(of_listing(&guard(), &listed), own);
    }

    #[test]
    fn addresses_of_ipv6_are_refused() {
        let network = of_networks(&nat(), &[network("2001:db8::/64")]).unwrap_err();
        let port = of_ports(&guard(), &[port("ins0000000000aa", &["2001:db8::2"])]).unwrap_err();
        assert!(network.to_string().contains("2001:db8::/64 is IPv6"), "{network}");
        assert!(port.to_string().contains("2001:db8::2 is IPv6"), "{port}");
    }
}
