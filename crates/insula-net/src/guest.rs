//! The network configuration that a guest finds: the same as what was set from outside before its init ran.

use std::fmt::Write;
use std::net::IpAddr;
use std::path::PathBuf;

use insula_types::{NetworkSpec, Nic};

/// A file for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFile {
    /// Where, below the guest's `/run`.
    pub path: PathBuf,
    /// Its permissions.
    pub mode: u32,
    /// What is in it.
    pub contents: String,
}

/// The files for the guest's `/run` that tell of its interfaces, each with the network that it is plugged into: those of
/// systemd-networkd (systemd.network(5)), and `insula/interfaces` for ifupdown (interfaces(5)), whose own file has to
/// name it as a `source`. The first interface has the default route and the name servers.
///
/// They lie in `/run`: a guest's own file of the same name in `/etc` wins, and a full disk doesn't matter.
pub fn render_guest_network(nics: &[(&Nic, &NetworkSpec)], host_dns: &[IpAddr]) -> Vec<GuestFile> {
    let ifupdown = GuestFile {
        path: "insula/interfaces".into(),
        mode: 0o644,
        contents: render_ifupdown(nics, host_dns),
    };
    let file = |(number, &(nic, network)): (usize, &(&Nic, &NetworkSpec))| GuestFile {
        path: format!("systemd/network/10-insula-{}.network", nic.name).into(),
        mode: 0o644, // systemd-networkd is no root
        contents: render_networkd(nic, network, (number == 0).then_some(host_dns)),
    };
    nics.iter().enumerate().map(file).chain([ifupdown]).collect()
}

/// The guest's `resolv.conf`.
pub fn render_resolv_conf(network: &NetworkSpec, host_dns: &[IpAddr]) -> String {
    let servers = nameservers(network, host_dns).iter().map(|server| format!("nameserver {server}\n"));
    servers.collect()
}

/// The network's own name servers, or else the host's.
fn nameservers<'a>(network: &'a NetworkSpec, host_dns: &'a [IpAddr]) -> &'a [IpAddr] {
    if network.dns.is_empty() { host_dns } else { &network.dns }
}

/// One `.network` file. `host_dns` is there for the interface that leads to the world.
fn render_networkd(nic: &Nic, network: &NetworkSpec, host_dns: Option<&[IpAddr]>) -> String {
    let mut text = format!("[Match]\nName={}\n\n[Network]\n", nic.name);
    for address in &nic.addresses {
        let _ = writeln!(text, "Address={address}/{}", network.subnet.prefix_len()); // a String takes all
    }
    if let Some(host_dns) = host_dns {
        let _ = writeln!(text, "Gateway={}", network.gateway());
        for server in nameservers(network, host_dns) {
            let _ = writeln!(text, "DNS={server}");
        }
    }
    text.push_str(
        "# What was set before init ran stays, also while the host's end is being replaced.\n\
         KeepConfiguration=static\n\
         ConfigureWithoutCarrier=yes\n\
         IgnoreCarrierLoss=yes\n\
         # The network has IPv4 only.\n\
         LinkLocalAddressing=no\n\
         IPv6AcceptRA=no\n",
    );
    text
}

/// The part of interfaces(5). What the host has set before init ran is taken away first: ifup(8) fails on an address that is
/// there already.
fn render_ifupdown(nics: &[(&Nic, &NetworkSpec)], host_dns: &[IpAddr]) -> String {
    let mut text = String::from("# What the host has set before init ran, and sets at each start.\n");
    for (number, (nic, network)) in nics.iter().enumerate() {
        let _ = writeln!(text, "\nauto {}", nic.name); // a String takes all
        for (index, address) in nic.addresses.iter().enumerate() {
            let _ = writeln!(text, "iface {} inet static", nic.name);
            if index == 0 {
                let _ = writeln!(text, "    pre-up ip -4 address flush dev {}", nic.name);
            }
            let _ = writeln!(text, "    address {address}/{}", network.subnet.prefix_len());
            if (number, index) == (0, 0) {
                let _ = writeln!(text, "    gateway {}", network.gateway());
                text.push_str(&render_dns_option(nameservers(network, host_dns)));
            }
        }
    }
    text
}

/// For resolvconf(8), which a guest may have.
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
            bridge: "insbr0".parse().unwrap(),
            subnet: "10.64.3.0/24".parse().unwrap(),
            dns: dns.iter().map(|server| server.parse().unwrap()).collect(),
        }
    }

    fn nic(name: &str, addresses: &[&str]) -> Nic {
        Nic {
            name: name.parse().unwrap(),
            network: "default".parse().unwrap(),
            mac: "02:00:00:00:00:0a".parse().unwrap(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn the_first_interface_leads_to_the_world() {
        let (first, second) = (nic("eth0", &["10.64.3.2", "10.64.3.9"]), nic("eth1", &["10.64.3.3"]));
        let network = network(&[]);
        let dns = ["192.0.2.7".parse().unwrap()];
        let files = render_guest_network(&[(&first, &network), (&second, &network)], &dns);
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
        # What was set before init ran stays, also while the host's end is being replaced.
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
        # What was set before init ran stays, also while the host's end is being replaced.
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
        let (first, second) = (nic("eth0", &["10.64.3.2", "10.64.3.9"]), nic("eth1", &["10.64.3.3"]));
        let network = network(&[]);
        let dns = ["192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap()];
        let files = render_guest_network(&[(&first, &network), (&second, &network)], &dns);
        assert_eq!(
            (files[2].path.to_str(), files[2].mode, files.len()),
            (Some("insula/interfaces"), 0o644, 3)
        );
        assert_snapshot!(files[2].contents, @r"
        # What the host has set before init ran, and sets at each start.

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
    fn the_network_s_name_servers_win_over_the_host_s() {
        let host_dns = ["192.0.2.7".parse().unwrap()];
        assert_eq!(render_resolv_conf(&network(&[]), &host_dns), "nameserver 192.0.2.7\n");
        assert_eq!(
            render_resolv_conf(&network(&["9.9.9.9", "2620:fe::fe"]), &host_dns),
            "nameserver 9.9.9.9\nnameserver 2620:fe::fe\n"
        );
        assert_eq!(render_resolv_conf(&network(&[]), &[]), "");
    }
}
