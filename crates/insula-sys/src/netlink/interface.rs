//! Interfaces: bridges, veth pairs, and what they have in common.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    BridgeStpState, InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags,
    LinkInfo, LinkMessage,
};

use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;

use super::error::NetlinkError;
use super::socket::Socket;

/// The index of the loopback interface in every network namespace: it is the first one.
pub const LOOPBACK_INDEX: u32 = 1;

/// A pair of virtual Ethernet interfaces: one end here, the other in a guest.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    /// The name of the host's end, at most 15 characters.
    pub host_name: &'a str,
    /// The name of the guest's end.
    pub guest_name: &'a str,
    /// The guest's network namespace, in which its end is made.
    pub guest_netns: BorrowedFd<'a>,
    /// The index of the bridge that the host's end is plugged into.
    pub bridge_index: Option<u32>,
    /// The Ethernet address of the guest's end.
    pub mac: [u8; 6],
    /// The largest packet in bytes, for both ends. `None` means the kernel's default, 1500.
    pub mtu: Option<u32>,
}

impl Socket {
    /// The index of an interface. `None` if there is none of this name.
    pub fn interface_index(&self, name: &str) -> Result<Option<u32>, NetlinkError> {
        match name_to_index(&self.socket, name) {
            Ok(index) => Ok(Some(index)),
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => {
                let what = format!("look up interface {name}");
                Err(NetlinkError::Refused { what, detail: None, source: errno.into() })
            }
        }
    }

    /// What the kernel knows of an interface, without its statistics. `None` if there is none of this name.
    pub fn interface(&self, name: &str) -> Result<Option<LinkMessage>, NetlinkError> {
        let mut message = named(name);
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        match self.query(format_args!("look up interface {name}"), RouteNetlinkMessage::GetLink(message)) {
            Ok(Some(RouteNetlinkMessage::NewLink(interface))) => Ok(Some(interface)),
            Ok(_) => Ok(None),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes that each interface of the namespace has counted since it was made: its name, received, sent.
    pub fn interface_bytes(&self) -> Result<Vec<(String, u64, u64)>, NetlinkError> {
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.dump(format_args!("read the statistics of all interfaces"), all)?;
        Ok(answers.into_iter().filter_map(bytes_of).collect())
    }

    /// Makes a bridge, or corrects the one of this name, and sets it up. It gets a fixed Ethernet address, which would follow its
    /// ports otherwise. It has neither spanning tree nor forward delay, with which a new port would be deaf for seconds.
    pub fn apply_bridge(&self, name: &str, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let mut message = named(name);
        raise(&mut message);
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![
                InfoBridge::ForwardDelay(0),
                InfoBridge::StpState(BridgeStpState::Disabled),
            ])),
        ]));
        let what = format_args!("set up bridge {name}");
        self.request(what, NLM_F_CREATE, RouteNetlinkMessage::NewLink(message))
    }

    /// Makes a veth pair in one message. The host's end is up and plugged into the bridge. The guest's end is made inside the
    /// guest's network namespace: moving it there would wait for an RCU grace period.
    ///
    /// The guest's end is down, since the kernel can't set it up before it has its peer. [`Socket::set_up`] does that later.
    pub fn create_veth(&self, pair: &VethPair<'_>) -> Result<(), NetlinkError> {
        let mut guest = named(pair.guest_name);
        guest.attributes.push(LinkAttribute::Address(pair.mac.to_vec()));
        guest.attributes.push(LinkAttribute::NetNsFd(pair.guest_netns.as_raw_fd()));
        guest.attributes.extend(pair.mtu.map(LinkAttribute::Mtu));
        let mut host = named(pair.host_name);
        raise(&mut host);
        host.attributes.extend(pair.mtu.map(LinkAttribute::Mtu));
        host.attributes.extend(pair.bridge_index.map(LinkAttribute::Controller));
        host.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(guest))),
        ]));
        let what = format_args!("create veth {} for {} of the guest", pair.host_name, pair.guest_name);
        self.request(what, NLM_F_CREATE | NLM_F_EXCL, RouteNetlinkMessage::NewLink(host))
    }

    /// Sets an interface up.
    pub fn set_up(&self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        raise(&mut message);
        self.request(format_args!("set interface {index} up"), 0, RouteNetlinkMessage::SetLink(message))
    }

    /// Deletes an interface. With one end of a veth pair, the other goes, too. `false` if there was none.
    pub fn delete_interface(&self, name: &str) -> Result<bool, NetlinkError> {
        let what = format_args!("delete interface {name}");
        match self.request(what, 0, RouteNetlinkMessage::DelLink(named(name))) {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The interface's name, and the bytes that it has received and sent: `IFLA_STATS64`, rtnetlink(7).
fn bytes_of(answer: RouteNetlinkMessage) -> Option<(String, u64, u64)> {
    let RouteNetlinkMessage::NewLink(interface) = answer else { return None };
    let (mut interface_name, mut bytes) = (None, None);
    for attribute in interface.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface_name = Some(name),
            LinkAttribute::Stats64(stats) => bytes = Some((stats.rx_bytes, stats.tx_bytes)),
            _ => {}
        }
    }
    let (received, sent) = bytes?;
    Some((interface_name?, received, sent))
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message
}

fn raise(message: &mut LinkMessage) {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
}
