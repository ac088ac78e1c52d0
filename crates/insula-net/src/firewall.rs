//! NAT for the networks' ranges, a bound on the connections that a guest opens, and protection against forged
//! addresses, in nftables tables of our own.
//!
//! Two tables of one name: of family `ip` for NAT and that bound, of family `bridge` for the guard. Tables of others are never
//! touched. Each change is one transaction of `nft`, so there is no moment without rules.
//!
//! The guard lets a guest's interface send only what bears the guest's own Ethernet and IPv4 addresses, IPv4 and
//! ARP alike, before the bridge learns anything from it; nothing else (IPv6, say) passes. It knows the interfaces
//! by name in sets, which need not exist: so a guest is entered when it is created, and its start needs no `nft`.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use insula_sys::program::{Program, ProgramError};
use insula_types::{InterfaceName, MacAddress, NetworkSpec};
use serde::Deserialize;

/// The name of our tables: `insula`, or `insula_` and lower-case letters, digits and underscores, so that no
/// setting can make us replace a table of others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct TableName(String);

/// Why a text is no name for our tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid nftables table {0:?}: expected insula, or insula_ and lower-case letters, digits and underscores"
)]
pub struct TableNameError(String);

impl FromStr for TableName {
    type Err = TableNameError;

    fn from_str(text: &str) -> Result<Self, TableNameError> {
        const LONGEST: usize = 31; // NFT_TABLE_MAXNAMELEN of kernels before 4.14
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let is_valid = (text == "insula" || text.starts_with("insula_"))
            && text.len() <= LONGEST
            && text.chars().all(allowed);
        is_valid.then(|| Self(text.to_owned())).ok_or_else(|| TableNameError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for TableName {
    type Error = TableNameError;

    fn try_from(text: String) -> Result<Self, TableNameError> {
        text.parse()
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A guest's place on a bridge, and what may come from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPort {
    /// The host's end of its veth pair.
    pub veth: InterfaceName,
    /// The Ethernet address of its own end.
    pub mac: MacAddress,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
}

/// A base chain of others that drops what it doesn't know, and so may cut our guests from the world. We can't
/// overrule it: a packet has to pass all chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardBlocker {
    /// The family of its table: `ip`, `inet` or `bridge`.
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub chain: String,
}

impl fmt::Display for ForwardBlocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain } = self;
        write!(
            f,
            "chain {chain} of nftables table {family} {table} drops forwarded packets that it has no rule for; \
             guests may have no network until it accepts their bridge"
        )
    }
}

