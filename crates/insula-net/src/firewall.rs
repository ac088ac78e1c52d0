//! The firewall: NAT for the networks' ranges, a bound on how fast a guest opens connections, and
//! protection against forged addresses, in nftables tables of our own.
//!
//! There are two tables with the same name: one of family `ip` for NAT and the bound, one of family
//! `bridge` for the guard. Tables of others are never touched. A [`ruleset`] describes what a table
//! consists of; it is created once and stays across restarts of the agent. Networks and guests are
//! [`elements`] of its sets. They are added and removed one by one, each change in one transaction
//! of `nft`. So there is no moment without rules, and counters of other guests go on.
//!
//! The guard lets a guest's interface send only packets with the guest's own Ethernet and IPv4
//! addresses, both IPv4 and ARP, before the bridge learns anything from them. Nothing else (such as
//! IPv6) passes. The guard's sets hold interfaces by name, and these need not exist. A guest is
//! therefore entered when it is created, and its start needs no `nft`.

mod elements;
mod name;
mod nft;
mod ruleset;
mod terms;

use insula_types::NetworkSpec;

use elements::Elements;
use ruleset::Ruleset;

pub use name::{TableName, TableNameError};
pub use terms::{CONNECTIONS_AT_ONCE, CONNECTIONS_PER_SECOND, FirewallError, ForwardBlocker, GuestPort};

/// Brings the NAT table and its sets to the state that these networks need. Returns `false` if
/// nothing had to be changed.
pub fn ensure_nat<'a>(
    table: &TableName,
    networks: impl IntoIterator<Item = &'a NetworkSpec>,
) -> Result<bool, FirewallError> {
    let ruleset = ruleset::nat();
    let wanted = elements::of_networks(&ruleset, networks)?;
    ensure("set up NAT", &ruleset, table, &wanted)
}

/// Adds a network to the NAT table. Does nothing if it is there.
pub fn add_network(table: &TableName, network: &NetworkSpec) -> Result<(), FirewallError> {
    let ruleset = ruleset::nat();
    add("set up the NAT of a network", &ruleset, table, &elements::of_networks(&ruleset, [network])?)
}

/// Removes a network from the NAT table. Does nothing if it is not there.
pub fn remove_network(table: &TableName, network: &NetworkSpec) -> Result<(), FirewallError> {
    let ruleset = ruleset::nat();
    remove("remove the NAT of a network", &ruleset, table, &elements::of_networks(&ruleset, [network])?)
}

/// Brings the guard and its sets to the state that all these guests need. Returns `false` if
/// nothing had to be changed. Needs `nf_tables` for bridges in the kernel.
pub fn ensure_guard(table: &TableName, ports: &[GuestPort]) -> Result<bool, FirewallError> {
    let ruleset = ruleset::guard();
    let wanted = elements::of_ports(&ruleset, ports)?;
    ensure("set up the guard against forged addresses", &ruleset, table, &wanted)
}

/// Adds the interfaces of a guest to the guard. Does nothing if they are there.
pub fn add_ports(table: &TableName, ports: &[GuestPort]) -> Result<(), FirewallError> {
    let ruleset = ruleset::guard();
    add("guard a guest's interfaces", &ruleset, table, &elements::of_ports(&ruleset, ports)?)
}

/// Removes the interfaces of a guest from the guard. Does nothing if they are not there.
pub fn remove_ports(table: &TableName, ports: &[GuestPort]) -> Result<(), FirewallError> {
    let ruleset = ruleset::guard();
    remove("remove the guard of a guest's interfaces", &ruleset, table, &elements::of_ports(&ruleset, ports)?)
}

/// Removes both tables. Returns `false` if there were none.
pub fn ensure_firewall_absent(table: &TableName) -> Result<bool, FirewallError> {
    const WHAT: &str = "remove our firewall tables";
    let families = nft::list_own_tables(WHAT, table)?;
    if families.is_empty() {
        return Ok(false);
    }
    let delete = |family: &String| format!("delete table {family} {table}\n");
    nft::run_transaction(WHAT, families.iter().map(delete).collect())?;
    Ok(true)
}

/// The chains of others that may cut guests off from the world.
pub fn observe_forward_blockers(table: &TableName) -> Result<Vec<ForwardBlocker>, FirewallError> {
    let objects = nft::list("list the firewall's chains", &["list", "chains"])?;
    let blocks = |chain: &nft::Chain| {
        chain.hook.as_deref() == Some("forward")
            && chain.policy.as_deref() == Some("drop")
            && matches!(&*chain.family, "ip" | "inet" | "bridge")
            && chain.table != table.as_str()
    };
    let blocker = |nft::Chain { family, table, name, .. }| ForwardBlocker { family, table, chain: name };
    Ok(objects.into_iter().filter_map(|object| object.chain).filter(blocks).map(blocker).collect())
}

/// The present state of one of our tables.
#[derive(Default)]
struct Observed {
    chains: Vec<String>,
    rule_count: usize,
    elements: Elements,
}

/// Corrects whatever is wrong in one transaction. Returns `false` if nothing was.
fn ensure(
    what: &'static str,
    ruleset: &Ruleset,
    table: &TableName,
    wanted: &Elements,
) -> Result<bool, FirewallError> {
    let found = match nft::list_own_tables(what, table)?.contains(ruleset.family) {
        true => observe(what, ruleset, table)?,
        false => Observed::default(),
    };
    let mut commands = String::new();
    if !found.chains.contains(&ruleset.version()) || found.rule_count != ruleset.rule_count() {
        commands += &ruleset.render(table, &found.chains);
    }
    let strays: Elements = found.elements.difference(wanted).cloned().collect();
    let missing: Elements = wanted.difference(&found.elements).cloned().collect();
    commands += &elements::render("delete", ruleset, table, &strays);
    commands += &elements::render("add", ruleset, table, &missing);
    if commands.is_empty() {
        return Ok(false);
    }
    nft::run_transaction(what, commands)?;
    Ok(true)
}

/// Sets that the rules fill by themselves are left out, because they can be long.
fn observe(what: &'static str, ruleset: &Ruleset, table: &TableName) -> Result<Observed, FirewallError> {
    let mut found = Observed::default();
    let mut names = vec![];
    for object in nft::list(what, &["--terse", "list", "table", ruleset.family, table.as_str()])? {
        found.chains.extend(object.chain.map(|chain| chain.name));
        found.rule_count += usize::from(object.rule.is_some());
        names.extend(object.set.map(|set| set.name));
    }
    for set in ruleset.sets.iter().filter(|set| names.iter().any(|name| name == set.name)) {
        let listed = nft::list(what, &["list", "set", ruleset.family, table.as_str(), set.name])?;
        let listed: Vec<nft::Set> = listed.into_iter().filter_map(|object| object.set).collect();
        found.elements.append(&mut elements::of_listing(ruleset, &listed));
    }
    Ok(found)
}

fn add(
    what: &'static str,
    ruleset: &Ruleset,
    table: &TableName,
    elements: &Elements,
) -> Result<(), FirewallError> {
    match elements.is_empty() {
        true => Ok(()),
        false => nft::run_transaction(what, elements::render("add", ruleset, table, elements)),
    }
}

/// nft refuses to delete what does not exist, so it is added first, in the same transaction.
fn remove(
    what: &'static str,
    ruleset: &Ruleset,
    table: &TableName,
    elements: &Elements,
) -> Result<(), FirewallError> {
    let render = |verb| elements::render(verb, ruleset, table, elements);
    match elements.is_empty() {
        true => Ok(()),
        false => nft::run_transaction(what, render("add") + &render("delete")),
    }
}
