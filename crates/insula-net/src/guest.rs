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

/// The files for the guest's `/run` that tell systemd-networkd (systemd.network(5)) of its interfaces, each with
/// the network that it is plugged into. The first one has the default route and the name servers.
///
/// They lie in `/run`: a guest's own file of the same name in `/etc` wins, and a full disk doesn't matter.
pub fn render_guest_network(nics: &[(&Nic, &NetworkSpec)], host_dns: &[IpAddr]) -> Vec<GuestFile> {
    let file = |(number, &(nic, network)): (usize, &(&Nic, &NetworkSpec))| GuestFile {
        path: format!("systemd/network/10-insula-{}.network", nic.name).into(),
        mode: 0o644, // systemd-networkd is no root
        contents: render_networkd(nic, network, (number == 0).then_some(host_dns)),
    };
    nics.iter().enumerate().map(file).collect()
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
