//! The host's side of networks: bridges, ranges and addresses, NAT, protection against forged
//! addresses, and the network configuration of guests.
//!
//! Functions that decide are pure (`choose_*`, `next_*`, `check_*`, `render_*`). Functions that act
//! are idempotent (`ensure_*`, `apply_*`) and work in the network namespace of the calling thread.
//! A VPS's own veth pair is not created here, but by its monitor at each start, with
//! [`insula_sys::netlink`]. Nothing here runs at the start of a VPS.

mod address;
mod bridge;
mod dns;
mod facility;
mod firewall;
mod guest;
mod subnet;
mod traffic;

pub use address::{AddressRefusal, assignable, check_address, next_address};
pub use bridge::{
    BridgeError, bridge_mac, ensure_bridge, ensure_bridge_absent, ensure_forwarding, observe_interface,
};
pub use dns::observe_host_dns;
pub use facility::{NetworkRefusal, check_network};
pub use firewall::{
    CONNECTIONS_AT_ONCE, CONNECTIONS_PER_SECOND, FirewallError, ForwardBlocker, GuestPort, TableName,
    TableNameError, add_network, add_ports, ensure_firewall_absent, ensure_guard, ensure_nat,
    observe_forward_blockers, remove_network, remove_ports,
};
pub use guest::{GuestFile, render_guest_network, render_resolv_conf};
pub use subnet::{choose_subnet, observe_occupied};
pub use traffic::{Traffic, observe_traffic};
