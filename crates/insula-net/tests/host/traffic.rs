//! The traffic counters of interfaces, compared with what a guest really sends.

use std::io::ErrorKind;
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
        let socket = || guest.within(|| UdpSocket::bind("10.64.3.2:0").unwrap());
        // What is sent while a neighbour is sought may be dropped: the answer to the first shows that it is found.
        let first = socket();
        first.connect("10.64.3.1:9").unwrap();
        first.send(&[7]).unwrap();
        assert_eq!(first.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        let (before, socket) = (traffic(), socket());
        for _ in 0..100 {
            socket.send_to(&[7; 1000], "10.64.3.1:9").unwrap();
        }
        let after = traffic();
        let received = after.received_bytes - before.received_bytes;
        // A search for a neighbour may be among it; and the host answers that nobody listens.
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
