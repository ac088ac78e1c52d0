//! Which networks there are to be when an agent begins, by its settings and the database together. All of it is pure.

use std::collections::BTreeSet;

use insula_net::{choose_subnet, observe_occupied};
use insula_store::Store;
use insula_types::{Attachment, NetworkName, NetworkOrigin, NetworkSpec, Reason};

use crate::error::EngineError;
use crate::host::settings::NetworkSettings;

/// What an agent that begins does with the networks of the database.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seeding {
    /// They are to be made.
    pub(super) made: Vec<NetworkSpec>,
    /// They came from settings that no longer name them, and no VPS uses them.
    pub(super) removed: Vec<NetworkSpec>,
    /// They stay in the database, and can't be made beside the others.
    pub(super) colliding: Vec<NetworkSpec>,
}

/// The network of the settings comes first, and wins over others that collide with it.
pub(super) fn plan_seeding(
    configured: &NetworkSpec,
    kept: Vec<NetworkSpec>,
    used: &BTreeSet<NetworkName>,
) -> Seeding {
    let mut seeding = Seeding { made: vec![configured.clone()], ..Seeding::default() };
    for other in kept.into_iter().filter(|other| other.name != configured.name) {
        let is_unused = !used.contains(&other.name);
        if other.origin == NetworkOrigin::Settings && is_unused {
            seeding.removed.push(other);
        } else if seeding.made.iter().any(|made| collide(made, &other)) {
            seeding.colliding.push(other);
        } else {
            seeding.made.push(other);
        }
    }
    seeding
}

/// Whether two networks can't be made on one host: they share a bridge, or addresses.
pub(super) fn collide(one: &NetworkSpec, other: &NetworkSpec) -> bool {
    one.attachment == other.attachment
        || one.subnet.contains(&other.subnet)
        || other.subnet.contains(&one.subnet)
}

/// The network of the settings, as it is kept and changed as they say. Its range is chosen once.
pub(super) fn choose(wanted: &NetworkSettings, store: &Store) -> Result<NetworkSpec, EngineError> {
    let kept = store.networks()?.into_iter().find(|network| network.name == wanted.name);
    let is_used = || -> Result<bool, EngineError> {
        Ok(store.addresses()?.iter().any(|address| address.network == wanted.name))
    };
    let subnet = match (wanted.subnet, &kept) {
        (Some(subnet), Some(kept)) if subnet != kept.subnet && is_used()? => {
            let message = format!("network.subnet is {subnet}, but VPSes have addresses in {}", kept.subnet);
            return Err(
                EngineError::invalid("network.subnet", message).hint("delete these VPSes, or set it back")
            );
        }
        (Some(subnet), _) => subnet,
        (None, Some(kept)) => kept.subnet,
        (None, None) => {
            let occupied = observe_occupied(&wanted.bridge)
                .map_err(|error| EngineError::internal("failed to look at the host's routes", error))?;
            choose_subnet(&occupied, seed(wanted.bridge.as_str())).ok_or_else(|| {
                EngineError::new(Reason::FacilityMissing, "every private range overlaps a route of the host")
                    .hint("set network.subnet in the agent's configuration")
            })?
        }
    };
    let spec = NetworkSpec {
        name: wanted.name.clone(),
        attachment: Attachment::Bridged(wanted.bridge.clone()),
        subnet,
        dns: wanted.dns.clone().unwrap_or_default(),
        origin: NetworkOrigin::Settings,
    };
    if kept.as_ref() != Some(&spec) {
        store.put_network(&spec)?;
    }
    Ok(spec)
}

/// Two agents of one machine begin to look at different places. FNV-1a.
fn seed(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, bridge: &str, subnet: &str, origin: NetworkOrigin) -> NetworkSpec {
        NetworkSpec {
            name: name.parse().unwrap(),
            attachment: Attachment::Bridged(bridge.parse().unwrap()),
            subnet: subnet.parse().unwrap(),
            dns: vec![],
            origin,
        }
    }

    #[test]
    fn what_settings_no_longer_name_goes_unless_it_is_used() {
        use NetworkOrigin::{Request, Settings};
        let configured = network("default", "insbr0", "10.64.3.0/24", Settings);
        let before = NetworkSpec { subnet: "10.64.4.0/24".parse().unwrap(), ..configured.clone() };
        let used = network("used", "insbr1", "10.64.5.0/24", Settings);
        let unused = network("unused", "insbr2", "10.64.6.0/24", Settings);
        let asked = network("asked", "insbr3", "10.64.7.0/24", Request);
        let same_bridge = network("same-bridge", "insbr0", "10.64.8.0/24", Request);
        let same_range = network("same-range", "insbr4", "10.64.0.0/16", Request);
        let all = [&before, &used, &unused, &asked, &same_bridge, &same_range].map(Clone::clone);
        let names = BTreeSet::from([used.name.clone()]);
        assert_eq!(
            plan_seeding(&configured, all.to_vec(), &names),
            Seeding {
                made: vec![configured, used, asked],
                removed: vec![unused],
                colliding: vec![same_bridge, same_range],
            }
        );
    }
}