/// Why the firewall is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// There is no `nft`.
    #[error("failed to {what}: the program nft is missing; install the package nftables")]
    NftMissing {
        /// What was being done.
        what: &'static str,
    },
    /// `nft` failed.
    #[error("failed to {what}")]
    Nft {
        /// What was being done.
        what: &'static str,
        /// What it said.
        #[source]
        source: ProgramError,
    },
    /// `nft` wrote what we don't understand.
    #[error("failed to {what}: the output of nft is not understood")]
    Output {
        /// What was being done.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// How many connections an address opens in a second, to the host and to the world, once [`CONNECTIONS_AT_ONCE`] are
/// used up. The host has one table of them for all guests (`net.netfilter.nf_conntrack_max`, 262,144 on most hosts), and
/// forgets within two minutes what nobody answers: one guest alone doesn't fill it. A bound on what is open would be
/// better, but nft's `ct count` walks all of an address's connections for a new one: that would be an attack of its own.
/// Guests among themselves are on a bridge, where nothing is counted.
pub const CONNECTIONS_PER_SECOND: u32 = 1_000;

/// How many it may open at once.
pub const CONNECTIONS_AT_ONCE: u32 = 5_000;

/// Replaces our NAT table by one for these networks.
pub fn apply_nat(table: &TableName, networks: &[NetworkSpec]) -> Result<(), FirewallError> {
    run_transaction("set up NAT", render_nat(table, networks))
}

/// Replaces our guard by one for all these guests. Needs `nf_tables` for bridges in the kernel.
pub fn apply_guard(table: &TableName, ports: &[GuestPort]) -> Result<(), FirewallError> {
    run_transaction("set up the guard against forged addresses", render_guard(table, ports))
}

/// Enters one guest into the guard, or keeps it there.
pub fn apply_guest_port(table: &TableName, port: &GuestPort) -> Result<(), FirewallError> {
    run_transaction("guard a guest's interface", render_elements("add", table, port))
}

/// Takes one guest out of the guard. No error if it isn't there.
pub fn remove_guest_port(table: &TableName, port: &GuestPort) -> Result<(), FirewallError> {
    // To delete what isn't there is an error of nft, so it is added first, in the same transaction.
    let commands = render_elements("add", table, port) + &render_elements("delete", table, port);
    run_transaction("end the guard of a guest's interface", commands)
}

/// Removes our tables; `false` if there were none.
pub fn ensure_firewall_absent(table: &TableName) -> Result<bool, FirewallError> {
    const WHAT: &str = "remove our firewall tables";
    let commands: String = list(WHAT, "tables")?
        .into_iter()
        .filter_map(|object| object.table)
        .filter(|found| found.name == table.0)
        .map(|found| format!("delete table {} {}\n", found.family, found.name))
        .collect();
    let is_present = !commands.is_empty();
    if is_present {
        run_transaction(WHAT, commands)?;
    }
    Ok(is_present)
}

/// The chains of others that may cut our guests from the world.
pub fn observe_forward_blockers(table: &TableName) -> Result<Vec<ForwardBlocker>, FirewallError> {
    let chains = list("list the firewall's chains", "chains")?.into_iter().filter_map(|object| object.chain);
    let blocks = |chain: &Chain| {
        chain.hook.as_deref() == Some("forward")
            && chain.policy.as_deref() == Some("drop")
            && matches!(&*chain.family, "ip" | "inet" | "bridge")
            && chain.table != table.0
    };
    let blocker = |Chain { family, table, name, .. }| ForwardBlocker { family, table, chain: name };
    Ok(chains.filter(blocks).map(blocker).collect())
}

/// The NAT table as a transaction for `nft -f`: what leaves a network's range for elsewhere bears the host's address,
/// and an address opens no more than [`CONNECTIONS_PER_SECOND`].
pub fn render_nat(table: &TableName, networks: &[NetworkSpec]) -> String {
    let rules: String = networks
        .iter()
        .map(|NetworkSpec { name, subnet, .. }| {
            format!("\t\tip saddr {subnet} ip daddr != {subnet} masquerade comment \"network {name}\"\n")
        })
        .collect();
    let nat = format!(
        "\tchain postrouting {{\n\t\ttype nat hook postrouting priority srcnat; policy accept;\n{rules}\t}}\n"
    );
    render_table("ip", table, &(render_bounds(networks) + &nat))
}

/// The chains that bound what each address opens. What they drop has not come into the table of connections yet.
fn render_bounds(networks: &[NetworkSpec]) -> String {
    let rules: String = networks
        .iter()
        .map(|NetworkSpec { subnet, .. }| format!("\t\tip saddr {subnet} ct state new jump opening\n"))
        .collect();
    let chain = |hook: &str| {
        format!(
            "\tchain {hook} {{\n\t\ttype filter hook {hook} priority filter; policy accept;\n{rules}\t}}\n"
        )
    };
    format!(
        "\
\tset openers {{
\t\ttype ipv4_addr
\t\tsize 65536
\t\tflags dynamic,timeout
\t\ttimeout 1m
\t}}
\tchain opening {{
\t\tupdate @openers {{ ip saddr limit rate over {CONNECTIONS_PER_SECOND}/second burst {CONNECTIONS_AT_ONCE} packets }} counter drop
\t}}
"
    ) + &chain("input")
        + &chain("forward")
}

/// The guard as a transaction for `nft -f`.
pub fn render_guard(table: &TableName, ports: &[GuestPort]) -> String {
    let guests = render_set("guests", "ifname", ports.iter().map(render_guest));
    let addresses =
        render_set("addresses", "ifname . ether_addr . ipv4_addr", ports.iter().flat_map(render_addresses));
    let chains = "\
\tchain prerouting {
\t\ttype filter hook prerouting priority dstnat; policy accept;
\t\tiifname @guests jump guest
\t}
\tchain guest {
\t\tiifname . ether saddr . ip saddr @addresses accept
\t\tiifname . ether saddr . arp saddr ip @addresses iifname . arp saddr ether . arp saddr ip @addresses accept
\t\tcounter drop
\t}
";
    render_table("bridge", table, &format!("{guests}{addresses}{chains}"))
}

/// A transaction that makes the table as it should be, whether it is there or not.
fn render_table(family: &str, table: &TableName, body: &str) -> String {
    format!("table {family} {table}\ndelete table {family} {table}\ntable {family} {table} {{\n{body}}}\n")
}

fn render_set(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    let elements = match elements.is_empty() {
        true => String::new(), // nft knows no empty list
        false => format!("\t\telements = {{\n\t\t\t{}\n\t\t}}\n", elements.join(",\n\t\t\t")),
    };
    format!("\tset {name} {{\n\t\ttype {kind}\n{elements}\t}}\n")
}

fn render_guest(port: &GuestPort) -> String {
    format!("\"{}\"", port.veth)
}

fn render_addresses(port: &GuestPort) -> Vec<String> {
    port.addresses.iter().map(|address| format!("\"{}\" . {} . {address}", port.veth, port.mac)).collect()
}

/// The commands that add one guest's elements to the guard's sets, or delete them.
fn render_elements(verb: &str, table: &TableName, port: &GuestPort) -> String {
    let guest = format!("{verb} element bridge {table} guests {{ {} }}\n", render_guest(port));
    let addresses = render_addresses(port)
        .into_iter()
        .map(|address| format!("{verb} element bridge {table} addresses {{ {address} }}\n"));
    std::iter::once(guest).chain(addresses).collect()
}

