//! Where a VPS lives.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{HostId, IdRange, InterfaceName, PoolName};

/// The addresses of each interface of a VPS, by the name that the interface has inside the guest.
pub type NicAddresses = BTreeMap<InterfaceName, Vec<IpAddr>>;

/// Where a VPS lives: what a host gives it, and another host would give it anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The host that it lives on. No other may run it, or touch its volumes.
    pub host_id: HostId,
    /// Grows by one with each move, from [`Placement::FIRST_EPOCH`] on. Where two hosts say different things of a VPS, the
    /// higher epoch is right.
    pub epoch: u64,
    /// The pool that holds its root.
    pub pool: PoolName,
    /// Its user and group ids on the host.
    pub ids: IdRange,
    /// Its addresses.
    pub addresses: NicAddresses,
}

impl Placement {
    /// The epoch of a VPS that has never moved.
    pub const FIRST_EPOCH: u64 = 1;

    /// The addresses of an interface; empty where it has none.
    pub fn addresses_of(&self, interface: &InterfaceName) -> &[IpAddr] {
        self.addresses.get(interface).map_or(&[], Vec::as_slice)
    }
}
