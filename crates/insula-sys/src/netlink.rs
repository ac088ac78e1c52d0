//! A small synchronous client of the kernel's routing netlink (rtnetlink(7)): interfaces, addresses, routes.
//!
//! A [`Socket`] works in the network namespace in which it was opened, wherever its thread goes afterwards. An error has the
//! kernel's own message (`NETLINK_EXT_ACK`) as well as the errno.

mod error;
mod interface;
mod route;
mod socket;

pub use error::NetlinkError;
pub use interface::{LOOPBACK_INDEX, VethPair};
pub use socket::Socket;
