//! The host's name servers, which guests use by default.

use std::fs;
use std::net::IpAddr;

/// The host's own configuration, and then the one of systemd-resolved, for hosts whose own names
/// only resolved itself.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The host's name servers that a guest can reach, in the host's order. They come from the first
/// file that names any. Empty if none does.
///
/// Guests have IPv4 only, and a loopback address would lead to the guest itself.
pub fn observe_host_dns() -> Vec<IpAddr> {
    FILES
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok()) // a host without the file has no servers there
        .map(|text| reachable_nameservers(&text))
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

/// The `nameserver` lines of a resolv.conf(5) that a guest can reach.
fn reachable_nameservers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then(|| words.next())?
        })
        .filter_map(|word| word.parse().ok())
        .filter(|server: &IpAddr| server.is_ipv4() && !server.is_loopback() && !server.is_unspecified())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_servers_that_guests_reach_are_taken() {
        let text = "# nameserver 1.1.1.1\nsearch example.org\nnameserver 127.0.0.53\nnameserver\t192.0.2.7  # ours\n\
                    nameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver 0.0.0.0\nnameserver\n\
                    nameserver 169.254.169.253\noptions edns0\nnameserver bogus\n";
        let expected: Vec<IpAddr> = ["192.0.2.7", "169.254.169.253"].map(|text| text.parse().unwrap()).into();
        assert_eq!(reachable_nameservers(text), expected);
    }
}
