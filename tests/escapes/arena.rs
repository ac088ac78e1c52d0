//! A host with an attacker and a neighbour.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Stdio;

use insula_testkit::hostile::{Attempt, Verdict};
use insula_testkit::{Command, Image, Process, ScratchHost};

use super::pulse::{Pulse, Samples};
use super::witness::Witness;

/// The name of the VPS that attacks.
pub const ATTACKER: &str = "attacker";
/// The name of the VPS that must notice nothing.
pub const NEIGHBOUR: &str = "neighbour";

/// The limits of an arena's VPSes, so that bombs are bounded.
const PROCESSES: u32 = 200;
const MEMORY_MIB: u32 = 256;
const DISK_MIB: u32 = 200;

/// How many times agent and neighbour are asked while nothing else happens.
const IDLE_SAMPLES: usize = 100;

/// A host with its two guests, and the things on it that attempts look for.
pub struct Arena {
    pub host: ScratchHost,
    /// A process of the host that an attacker would like to end.
    pub victim: Process,
    /// How quickly agent and neighbour answer when nothing happens.
    pub idle: Samples,
    /// The host's address for its guests.
    pub gateway: String,
    neighbour: String,
    socket: String,
    _listener: UnixListener,
}

impl Arena {
    pub fn new() -> Self {
        let host = ScratchHost::with(Image::Debian12);
        for name in [ATTACKER, NEIGHBOUR] {
            create(&host, name);
        }
        serve(&host);
        std::fs::write(host.directory().join("canary"), "of the host").unwrap();
        let victim = Command::new("sleep").args(["infinity"]);
        let victim = victim.spawn_with(Stdio::null(), Stdio::null(), Stdio::null());
        let socket = format!("{}-canary", host.cgroup_root());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&socket).unwrap()).unwrap();
        let idle = Pulse::take(&host, NEIGHBOUR, IDLE_SAMPLES);
        let network = host.insula_json(&["network", "show", "default"]);
        let gateway = network["gateway"].as_str().unwrap().to_owned();
        let neighbour = host.vps(NEIGHBOUR).interfaces[0].ip_addresses[0].clone();
        Self { host, victim, idle, gateway, neighbour, socket, _listener: listener }
    }

    /// Creates one more guest.
    pub fn create(&self, name: &str) {
        create(&self.host, name);
    }

    /// Makes the attempts, one after the other. None may succeed, and no other guest may notice.
    pub fn run_all(&self, attempts: &[Attempt]) {
        let before = Witness::observe(self);
        let pulse = Pulse::start(&self.host, NEIGHBOUR);
        let failures: Vec<String> =
            attempts.iter().filter_map(|attempt| self.run(attempt, &before).err()).collect();
        pulse.stop().assert_bearable(&self.idle);
        assert!(
            failures.is_empty(),
            "{} of {} attempts:\n{}",
            failures.len(),
            attempts.len(),
            failures.join("\n")
        );
    }

    fn run(&self, attempt: &Attempt, before: &Witness) -> Result<(), String> {
        let outcome = self.command(ATTACKER, attempt).run();
        let Attempt { name, tries, .. } = attempt;
        match Verdict::parse(&outcome.text()) {
            Some(Verdict::Refused(what)) => println!("{name}: refused: {what}"),
            Some(Verdict::Succeeded(what)) => return Err(format!("{name} ({tries}) has succeeded: {what}")),
            None => return Err(format!("{name} did not come to an end of its own: {outcome}")),
        }
        let changes = Witness::observe(self).changes_since(before);
        if changes.is_empty() { Ok(()) } else { Err(format!("{name} ({tries}) has changed {changes}")) }
    }

    /// The command that makes an attempt in a VPS.
    pub fn command(&self, vps: &str, attempt: &Attempt) -> Command {
        let canary = self.host.directory().join("canary").display().to_string();
        let environment = [
            format!("CANARY={canary}"),
            format!("HOST_PID={}", self.victim.id()),
            format!("HOST_SOCKET={}", self.socket),
            // Slots are numbered, so a longer number belongs to another host.
            format!("HOST_NAMES={0}\\b|{0}/", self.host.cgroup_root()),
            format!("GATEWAY={}", self.gateway),
            format!("NEIGHBOUR={}", self.neighbour),
            format!("PROCESSES={PROCESSES}"),
            format!("MEMORY_MIB={MEMORY_MIB}"),
            format!("DISK_MIB={DISK_MIB}"),
        ];
        let environment = environment.iter().flat_map(|variable| ["--env", variable]);
        let exec = self.host.command("insula").args(["exec", "--no-tty", vps]).args(environment);
        exec.args(["--"]).args(attempt.argv())
    }
}

fn create(host: &ScratchHost, name: &str) {
    let (processes, memory, disk) = (PROCESSES.to_string(), format!("{MEMORY_MIB}M"), format!("{DISK_MIB}M"));
    let limits = ["--cpus", "0.5", "--processes", &processes, "--memory", &memory, "--disk", &disk];
    host.create_ready(name, Image::Debian12, &limits);
}

/// Lets the neighbour serve HTTP on port 80.
fn serve(host: &ScratchHost) {
    const SERVER: &str = r#"
use strict; use Socket;
socket(my $server, AF_INET, SOCK_STREAM, 0);
setsockopt($server, SOL_SOCKET, SO_REUSEADDR, 1);
bind($server, sockaddr_in(80, INADDR_ANY)) or die $!;
listen($server, 100) or die $!;
exit if fork;
open(STDOUT, ">/dev/null"), open(STDERR, ">/dev/null"), open(STDIN, "</dev/null");
while (accept(my $client, $server)) {
    sysread($client, my $request, 4096);
    syswrite($client, "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok");
    close $client;
}
"#;
    host.insula_ok(&["exec", "--no-tty", NEIGHBOUR, "--", "perl", "-e", SERVER]);
}
