//! What each of our tables consists of, apart from its networks and guests: sets, counters, chains
//! and rules.
//!
//! A [`Ruleset`] is created once. Its rules refer to sets. When a network or a guest is added or
//! removed, only elements ([`super::elements`]) change, and no rule does. The rules have a version,
//! the hash of their text, which is kept in the kernel as the name of an empty chain. When an agent
//! brings different rules, they are replaced in one transaction that keeps sets, their elements,
//! rate buckets and counters.
//!
//! A set can't change its type under the same name: a new type needs a new name. What remains under
//! the old name does no harm.

use std::fmt::Write;

use super::name::TableName;
use super::terms::{CONNECTIONS_AT_ONCE, CONNECTIONS_PER_SECOND};

/// The prefix of the name of the empty chain that carries the version of the rules.
const VERSION_PREFIX: &str = "version_";

/// The description of one of our tables. Each family has one of its own.
#[derive(Debug)]
pub(super) struct Ruleset {
    /// The family of the table, such as `ip`.
    pub family: &'static str,
    /// The sets whose elements are added by the agent alone.
    pub sets: &'static [Set],
    /// Objects that are kept when the rules are replaced: kind, name and definition.
    objects: &'static [[&'static str; 3]],
    chains: Vec<Chain>,
}

/// A set whose elements the agent adds.
#[derive(Debug)]
pub(super) struct Set {
    pub name: &'static str,
    /// The set's type, as nft writes it.
    pub kind: &'static str,
    /// Whether the set's elements are ranges.
    pub has_ranges: bool,
}

#[derive(Debug)]
struct Chain {
    name: &'static str,
    /// The hook that makes it a base chain. Empty for other chains.
    hook: &'static str,
    rules: Vec<String>,
}

/// NAT, and the bound on new connections of each address. Packets that leave a network's range for
/// elsewhere get the host's address. What the bound drops never enters the table of connections.
pub(super) fn nat() -> Ruleset {
    const SETS: &[Set] = &[
        Set { name: "networks", kind: "ipv4_addr", has_ranges: true },
        Set { name: "within", kind: "ipv4_addr . ipv4_addr", has_ranges: true },
    ];
    let opening = "ip saddr @networks ct state new jump opening";
    let bound = format!(
        "update @openers {{ ip saddr limit rate over {CONNECTIONS_PER_SECOND}/second \
         burst {CONNECTIONS_AT_ONCE} packets }} counter name refused drop"
    );
    let masquerade = "ip saddr @networks ip saddr . ip daddr != @within masquerade";
    let chain = |name, hook, rule: &str| Chain { name, hook, rules: vec![rule.to_owned()] };
    Ruleset {
        family: "ip",
        sets: SETS,
        objects: &[
            ["set", "openers", "{ type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; }"],
            ["counter", "refused", ""],
        ],
        chains: vec![
            chain("opening", "", &bound),
            chain("input", "type filter hook input priority filter; policy accept;", opening),
            chain("forward", "type filter hook forward priority filter; policy accept;", opening),
            chain("postrouting", "type nat hook postrouting priority srcnat; policy accept;", masquerade),
        ],
    }
}

/// The guard: an interface in the set `guests` may send only from what is in `addresses`.
pub(super) fn guard() -> Ruleset {
    const SETS: &[Set] = &[
        Set { name: "guests", kind: "ifname", has_ranges: false },
        Set { name: "addresses", kind: "ifname . ether_addr . ipv4_addr", has_ranges: false },
    ];
    let own = "iifname . ether saddr . ip saddr @addresses accept";
    let own_arp = "iifname . ether saddr . arp saddr ip @addresses \
                   iifname . arp saddr ether . arp saddr ip @addresses accept";
    Ruleset {
        family: "bridge",
        sets: SETS,
        objects: &[["counter", "forged", ""]],
        chains: vec![
            Chain {
                name: "guest",
                hook: "",
                rules: [own, own_arp, "counter name forged drop"].map(str::to_owned).into(),
            },
            Chain {
                name: "prerouting",
                hook: "type filter hook prerouting priority dstnat; policy accept;",
                rules: vec!["iifname @guests jump guest".to_owned()],
            },
        ],
    }
}

impl Ruleset {
    /// The number of rules in all its chains.
    pub(super) fn rule_count(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }

    /// The name of the empty chain that carries the version of these rules.
    pub(super) fn version(&self) -> String {
        // FNV-1a
        let hash = self.render_rules("").bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{VERSION_PREFIX}{hash:016x}")
    }

