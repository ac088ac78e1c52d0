//! Networks and guests are added and removed by element, and what belongs to others stays as it is.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use insula_net::{
    CONNECTIONS_AT_ONCE, CONNECTIONS_PER_SECOND, GuestPort, TableName, add_network, add_ports, ensure_guard,
    ensure_nat, remove_network, remove_ports,
};
use insula_sys::program::Program;
use insula_types::{MacAddress, NetworkSpec};

use crate::scratch::{GUEST_ADDRESS, GUEST_MAC, GUEST_VETH, Namespace, network, on_scratch_host, plug_guest};

fn table() -> TableName {
    "insula_test".parse().unwrap()
}

fn nft(arguments: &str) -> String {
    String::from_utf8(Program::new("nft").args(arguments.split(' ')).output().unwrap()).unwrap()
}

fn port(veth: &str) -> GuestPort {
    GuestPort {
        veth: veth.parse().unwrap(),
        mac: MacAddress(GUEST_MAC),
        addresses: vec![GUEST_ADDRESS.into()],
    }
}

/// A network next to that of these tests, without a gap.
fn office() -> NetworkSpec {
    NetworkSpec { name: "office".parse().unwrap(), subnet: "10.64.4.0/24".parse().unwrap(), ..network() }
}

/// How many packets the counter has counted.
fn counted(family: &str, counter: &str) -> u64 {
    let listing = nft(&format!("list counter {family} insula_test {counter}"));
    let mut words = listing.split_ascii_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).unwrap_or_else(|| panic!("no count: {listing}")).parse().unwrap()
}

/// The elements of the set, as nft writes them.
fn set(family: &str, set: &str) -> String {
    nft(&format!("list set {family} insula_test {set}"))
}

/// Opens connections, as far as the kernel can tell: sends one datagram to each of so many ports.
/// Returns how many were sent.
fn knock(guest: &Namespace, address: IpAddr, ports: u16) -> u64 {
    let send = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        // An error belongs to an earlier datagram, and means that this one was not sent.
        (1..=ports).filter(|port| socket.send_to(b"?", (address, *port)).is_ok()).count()
    };
    u64::try_from(guest.within(send)).unwrap()
}

#[test]
fn what_is_there_is_left_as_it_is() {
    on_scratch_host(|| {
        let (one, two) = (port(GUEST_VETH), port("int0000000000aa"));
        let ports = [one, two];
        assert!(ensure_guard(&table(), &ports).unwrap());
        assert!(ensure_nat(&table(), &[network(), office()]).unwrap());
        let before = nft("list ruleset");
        assert!(!ensure_guard(&table(), &ports).unwrap());
        assert!(!ensure_nat(&table(), &[network(), office()]).unwrap());
        add_ports(&table(), &ports).unwrap();
        add_network(&table(), &office()).unwrap();
        assert_eq!(nft("list ruleset"), before);
    });
}

#[test]
fn what_differs_is_corrected_by_element() {
    on_scratch_host(|| {
        ensure_guard(&table(), &[port(GUEST_VETH), port("ins0000000000bb")]).unwrap();
        ensure_nat(&table(), &[office()]).unwrap();
        assert!(ensure_guard(&table(), &[port(GUEST_VETH), port("ins0000000000cc")]).unwrap());
        assert!(ensure_nat(&table(), &[network()]).unwrap());
        for name in ["guests", "addresses"] {
            let set = set("bridge", name);
            let has = |veth| set.contains(veth);
            let found = [GUEST_VETH, "ins0000000000bb", "ins0000000000cc"].map(has);
            assert_eq!(found, [true, false, true], "{set}");
        }
        for name in ["networks", "within"] {
            let set = set("ip", name);
            assert!(set.contains("10.64.3.0/24") && !set.contains("10.64.4.0/24"), "{set}");
        }
        nft("flush chain bridge insula_test guest");
        assert!(ensure_guard(&table(), &[port(GUEST_VETH)]).unwrap(), "rules were missing");
        assert!(nft("list chain bridge insula_test guest").contains("drop"));
    });
}

