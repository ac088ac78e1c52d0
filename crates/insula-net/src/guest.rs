//! The network configuration that a guest finds. It is the same as what was set from outside before
//! its init ran.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use insula_types::{NetworkSpec, Nic, PlacedNic};

/// A file that is written for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// The path, below the guest's `/run`.
    pub path: PathBuf,
    /// The permissions, such as `0o644`.
    pub mode: u32,
    /// The contents.
    pub contents: String,
}

/// The files in the guest's `/run` that describe its interfaces, each with its network: those of
/// systemd-networkd (systemd.network(5)), and `insula/interfaces` for ifupdown (interfaces(5)),
/// whose own file has to name it as a `source`.
///
/// They are in `/run` so that a guest's own file of the same name in `/etc` wins, and a full disk
/// doesn't matter.
pub fn render_guest_network(nics: &[(PlacedNic<'_>, &NetworkSpec)], host_dns: &[IpAddr]) -> Vec<GuestFile> {
    let ifupdown = GuestFile {
        path: "insula/interfaces".into(),
        mode: 0o644,
        contents: render_ifupdown(nics, host_dns),
    };
    let file = |&(placed, network): &(PlacedNic<'_>, &NetworkSpec)| GuestFile {
        path: format!("systemd/network/10-insula-{}.network", placed.nic.name).into(),
        mode: 0o644, // systemd-networkd is no root
        contents: render_networkd(placed, network, host_dns),
    };
    nics.iter().map(file).chain([ifupdown]).collect()
}

/// The guest's `resolv.conf`: the name servers of all its networks, each once.
pub fn render_resolv_conf(nics: &[(&Nic, &NetworkSpec)], host_dns: &[IpAddr]) -> String {
    let mut servers: Vec<&IpAddr> = vec![];
    for server in nics.iter().flat_map(|(nic, network)| nameservers(nic, network, host_dns)) {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers.iter().map(|server| format!("nameserver {server}\n")).collect()
}

/// The name servers of an interface: those of its network. If the network has none, the interface
/// with the default route gets those of the host.
fn nameservers<'a>(nic: &Nic, network: &'a NetworkSpec, host_dns: &'a [IpAddr]) -> &'a [IpAddr] {
    match nic.default_route && network.dns.is_empty() {
        true => host_dns,
        false => &network.dns,
    }
}

/// One `.network` file of systemd-networkd.
fn render_networkd(placed: PlacedNic<'_>, network: &NetworkSpec, host_dns: &[IpAddr]) -> String {
    let PlacedNic { nic, addresses } = placed;
    let mut text = format!("[Match]\nName={}\n\n[Network]\n", nic.name);
    for address in addresses {
        let _ = writeln!(text, "Address={address}/{}", network.subnet.prefix_len()); // a String takes all
    }
    if nic.default_route {
        let _ = writeln!(text, "Gateway={}", network.gateway());
    }
    for server in nameservers(nic, network, host_dns) {
        let _ = writeln!(text, "DNS={server}");
    }
    text.push_str(
        "# Keep what was set before init ran, also while the host's end is being replaced.\n\
         KeepConfiguration=static\n\
         ConfigureWithoutCarrier=yes\n\
         IgnoreCarrierLoss=yes\n\
         # The network has IPv4 only.\n\
         LinkLocalAddressing=no\n\
         IPv6AcceptRA=no\n",
    );
    text
}

/// The file for interfaces(5). It first removes what the host set before init ran, because ifup(8)
/// fails on an address that exists already.
fn render_ifupdown(nics: &[(PlacedNic<'_>, &NetworkSpec)], host_dns: &[IpAddr]) -> String {
    let mut text = String::from("# The host sets this before init runs, at each start.\n");
    for (PlacedNic { nic, addresses }, network) in nics {
        let _ = writeln!(text, "\nauto {}", nic.name); // a String takes all
        for (index, address) in addresses.iter().enumerate() {
            let is_first = index == 0; // what is the interface's is said with its first address
            let _ = writeln!(text, "iface {} inet static", nic.name);
            if is_first {
                let _ = writeln!(text, "    pre-up ip -4 address flush dev {}", nic.name);
            }
            let _ = writeln!(text, "    address {address}/{}", network.subnet.prefix_len());
            if is_first && nic.default_route {
                let _ = writeln!(text, "    gateway {}", network.gateway());
            }
            if is_first {
                text.push_str(&render_dns_option(nameservers(nic, network, host_dns)));
            }
        }
    }
    text
}

/// The option for resolvconf(8), which a guest may have.
fn render_dns_option(servers: &[IpAddr]) -> String {
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    if names.is_empty() { String::new() } else { format!("    dns-nameservers {}\n", names.join(" ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn network(dns: &[&str]) -> NetworkSpec {
        NetworkSpec {
            name: "default".parse().unwrap(),
            attachment: insula_types::Attachment::Bridged("insbr0".parse().unwrap()),
            subnet: "10.64.3.0/24".parse().unwrap(),
            dns: dns.iter().map(|server| server.parse().unwrap()).collect(),
            origin: insula_types::NetworkOrigin::Settings,
        }
    }

    /// The interface called `eth0` has the default route.
    fn nic(name: &str) -> Nic {
        Nic {
            name: name.parse().unwrap(),
            network: "default".parse().unwrap(),
            mac: "02:00:00:00:00:0a".parse().unwrap(),
            default_route: name == "eth0",
        }
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The files for `eth0` with two addresses and `eth1` with one, in one network.
    fn files_of_two(first: &Nic, second: &Nic, network: &NetworkSpec, dns: &[IpAddr]) -> Vec<GuestFile> {
        let (two, one) = (addresses(&["10.64.3.2", "10.64.3.9"]), addresses(&["10.64.3.3"]));
        let first = PlacedNic { nic: first, addresses: &two };
        let second = PlacedNic { nic: second, addresses: &one };
        render_guest_network(&[(first, network), (second, network)], dns)
    }

    #[test]
    fn one_interface_leads_to_the_world() {
        let files = files_of_two(&nic("eth0"), &nic("eth1"), &network(&[]), &addresses(&["192.0.2.7"]));
        assert_eq!(files[0].path.to_str(), Some("systemd/network/10-insula-eth0.network"));
        assert_eq!(files[1].path.to_str(), Some("systemd/network/10-insula-eth1.network"));
        assert_eq!(files[0].mode, 0o644);
        assert_snapshot!(files[0].contents, @r"
        [Match]
        Name=eth0

        [Network]
        Address=10.64.3.2/24
        Address=10.64.3.9/24
        Gateway=10.64.3.1
        DNS=192.0.2.7
        # Keep what was set before init ran, also while the host's end is being replaced.
        KeepConfiguration=static
        ConfigureWithoutCarrier=yes
        IgnoreCarrierLoss=yes
        # The network has IPv4 only.
        LinkLocalAddressing=no
        IPv6AcceptRA=no
        ");
        assert_snapshot!(files[1].contents, @r"
        [Match]
        Name=eth1

        [Network]
        Address=10.64.3.3/24
        # Keep what was set before init ran, also while the host's end is being replaced.
        KeepConfiguration=static
        ConfigureWithoutCarrier=yes
        IgnoreCarrierLoss=yes
        # The network has IPv4 only.
        LinkLocalAddressing=no
        IPv6AcceptRA=no
        ");
    }

    #[test]
    fn ifupdown_is_told_the_same() {
        let dns = addresses(&["192.0.2.7", "192.0.2.8"]);
        let files = files_of_two(&nic("eth0"), &nic("eth1"), &network(&[]), &dns);
        assert_eq!(
            (files[2].path.to_str(), files[2].mode, files.len()),
            (Some("insula/interfaces"), 0o644, 3)
        );
        assert_snapshot!(files[2].contents, @r"
        # The host sets this before init runs, at each start.

        auto eth0
        iface eth0 inet static
            pre-up ip -4 address flush dev eth0
            address 10.64.3.2/24
            gateway 10.64.3.1
            dns-nameservers 192.0.2.7 192.0.2.8
        iface eth0 inet static
            address 10.64.3.9/24

        auto eth1
        iface eth1 inet static
            pre-up ip -4 address flush dev eth1
            address 10.64.3.3/24
        ");
        assert_eq!(render_dns_option(&[]), "");
    }

    #[test]
    fn the_interface_with_the_default_route_may_be_any() {
        let first = Nic { default_route: false, ..nic("eth0") };
        let second = Nic { default_route: true, ..nic("eth1") };
        let files = files_of_two(&first, &second, &network(&[]), &addresses(&["192.0.2.7"]));
        let has_route = |file: &GuestFile| file.contents.contains("Gateway=10.64.3.1\nDNS=192.0.2.7\n");
        assert_eq!((has_route(&files[0]), has_route(&files[1])), (false, true));
        let (before, after) = files[2].contents.split_once("auto eth1").unwrap();
        assert_eq!((before.contains("gateway"), after.contains("gateway 10.64.3.1")), (false, true));
    }

    #[test]
    fn the_network_s_name_servers_win_over_the_host_s() {
        let host_dns = ["192.0.2.7".parse().unwrap()];
        let eth0 = nic("eth0");
        for (dns, expected) in [
            (vec![], "nameserver 192.0.2.7\n"),
            (vec!["9.9.9.9", "2620:fe::fe"], "nameserver 9.9.9.9\nnameserver 2620:fe::fe\n"),
        ] {
            assert_eq!(render_resolv_conf(&[(&eth0, &network(&dns))], &host_dns), expected);
        }
        assert_eq!(render_resolv_conf(&[(&eth0, &network(&[]))], &[]), "");
    }

    #[test]
    fn name_servers_come_from_all_networks() {
        let host_dns = ["192.0.2.7".parse().unwrap()];
        let (eth0, eth1) = (nic("eth0"), nic("eth1"));
        let (plain, office) = (network(&[]), network(&["10.64.4.1", "192.0.2.7"]));
        let servers = render_resolv_conf(&[(&eth0, &plain), (&eth1, &office)], &host_dns);
        assert_eq!(servers, "nameserver 192.0.2.7\nnameserver 10.64.4.1\n");
        assert_eq!(
            render_resolv_conf(&[(&eth1, &plain)], &host_dns),
            "",
            "the host's are not reached that way"
        );
        let (one, other) = (addresses(&["10.64.3.2"]), addresses(&["10.64.4.2"]));
        let eth0 = PlacedNic { nic: &eth0, addresses: &one };
        let eth1 = PlacedNic { nic: &eth1, addresses: &other };
        let files = render_guest_network(&[(eth0, &plain), (eth1, &office)], &host_dns);
        assert!(files[1].contents.contains("DNS=10.64.4.1\nDNS=192.0.2.7\n"));
        assert!(files[2].contents.ends_with("    dns-nameservers 10.64.4.1 192.0.2.7\n"));
    }
}