    /// The commands that create the table, or replace the rules of an existing one. They run in one
    /// transaction, so no packet meets half of the rules. `chains` are the chains that exist.
    pub(super) fn render(&self, table: &TableName, chains: &[String]) -> String {
        let Self { family, .. } = self;
        let mut text = format!("add table {family} {table}\n");
        for Set { name, kind, has_ranges } in self.sets {
            let flags = if *has_ranges { " flags interval;" } else { "" };
            let _ = writeln!(text, "add set {family} {table} {name} {{ type {kind};{flags} }}"); // a String takes all
        }
        for [kind, name, definition] in self.objects {
            let _ =
                writeln!(text, "{}", format!("add {kind} {family} {table} {name} {definition}").trim_end());
        }
        let _ = writeln!(text, "flush table {family} {table}"); // the rules of all chains, and nothing else
        let is_ours = |name: &&String| self.chains.iter().any(|chain| chain.name == **name);
        for name in chains.iter().filter(|name| !is_ours(name)) {
            let _ = writeln!(text, "delete chain {family} {table} {name}");
        }
        text + &self.render_rules(&format!("{family} {table} "))
            + &format!("add chain {family} {table} {}\n", self.version())
    }

    fn render_rules(&self, place: &str) -> String {
        let chains = self.chains.iter().map(|Chain { name, hook, .. }| match *hook {
            "" => format!("add chain {place}{name}\n"),
            hook => format!("add chain {place}{name} {{ {hook} }}\n"),
        });
        let rule = |name: &str, rule: &String| format!("add rule {place}{name} {rule}\n");
        let rules = self
            .chains
            .iter()
            .flat_map(|chain| chain.rules.iter().map(|text| rule(chain.name, text)).collect::<Vec<_>>());
        chains.chain(rules).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn table() -> TableName {
        "insula".parse().unwrap()
    }

    /// The text of the table without the version, which is a hash of the rest.
    fn rendered(ruleset: &Ruleset, chains: &[&str]) -> String {
        let chains: Vec<String> = chains.iter().map(ToString::to_string).collect();
        ruleset.render(&table(), &chains).replace(&ruleset.version(), "version_0")
    }

    #[test]
    fn nat_is_one_transaction() {
        assert_snapshot!(rendered(&nat(), &[]), @r"
        add table ip insula
        add set ip insula networks { type ipv4_addr; flags interval; }
        add set ip insula within { type ipv4_addr . ipv4_addr; flags interval; }
        add set ip insula openers { type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; }
        add counter ip insula refused
        flush table ip insula
        add chain ip insula opening
        add chain ip insula input { type filter hook input priority filter; policy accept; }
        add chain ip insula forward { type filter hook forward priority filter; policy accept; }
        add chain ip insula postrouting { type nat hook postrouting priority srcnat; policy accept; }
        add rule ip insula opening update @openers { ip saddr limit rate over 1000/second burst 5000 packets } counter name refused drop
        add rule ip insula input ip saddr @networks ct state new jump opening
        add rule ip insula forward ip saddr @networks ct state new jump opening
        add rule ip insula postrouting ip saddr @networks ip saddr . ip daddr != @within masquerade
        add chain ip insula version_0
        ");
    }

    #[test]
    fn the_guard_is_one_transaction() {
        assert_snapshot!(rendered(&guard(), &["guest", "prerouting", "version_1", "leftover"]), @r"
        add table bridge insula
        add set bridge insula guests { type ifname; }
        add set bridge insula addresses { type ifname . ether_addr . ipv4_addr; }
        add counter bridge insula forged
        flush table bridge insula
        delete chain bridge insula version_1
        delete chain bridge insula leftover
        add chain bridge insula guest
        add chain bridge insula prerouting { type filter hook prerouting priority dstnat; policy accept; }
        add rule bridge insula guest iifname . ether saddr . ip saddr @addresses accept
        add rule bridge insula guest iifname . ether saddr . arp saddr ip @addresses iifname . arp saddr ether . arp saddr ip @addresses accept
        add rule bridge insula guest counter name forged drop
        add rule bridge insula prerouting iifname @guests jump guest
        add chain bridge insula version_0
        ");
    }

    #[test]
    fn other_rules_are_another_version() {
        let mut other = guard();
        other.chains[0].rules.swap(0, 1);
        assert_ne!(other.version(), guard().version());
        assert_eq!(guard().version().len(), "version_".len() + 16);
    }
}
