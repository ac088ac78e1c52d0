//! Where a VPS lives: its host, and what that host has given it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{HostId, IdRange, InterfaceName, PoolName};

/// The addresses of each interface of a VPS, by the name that the interface has inside the guest.
pub type NicAddresses = BTreeMap<InterfaceName, Vec<IpAddr>>;

/// Where a VPS lives, and what its host has given it. Another host would give it different values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The host that the VPS lives on. No other host may run it or touch its volumes.
    pub host_id: HostId,
    /// The number of the placement. It starts at [`Placement::FIRST_EPOCH`] and grows by one with
    /// each move. Where two hosts differ about a VPS, the higher epoch is right.
    pub epoch: u64,
    /// The pool that holds the VPS's root.
    pub pool: PoolName,
    /// The VPS's user and group ids on the host.
    pub ids: IdRange,
    /// The VPS's addresses on this host, by interface.
    pub addresses: NicAddresses,
}

impl Placement {
    /// The epoch of a VPS that has never moved.
    pub const FIRST_EPOCH: u64 = 1;

    /// The addresses of an interface. Empty if it has none.
    pub fn addresses_of(&self, interface: &InterfaceName) -> &[IpAddr] {
        self.addresses.get(interface).map_or(&[], Vec::as_slice)
    }
}
