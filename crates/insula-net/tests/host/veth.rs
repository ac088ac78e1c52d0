//! Veth pairs: created with one end in a guest, removed, and refused with the kernel's words.

use insula_sys::netlink::{Socket, VethPair};
use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use std::fs::File;
use std::os::fd::AsFd;

use crate::scratch::{GUEST_MAC, GUEST_VETH, on_scratch_host, plug_guest};

#[test]
fn a_pair_is_plugged_in_and_reaches_into_the_guest() {
    on_scratch_host(|| {
        let guest = plug_guest();
        let socket = Socket::open().unwrap();
        let bridge = socket.interface_index("insbr0").unwrap().unwrap();
        let host_end = socket.interface(GUEST_VETH).unwrap().unwrap();
        assert!(host_end.header.flags.contains(LinkFlags::Up));
        assert!(host_end.attributes.contains(&LinkAttribute::Controller(bridge)));
        assert_eq!(socket.interface_index("eth0").unwrap(), None, "it was never on the host");
        let guest_end = guest.netlink().interface("eth0").unwrap().unwrap();
        assert!(guest_end.attributes.contains(&LinkAttribute::Address(GUEST_MAC.to_vec())));
    });
}

#[test]
fn a_pair_is_removed_with_either_end_and_only_once() {
    on_scratch_host(|| {
        let guest = plug_guest();
        let socket = Socket::open().unwrap();
        assert!(socket.delete_interface(GUEST_VETH).unwrap());
        assert!(!socket.delete_interface(GUEST_VETH).unwrap());
        assert_eq!(guest.netlink().interface_index("eth0").unwrap(), None);
    });
}

#[test]
fn the_largest_packet_is_set_at_both_ends() {
    on_scratch_host(|| {
        let here = File::open("/proc/thread-self/ns/net").unwrap();
        let socket = Socket::open().unwrap();
        let pair = VethPair {
            host_name: "one",
            guest_name: "two",
            guest_netns: here.as_fd(),
            bridge_index: None,
            mac: GUEST_MAC,
            mtu: Some(1400),
        };
        socket.create_veth(&pair).unwrap();
        for name in ["one", "two"] {
            let end = socket.interface(name).unwrap().unwrap();
            assert!(end.attributes.contains(&LinkAttribute::Mtu(1400)), "{name}");
        }
    });
}

#[test]
fn a_refusal_says_what_was_done_and_what_the_kernel_says() {
    on_scratch_host(|| {
        let here = File::open("/proc/thread-self/ns/net").unwrap();
        let pair = VethPair {
            host_name: "one",
            guest_name: "two",
            guest_netns: here.as_fd(),
            bridge_index: Some(9999),
            mac: [1; 6], // a group's, so no interface's
            mtu: None,
        };
        let error = Socket::open().unwrap().create_veth(&pair).unwrap_err();
        assert!(error.to_string().starts_with("failed to create veth one for two of the guest"), "{error}");
        assert_eq!(error.errno(), Some(nix::libc::EADDRNOTAVAIL));

        let error = Socket::open().unwrap().add_default_route([10, 9, 9, 9].into(), 1).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to add the default route through 10.9.9.9: Nexthop has invalid gateway"
        );
    });
}
