//! Network namespaces that end with the test.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use insula_net::ensure_bridge;
use insula_sys::netlink::{LOOPBACK_INDEX, Socket, VethPair};
use insula_types::{Attachment, InterfaceName, NetworkOrigin, NetworkSpec};
use nix::sched::{CloneFlags, CpuSet, sched_getcpu, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;

/// Runs the test on a thread of its own in a new network namespace, the "host", on one processor. The kernel
/// removes the namespace, and all that was made in it, with the thread and the last socket.
pub fn on_scratch_host(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            stay_on_this_processor();
            enter_new_namespace();
            test();
        });
    });
}

/// Another network namespace: a guest's, or the world's.
pub struct Namespace(OwnedFd);

impl Namespace {
    pub fn new() -> Self {
        let open = || {
            enter_new_namespace();
            Self(File::open("/proc/thread-self/ns/net").unwrap().into())
        };
        thread::scope(|scope| scope.spawn(open).join().unwrap())
    }

    /// Does something inside, on a thread that goes there.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter_and_work = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        thread::scope(|scope| scope.spawn(enter_and_work).join().unwrap())
    }

    /// A netlink socket that works inside.
    pub fn netlink(&self) -> Socket {
        Socket::open_in(self.0.as_fd()).unwrap()
    }

    /// Plugs the namespace's `eth0` into the host: bridge or none, address, default route if there is a gateway.
    pub fn plug(&self, link: &Link<'_>) {
        let pair = VethPair {
            host_name: link.host_name,
            guest_name: "eth0",
            guest_netns: self.0.as_fd(),
            bridge_index: link.bridge_index,
            mac: link.mac,
            mtu: None,
        };
        Socket::open().unwrap().create_veth(&pair).unwrap();
        let inside = self.netlink();
        let eth0 = inside.interface_index("eth0").unwrap().unwrap();
        inside.set_up(LOOPBACK_INDEX).unwrap();
        inside.add_address(eth0, link.address.into(), 24).unwrap();
        inside.set_up(eth0).unwrap();
        if let Some(gateway) = link.gateway {
            inside.add_default_route(gateway, eth0).unwrap();
        }
    }
}

/// How a namespace is plugged into the host.
pub struct Link<'a> {
    pub host_name: &'a str,
    pub bridge_index: Option<u32>,
    pub mac: [u8; 6],
    pub address: Ipv4Addr,
    pub gateway: Option<IpAddr>,
}

/// The network of these tests: 10.64.3.0/24 at `insbr0`.
pub fn network() -> NetworkSpec {
    NetworkSpec {
        name: "default".parse().unwrap(),
        attachment: Attachment::Bridged(bridge()),
        subnet: "10.64.3.0/24".parse().unwrap(),
        dns: vec![],
        origin: NetworkOrigin::Settings,
    }
}

/// The bridge of [`network`].
pub fn bridge() -> InterfaceName {
    "insbr0".parse().unwrap()
}

/// The host's end of the guest's veth pair.
pub const GUEST_VETH: &str = "ins0000000000aa";
/// The guest's Ethernet address.
pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xaa];
/// The guest's address.
pub const GUEST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 64, 3, 2);

/// The bridge of [`network`] and a guest in it.
pub fn plug_guest() -> Namespace {
    ensure_bridge(&network()).unwrap();
    plug(GUEST_VETH, GUEST_MAC, GUEST_ADDRESS)
}

/// Another guest in the bridge.
pub fn plug_neighbour() -> Namespace {
    plug("ins0000000000bb", [2, 0, 0, 0, 0, 0xbb], Ipv4Addr::new(10, 64, 3, 3))
}

fn plug(host_name: &str, mac: [u8; 6], address: Ipv4Addr) -> Namespace {
    let guest = Namespace::new();
    guest.plug(&Link {
        host_name,
        bridge_index: Socket::open().unwrap().interface_index("insbr0").unwrap(),
        mac,
        address,
        gateway: Some(network().gateway()),
    });
    guest
}

/// Packets of different processors may overtake each other.
fn stay_on_this_processor() {
    let mut here = CpuSet::new();
    here.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &here).unwrap();
}

fn enter_new_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect("these tests make network namespaces: run them as root");
}
