//! A small synchronous client of the kernel's routing netlink (rtnetlink(7)): interfaces, addresses, routes.
//!
//! A [`Socket`] works in the network namespace that its thread was in when it was opened, wherever the thread
//! goes afterwards. An error carries the kernel's own words (`NETLINK_EXT_ACK`), not only the errno.

mod error;
mod interface;
mod route;
mod socket;

pub use error::NetlinkError;
pub use interface::{LOOPBACK_INDEX, VethPair};
pub use socket::Socket;