#[test]
fn the_bound_of_a_guest_goes_on_while_others_come_and_go() {
    on_scratch_host(|| {
        let guest = plug_guest();
        let gateway = network().gateway();
        ensure_nat(&table(), &[network()]).unwrap();
        knock(&guest, gateway, 60_000);
        let emptied = Instant::now();
        let refused = counted("ip", "refused");
        assert!(refused > 0, "the bucket is empty");

        add_network(&table(), &office()).unwrap();
        remove_network(&table(), &office()).unwrap();
        remove_network(&table(), &office()).unwrap();
        assert!(!ensure_nat(&table(), &[network()]).unwrap(), "as an agent does that begins");
        assert!(counted("ip", "refused") >= refused, "its counter goes on");
        assert!(set("ip", "openers").contains(&GUEST_ADDRESS.to_string()));

        let refused = counted("ip", "refused");
        let sent = knock(&guest, gateway, 20_000);
        let admitted = sent - (counted("ip", "refused") - refused);
        // What the bucket has gained since. A new bucket would hold CONNECTIONS_AT_ONCE more.
        let most = (emptied.elapsed().as_secs() + 1) * u64::from(CONNECTIONS_PER_SECOND);
        assert!(admitted <= most, "{admitted} connections instead of {most}");
        assert!(sent > most + u64::from(CONNECTIONS_AT_ONCE), "a new bucket would have been seen");
    });
}

#[test]
fn what_the_guard_has_dropped_is_counted_on() {
    on_scratch_host(|| {
        let guest = plug_guest();
        ensure_guard(&table(), &[GuestPort { addresses: vec![], ..port(GUEST_VETH) }]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10); // a new pair may lose the first packet
        while counted("bridge", "forged") == 0 {
            assert!(Instant::now() < deadline, "the guard drops what comes from no address");
            knock(&guest, network().gateway(), 1); // asks by ARP
        }
        let dropped = counted("bridge", "forged");
        add_ports(&table(), &[port("ins0000000000bb")]).unwrap();
        remove_ports(&table(), &[port("ins0000000000bb")]).unwrap();
        nft("add rule bridge insula_test guest accept"); // not ours: the rules are exchanged
        assert!(ensure_guard(&table(), &[port(GUEST_VETH)]).unwrap());
        assert!(counted("bridge", "forged") >= dropped);
    });
}

/// The tables as they were created by agents that replaced them whole.
const OLD_TABLES: &str = "
table ip insula_test {
    set openers { type ipv4_addr; size 65536; flags dynamic,timeout; timeout 1m; }
    chain opening {
        update @openers { ip saddr limit rate over 1000/second burst 5000 packets } counter drop
    }
    chain input {
        type filter hook input priority filter; policy accept;
        ip saddr 10.64.3.0/24 ct state new jump opening
    }
    chain forward {
        type filter hook forward priority filter; policy accept;
        ip saddr 10.64.3.0/24 ct state new jump opening
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr 10.64.3.0/24 ip daddr != 10.64.3.0/24 masquerade comment \"network default\"
    }
}
table bridge insula_test {
    set guests {
        type ifname
        elements = { \"ins0000000000aa\" }
    }
    set addresses {
        type ifname . ether_addr . ipv4_addr
        elements = { \"ins0000000000aa\" . 02:00:00:00:00:aa . 10.64.3.2 }
    }
    chain prerouting {
        type filter hook prerouting priority dstnat; policy accept;
        iifname @guests jump guest
    }
    chain guest {
        iifname . ether saddr . ip saddr @addresses accept
        iifname . ether saddr . arp saddr ip @addresses iifname . arp saddr ether . arp saddr ip @addresses accept
        counter drop
    }
}
";

#[test]
fn the_rules_of_an_older_agent_are_exchanged_and_its_sets_stay() {
    on_scratch_host(|| {
        let guest = plug_guest();
        Program::new("nft").args(["-f", "-"]).input(OLD_TABLES).output().unwrap();
        knock(&guest, network().gateway(), 10);
        let handle = |text: &str| text.lines().find(|line| line.contains("openers")).unwrap().to_owned();
        let openers = handle(&nft("-a list table ip insula_test"));
        assert!(ensure_nat(&table(), &[network()]).unwrap());
        assert!(ensure_guard(&table(), &[port(GUEST_VETH)]).unwrap());
        assert_eq!(handle(&nft("-a list table ip insula_test")), openers, "it is the same set");
        assert!(set("ip", "openers").contains(&GUEST_ADDRESS.to_string()), "with what was in it");
        assert!(!nft("list table ip insula_test").contains("saddr 10.64.3.0/24"), "the rules are new");
        assert!(!ensure_nat(&table(), &[network()]).unwrap());
        assert!(!ensure_guard(&table(), &[port(GUEST_VETH)]).unwrap());
    });
}
