//! Traffic counters of the host's interfaces.

use std::collections::HashMap;

use insula_sys::netlink::{NetlinkError, Socket};
use insula_types::InterfaceName;

/// The bytes that an interface has carried since it was created, Ethernet headers included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The bytes that the host received over the interface.
    pub received_bytes: u64,
    /// The bytes that the host sent over the interface.
    pub sent_bytes: u64,
}

/// The traffic of every interface of the host, read at once. For a VPS it is that of the host's end
/// of its veth pair: what that end has *received* was sent by the guest, and the other way round.
/// The counters start at zero at each boot of the guest, because the pair is created anew.
pub fn observe_traffic() -> Result<HashMap<InterfaceName, Traffic>, NetlinkError> {
    let interfaces = Socket::open()?.interface_bytes()?;
    let traffic = interfaces.into_iter().filter_map(|(name, received_bytes, sent_bytes)| {
        // The kernel allows names that our type does not, but no VPS has such an interface.
        Some((name.parse().ok()?, Traffic { received_bytes, sent_bytes }))
    });
    Ok(traffic.collect())
}
