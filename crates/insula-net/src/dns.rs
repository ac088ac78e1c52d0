//! The servers that guests resolve names with where nothing else is set: those of the host.

use std::fs;
use std::net::IpAddr;

/// The host's own configuration, and what systemd-resolved found out where that names only resolved itself.
const FILES: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The host's name servers that a guest can reach, in the host's order: those of the first file that names any;
/// empty if none does.
///
/// Guests have IPv4 only, and the host's loopback addresses are their own.
pub fn observe_host_dns() -> Vec<IpAddr> {
    FILES
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok()) // a host without the file has no servers there
        .map(|text| reachable_nameservers(&text))
        .find(|servers| !servers.is_empty())
        .unwrap_or_default()
}

/// The `nameserver` lines of a resolv.conf(5).
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