fn run_transaction(what: &'static str, commands: String) -> Result<(), FirewallError> {
    run_nft(what, Program::new("nft").args(["-f", "-"]).input(commands)).map(drop)
}

fn run_nft(what: &'static str, nft: Program) -> Result<Vec<u8>, FirewallError> {
    nft.output().map_err(|source| match source {
        ProgramError::NotFound { .. } => FirewallError::NftMissing { what },
        source => FirewallError::Nft { what, source },
    })
}

/// What `nft -j list …` writes (libnftables-json(5)), as far as we read it.
#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    table: Option<Table>,
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct Table {
    family: String,
    name: String,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    policy: Option<String>,
}

fn list(what: &'static str, objects: &str) -> Result<Vec<Object>, FirewallError> {
    let output = run_nft(what, Program::new("nft").args(["-j", "list", objects]))?;
    let listing: Listing =
        serde_json::from_slice(&output).map_err(|source| FirewallError::Output { what, source })?;
    Ok(listing.nftables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn table() -> TableName {
        "insula".parse().unwrap()
    }

    fn network(name: &str, subnet: &str) -> NetworkSpec {
        NetworkSpec {
            name: name.parse().unwrap(),
            bridge: "insbr0".parse().unwrap(),
            subnet: subnet.parse().unwrap(),
            dns: vec![],
        }
    }

    fn port(veth: &str, mac: &str, addresses: &[&str]) -> GuestPort {
        GuestPort {
            veth: veth.parse().unwrap(),
            mac: mac.parse().unwrap(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn a_table_of_others_can_not_be_named() {
        for (text, is_valid) in [
            ("insula", true),
            ("insula_b2", true),
            ("insula_", true),
            ("insulab", false),
            ("filter", false),
            ("", false),
            ("insula_B", false),
            ("insula_a { }", false),
            ("insula_a\n", false),
            ("insula_a2345678901234567890123456", false),
        ] {
            assert_eq!(text.parse::<TableName>().is_ok(), is_valid, "{text:?}");
        }
    }

    #[test]
    fn nat_is_one_transaction() {
        let networks = [network("default", "10.64.3.0/24"), network("office", "10.64.9.0/25")];
        assert_snapshot!(render_nat(&table(), &networks).replace('\t', "    "), @r#"
        table ip insula
        delete table ip insula
        table ip insula {
            set openers {
                type ipv4_addr
                size 65536
                flags dynamic,timeout
                timeout 1m
            }
            chain opening {
                update @openers { ip saddr limit rate over 1000/second burst 5000 packets } counter drop
            }
            chain input {
                type filter hook input priority filter; policy accept;
                ip saddr 10.64.3.0/24 ct state new jump opening
                ip saddr 10.64.9.0/25 ct state new jump opening
            }
            chain forward {
                type filter hook forward priority filter; policy accept;
                ip saddr 10.64.3.0/24 ct state new jump opening
                ip saddr 10.64.9.0/25 ct state new jump opening
            }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr 10.64.3.0/24 ip daddr != 10.64.3.0/24 masquerade comment "network default"
                ip saddr 10.64.9.0/25 ip daddr != 10.64.9.0/25 masquerade comment "network office"
            }
        }
        "#);
    }

    #[test]
    fn the_guard_is_one_transaction() {
        let ports = [
            port("ins0000000000aa", "02:00:00:00:00:aa", &["10.64.3.2", "10.64.3.9"]),
            port("ins0000000000bb", "02:00:00:00:00:bb", &[]),
        ];
        assert_snapshot!(render_guard(&table(), &ports).replace('\t', "    "), @r#"
        table bridge insula
        delete table bridge insula
        table bridge insula {
            set guests {
                type ifname
                elements = {
                    "ins0000000000aa",
                    "ins0000000000bb"
                }
            }
            set addresses {
                type ifname . ether_addr . ipv4_addr
                elements = {
                    "ins0000000000aa" . 02:00:00:00:00:aa . 10.64.3.2,
                    "ins0000000000aa" . 02:00:00:00:00:aa . 10.64.3.9
                }
            }
            chain prerouting {
                type filter hook prerouting priority dstnat; policy accept;
                iifname @guests jump guest
            }
            chain guest {
                iifname . ether saddr . ip saddr @addresses accept
                iifname . ether saddr . arp saddr ip @addresses iifname . arp saddr ether . arp saddr ip @addresses accept
                counter drop
            }
        }
        "#);
    }

    #[test]
    fn one_guest_is_a_few_elements() {
        let port = port("ins0000000000aa", "02:00:00:00:00:aa", &["10.64.3.2"]);
        assert_snapshot!(render_elements("add", &table(), &port), @r#"
        add element bridge insula guests { "ins0000000000aa" }
        add element bridge insula addresses { "ins0000000000aa" . 02:00:00:00:00:aa . 10.64.3.2 }
        "#);
    }
}
