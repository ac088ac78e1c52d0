//! The firewall's inputs and results: ports of guests, bounds, errors.

use std::fmt;
use std::net::IpAddr;

use insula_sys::program::ProgramError;
use insula_types::{InterfaceName, MacAddress};

/// A guest's port on a bridge, and the addresses that it may send from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPort {
    /// The name of the host's end of the guest's veth pair.
    pub veth: InterfaceName,
    /// The Ethernet address of the guest's end.
    pub mac: MacAddress,
    /// The guest's addresses.
    pub addresses: Vec<IpAddr>,
}

/// A base chain of others that drops packets which it does not know, and so may cut guests off from
/// the world. We can't overrule it, because a packet has to pass all chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardBlocker {
    /// The family of the chain's table: `ip`, `inet` or `bridge`.
    pub family: String,
    /// The name of the chain's table.
    pub table: String,
    /// The name of the chain.
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

/// Why the firewall is not in the state that it should have.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// An address or range is not an IPv4 one, and the rules support only IPv4.
    #[error("{what} is IPv6, and the firewall has rules for IPv4 only")]
    Family {
        /// The address or the range.
        what: String,
    },
    /// The program `nft` is missing.
    #[error("failed to {what}: the program nft is missing; install the package nftables")]
    NftMissing {
        /// What was being done.
        what: &'static str,
    },
    /// The program `nft` failed.
    #[error("failed to {what}")]
    Nft {
        /// What was being done.
        what: &'static str,
        /// What `nft` said.
        #[source]
        source: ProgramError,
    },
    /// The program `nft` printed something unexpected.
    #[error("failed to {what}: the output of nft is not understood")]
    Output {
        /// What was being done.
        what: &'static str,
        /// What is wrong with the output.
        #[source]
        source: serde_json::Error,
    },
}

/// How many connections an address may open in a second, to the host and to the world, once
/// [`CONNECTIONS_AT_ONCE`] are used up. The host has one table of connections for all guests
/// (`net.netfilter.nf_conntrack_max`, 262,144 on most hosts) and forgets unanswered ones within two
/// minutes. At this rate one guest alone can't fill it. A bound on open connections would be
/// better. But nft's `ct count` walks all connections of an address for each new one, and that
/// would be an attack of its own. Connections between guests stay on a bridge, where none are
/// counted.
pub const CONNECTIONS_PER_SECOND: u32 = 1_000;

/// How many connections an address may open at once.
pub const CONNECTIONS_AT_ONCE: u32 = 5_000;
