//! NAT and the bound on new connections, between a guest, the host and a server outside.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use insula_net::{
    CONNECTIONS_AT_ONCE, CONNECTIONS_PER_SECOND, FirewallError, TableName, ensure_firewall_absent,
    ensure_forwarding, ensure_guard, ensure_nat, observe_forward_blockers,
};
use insula_sys::netlink::Socket;
use insula_sys::program::Program;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrV4, SocketType, ipproto, sockopt};

use crate::scratch::{Link, Namespace, network, on_scratch_host, plug_guest, plug_neighbour};

/// The host's address in the world, and a server there. Ranges for documentation (RFC 5737).
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Long enough for any machine; a test that works never waits for it.
const DEADLINE: Duration = Duration::from_secs(10);

fn table() -> TableName {
    "insula_test".parse().unwrap()
}

/// The world outside of the host. It has no route to guests.
fn plug_world() -> Namespace {
    let world = Namespace::new();
    world.plug(&Link {
        host_name: "world0",
        bridge_index: None,
        mac: [2, 0, 0, 0, 0, 1],
        address: SERVER,
        gateway: None,
    });
    let socket = Socket::open().unwrap();
    let world0 = socket.interface_index("world0").unwrap().unwrap();
    socket.add_address(world0, HOST.into(), 24).unwrap();
    world
}

#[test]
fn a_guest_reaches_the_world_under_the_host_s_address() {
    on_scratch_host(|| {
        let guest = plug_guest();
        let world = plug_world();
        ensure_forwarding().unwrap();
        ensure_nat(&table(), &[network()]).unwrap();
        talk_udp(&guest, &world);
        talk_tcp(&guest, &world);
        guest.within(|| ping(SERVER));

        ensure_nat(&table(), &[network()]).unwrap();
        talk_tcp(&guest, &world); // applied twice is as good as once
    });
}

#[test]
fn a_guest_alone_does_not_fill_the_table_of_connections() {
    on_scratch_host(|| {
        let guest = plug_guest();
        let world = plug_world();
        ensure_forwarding().unwrap();
        ensure_nat(&table(), &[network()]).unwrap();
        let known = || std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
        let began = Instant::now();
        for target in [SERVER.into(), network().gateway()] {
            guest.within(|| knock_at_all_ports(target));
        }
        let known: u64 = known().trim().parse().unwrap();
        let seconds = began.elapsed().as_secs() + 1;
        let most = u64::from(CONNECTIONS_AT_ONCE) + seconds * u64::from(CONNECTIONS_PER_SECOND);
        assert!(known <= most, "{known} connections within {seconds} s, instead of {most}");
        // Another has a bound of its own.
        talk_tcp(&plug_neighbour(), &world);
    });
}

/// A connection in the kernel's eyes each: a datagram to every port. Refusals are answered; nobody waits for them.
fn knock_at_all_ports(address: IpAddr) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for port in 1..=60_000 {
        let _ = socket.send_to(b"?", (address, port)); // the error is that of an earlier one
    }
}

fn talk_udp(guest: &Namespace, world: &Namespace) {
    let server = world.within(|| UdpSocket::bind((SERVER, 0)).unwrap());
    let client = guest.within(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
    }
    let mut buffer = [0; 16];
    client.send_to(b"hello", server.local_addr().unwrap()).unwrap();
    let (length, from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from.ip()), (&b"hello"[..], HOST.into()));
    server.send_to(b"world", from).unwrap();
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from.ip()), (&b"world"[..], SERVER.into()));
}

fn talk_tcp(guest: &Namespace, world: &Namespace) {
    let listener = world.within(|| TcpListener::bind((SERVER, 0)).unwrap());
    let address: SocketAddr = listener.local_addr().unwrap();
    let mut client = guest.within(|| TcpStream::connect_timeout(&address, DEADLINE).unwrap());
    let (mut server, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), HOST);
    client.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    server.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"hello");
}

/// Sends an ICMP echo request (RFC 792) and waits for its reply.
fn ping(address: Ipv4Addr) {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP)).unwrap();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(DEADLINE)).unwrap();
    // type 8, code 0, checksum, identifier 1, sequence number 1
    let request = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
    let address = SocketAddrV4::new(address, 0);
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &address).unwrap();
    let mut packet = [0; 64];
    let (length, _) = rustix::net::recv(&socket, &mut packet[..], RecvFlags::empty()).unwrap();
    assert_eq!((length, packet[20], &packet[24..28]), (28, 0, &request[4..]), "an echo reply");
}

#[test]
fn our_tables_are_removed_once_and_those_of_others_stay() {
    on_scratch_host(|| {
        let foreign = "table ip insula_other\ntable ip filter\n";
        Program::new("nft").args(["-f", "-"]).input(foreign).output().unwrap();
        ensure_nat(&table(), &[network()]).unwrap();
        ensure_guard(&table(), &[]).unwrap();
        assert!(ensure_firewall_absent(&table()).unwrap());
        assert!(!ensure_firewall_absent(&table()).unwrap());
        let left = Program::new("nft").args(["list", "tables"]).output().unwrap();
        assert_eq!(String::from_utf8(left).unwrap(), foreign);
    });
}

#[test]
fn a_chain_that_cuts_guests_off_is_reported() {
    on_scratch_host(|| {
        assert_eq!(observe_forward_blockers(&table()).unwrap(), []);
        let docker = "table ip filter {\nchain FORWARD {\ntype filter hook forward priority 0; policy drop;\n}\n\
                      chain INPUT {\ntype filter hook input priority 0; policy drop;\n}\n}\n";
        Program::new("nft").args(["-f", "-"]).input(docker).output().unwrap();
        let blockers = observe_forward_blockers(&table()).unwrap();
        assert_eq!(blockers.len(), 1, "{blockers:?}");
        let text = blockers[0].to_string();
        assert!(text.starts_with("chain FORWARD of nftables table ip filter drops"), "{text}");
    });
}

#[test]
fn what_nft_refuses_is_told() {
    on_scratch_host(|| {
        let port = insula_net::GuestPort {
            veth: "ins0000000000aa".parse().unwrap(),
            mac: "02:00:00:00:00:aa".parse().unwrap(),
            addresses: vec![],
        };
        let error = insula_net::add_ports(&table(), &[port]).unwrap_err();
        assert!(matches!(&error, FirewallError::Nft { .. }), "{error:?}");
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("No such file or directory"), "{source}");
    });
}
