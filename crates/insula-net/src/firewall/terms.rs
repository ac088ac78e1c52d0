//! What the firewall is told and what it answers: ports of guests, bounds, errors.

use std::fmt;
use std::net::IpAddr;

use insula_sys::program::ProgramError;
use insula_types::{InterfaceName, MacAddress};

/// A guest's place on a bridge, and what may come from there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestPort {
    /// The host's end of its veth pair.
    pub veth: InterfaceName,
    /// The Ethernet address of its own end.
    pub mac: MacAddress,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
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
    /// The rules know IPv4 only.
    #[error("{what} is IPv6, and the firewall has rules for IPv4 only")]
    Family {
        /// An address or a range.
        what: String,
    },
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
