use std::net::UdpSocket;

use insula_net::{Traffic, observe_traffic};

use crate::scratch::{GUEST_VETH, on_scratch_host, plug_guest};

/// An Ethernet frame with a datagram of 1,000 bytes: 14 + 20 + 8 + 1000.
const FRAME: u64 = 1042;

#[test]
fn what_a_guest_sends_its_end_of_the_host_has_received() {
    on_scratch_host(|| {
        let guest = plug_guest();
        let traffic = || observe_traffic().unwrap()[&GUEST_VETH.parse().unwrap()];
        let before = traffic();
        guest.within(|| {
            let socket = UdpSocket::bind("10.64.3.2:0").unwrap();
            for _ in 0..100 {
                socket.send_to(&[7; 1000], "10.64.3.1:9").unwrap();
            }
        });
        let after = traffic();
        let received = after.received_bytes - before.received_bytes;
        // There is the guest's search for its neighbour, too; and the host answers that nobody listens.
        assert!((100 * FRAME..100 * FRAME + 1000).contains(&received), "{before:?} {after:?}");
        assert!(after.sent_bytes - before.sent_bytes < 100 * FRAME, "{before:?} {after:?}");
    });
}

#[test]
fn every_interface_is_told_at_once() {
    on_scratch_host(|| {
        let guest = plug_guest();
        let told = observe_traffic().unwrap();
        for name in ["lo", "insbr0", GUEST_VETH] {
            assert!(told.contains_key(&name.parse().unwrap()), "{name}: {told:?}");
        }
        assert_eq!(told.len(), 3);
        assert_eq!(told[&"lo".parse().unwrap()], Traffic::default());
        drop(guest);
    });
}
