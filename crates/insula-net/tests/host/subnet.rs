//! The choice of a free range, among addresses and routes that the host really has.

use insula_net::{choose_subnet, ensure_bridge, observe_occupied};
use insula_types::{InterfaceName, NetworkSpec};

use crate::scratch::{bridge, network, on_scratch_host, plug_guest};

#[test]
fn a_range_in_use_is_not_chosen() {
    on_scratch_host(|| {
        let no_bridge: InterfaceName = "none".parse().unwrap();
        let choose = || choose_subnet(&observe_occupied(&no_bridge).unwrap(), 42).unwrap();
        let free = choose();
        assert_eq!(choose(), free, "the same host, the same range");

        let taken = NetworkSpec { subnet: free, ..network() };
        ensure_bridge(&taken).unwrap();
        assert_ne!(choose(), free);
        let own = choose_subnet(&observe_occupied(&bridge()).unwrap(), 42);
        assert_eq!(own, Some(free), "our own bridge is no obstacle");
    });
}

#[test]
fn a_default_route_occupies_nothing() {
    on_scratch_host(|| {
        let guest = plug_guest(); // it has a default route
        guest.within(|| {
            let occupied = observe_occupied(&"none".parse().unwrap()).unwrap();
            assert!(occupied.contains(&network().subnet), "{occupied:?}");
            assert!(occupied.iter().all(|net| net.prefix_len() >= 8), "{occupied:?}");
        });
    });
}
