//! Limits how many connections there may be, altogether and from one origin.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The origin that connections from an address are counted under: an IPv4 address, or the /64 that
/// an IPv6 customer usually has.
pub fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

/// Places for connections: a number altogether, and a number for each origin.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_per_origin: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one connection. It is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    origin: IpAddr,
}

impl Places {
    /// Makes `most` free places, of which each origin may have `most_per_origin`.
    pub fn new(most: usize, most_per_origin: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_origin, taken: Mutex::default() })
    }

    /// Takes a place for a connection from this address. `None` if there is no free one.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let origin = origin(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&origin).copied().unwrap_or_default();
        if own >= self.most_per_origin || taken.values().sum::<usize>() >= self.most {
            return None;
        }
        taken.insert(origin, own + 1);
        Some(Place { places: self.clone(), origin })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.origin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_and_for_all() {
        let places = Places::new(3, 2);
        let from = |address: &str| places.take(address.parse().unwrap());
        let (first, _second) = (from("192.0.2.1").unwrap(), from("192.0.2.1").unwrap());
        assert!(from("192.0.2.1").is_none(), "one origin has its two");
        let _third = from("2001:db8::1").unwrap();
        assert!(from("192.0.2.2").is_none(), "all three are taken");
        drop(first);
        assert!(from("192.0.2.1").is_some(), "one is free again");
    }

    #[test]
    fn a_customer_counts_once() {
        let origin = |address: &str| origin(address.parse().unwrap()).to_string();
        assert_eq!(origin("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(origin("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
