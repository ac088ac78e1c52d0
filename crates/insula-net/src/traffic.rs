//! What went over the host's interfaces.

use std::collections::HashMap;

use insula_sys::netlink::{NetlinkError, Socket};
use insula_types::InterfaceName;

/// The bytes of an interface since it was made, Ethernet headers included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// What came in over it.
    pub received_bytes: u64,
    /// What went out over it.
    pub sent_bytes: u64,
}

/// The traffic of every interface on the host's side, read at once. Of a VPS's veth pair that is the host's end: what it has
/// *received* the guest has sent, and the other way round. The counters begin at zero at each boot of the guest, because
/// the pair is made anew.
pub fn observe_traffic() -> Result<HashMap<InterfaceName, Traffic>, NetlinkError> {
    let interfaces = Socket::open()?.interface_bytes()?;
    let traffic = interfaces.into_iter().filter_map(|(name, received_bytes, sent_bytes)| {
        // The kernel takes names that are none of ours: no VPS has such an interface.
        Some((name.parse().ok()?, Traffic { received_bytes, sent_bytes }))
    });
    Ok(traffic.collect())
}
