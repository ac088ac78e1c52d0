//! Every init boots, is ready, is on the network, stops, reboots and powers off. There is a test
//! for each image of `images/`, and one for the page `docs/guests.md` that promises this.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use insula_api::v1::VpsState;
use insula_runtime::plan::{InitPlan, ReadyMode, plan_init};
use insula_testkit::{Image, ScratchHost, Terminal, eventually, project_file};
use insula_types::InitKind;

/// An image, and what is found in its guests.
struct Guest {
    image: &'static str,
    /// The program that process 1 executes.
    program: &'static str,
    /// The program that configures the network.
    network: &'static str,
    /// A line of shell that fails if that program has not configured it.
    has_network: &'static str,
}

/// Declares the guests, and a test for each.
macro_rules! guests {
    ($($test:ident: $image:literal, $program:literal, $network:ident;)*) => {
        const GUESTS: &[Guest] = &[$(Guest {
            image: $image, program: $program, network: $network.0, has_network: $network.1,
        }),*];
        $(#[test]
        fn $test() {
            live($image);
        })*
    };
}

const NETWORKD: (&str, &str) = ("systemd-networkd", "networkctl list eth0 | grep -w configured");
const IFUPDOWN: (&str, &str) = ("ifupdown", "ifquery --state eth0 && ifquery eth0 | grep -w address:");
const NOTHING: (&str, &str) = ("nothing", "! command -v ifup networkctl");

guests! {
    a_debian_11_guest_lives: "debian-11", "/lib/systemd/systemd", NETWORKD;
    a_debian_12_guest_lives: "debian-12", "/usr/lib/systemd/systemd", NETWORKD;
    a_debian_13_guest_lives: "debian-13", "/usr/lib/systemd/systemd", NETWORKD;
    a_debian_sid_guest_lives: "debian-sid", "/usr/lib/systemd/systemd", NETWORKD;
    a_guest_with_sysvinit_lives: "debian-13-sysvinit", "/usr/sbin/init", IFUPDOWN;
    a_guest_with_openrc_lives: "debian-13-openrc", "/usr/sbin/openrc-init", IFUPDOWN;
    a_guest_with_runit_lives: "debian-13-runit", "/usr/sbin/runit", IFUPDOWN;
    a_guest_with_busybox_lives: "debian-13-busybox", "/usr/bin/busybox", NOTHING;
}

fn live(image: &'static str) {
    let guest = GUESTS.iter().find(|guest| guest.image == image).unwrap();
    let image = Image::named(guest.image);
    let init = image.read().init;
    let host = ScratchHost::with(image);
    let key = host.ssh_key();
    host.create_ready("web1", image, &["--memory", "512M", "--ssh-key", &key]);
    has_booted(&host, guest, init);
    can_be_logged_in_to(&host);
    stops_cleanly(&host);
    stops_while_it_boots(&host);
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    reboots_by_itself(&host);
    has_booted(&host, guest, init);
    powers_itself_off(&host);
}

fn has_booted(host: &ScratchHost, guest: &Guest, init: InitKind) {
    assert_eq!(host.sh("web1", "readlink /proc/1/exe"), guest.program);
    if init == InitKind::Systemd {
        assert_eq!(host.sh("web1", "systemctl is-system-running --wait"), "running");
    }
    let log = host.insula_ok(&["log", "web1"]);
    let complaints = complaints(&log);
    assert!(complaints.is_empty(), "the console shows: {complaints:#?}");
    host.sh("web1", guest.has_network);
    let address = address(host);
    let addresses = host.sh("web1", "ip -4 -o address show dev eth0 | grep -o 'inet [^ ]*'");
    assert_eq!(addresses, format!("inet {address}/24"));
    let gateway = host.insula_json(&["network", "show", "default"])["gateway"].as_str().unwrap().to_owned();
    host.sh("web1", &format!("ping -c 1 -W 10 {gateway} && ip route show default | grep -w {gateway}"));
    let mut refusal = String::new();
    let name = eventually("the SSH server answers", || {
        let outcome = host.ssh(&address, "hostname");
        if outcome.code != 0 && outcome.stderr != refusal {
            eprintln!("ssh: {}", outcome.stderr.trim());
            refusal.clone_from(&outcome.stderr);
        }
        (outcome.code == 0).then(|| outcome.text())
    });
    assert_eq!(name, "web1");
}

fn address(host: &ScratchHost) -> String {
    host.vps("web1").interfaces[0].ip_addresses[0].clone()
}

/// The lines of a console in which programs report that something went wrong during the boot.
fn complaints(log: &str) -> Vec<&str> {
    const WORDS: [&str; 7] = ["fail", "error", "warning", "cannot", "can't", "not permitted", "denied"];
    let complains = |line: &&str| WORDS.iter().any(|word| line.to_lowercase().contains(word));
    log.lines().filter(complains).collect()
}

/// Logs in at the console with a password, and gets a shell.
fn can_be_logged_in_to(host: &ScratchHost) {
    host.command("insula").args(["passwd", "web1"]).input("very secret\n").run_ok();
    let mut console = Terminal::start(&host.command("insula").args(["console", "web1"]));
    console.expect("web1 login:");
    console.type_keys(b"root\r");
    console.expect("Password:");
    console.type_keys(b"very secret\r");
    console.expect("root@web1:~#");
    console.type_keys(b"echo $((6 * 7)) at $(tty); exit\r");
    console.expect("42 at /dev/console");
    console.expect("web1 login:");
    console.type_keys(b"\x01q");
    assert_eq!(console.wait(), 0);

    let mut shell = Terminal::start(&host.command("insula").args(["shell", "web1"]));
    shell.expect("root@web1:~#");
    shell.type_keys(b"echo $((6 * 8)) && exit\r");
    shell.expect("48");
    assert_eq!(shell.wait(), 0);
}

fn stops_cleanly(host: &ScratchHost) {
    host.sh("web1", "echo kept >/root/file"); // and not flushed
    let before = Instant::now();
    host.insula_ok(&["stop", "web1", "--timeout", "60"]);
    let took = before.elapsed();
    assert!(took < Duration::from_secs(30), "it took {took:?}");
    assert_eq!(host.vps("web1").last_exit.unwrap().reason, "stopped");
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    assert_eq!(host.sh("web1", "cat /root/file"), "kept");
}

/// A stop is not lost if init does not listen yet.
fn stops_while_it_boots(host: &ScratchHost) {
    host.insula_ok(&["stop", "web1", "--timeout", "60"]);
    host.insula_ok(&["start", "web1"]);
    host.insula_ok(&["stop", "web1", "--timeout", "60"]);
    assert_eq!(host.vps("web1").last_exit.unwrap().reason, "stopped");
}

fn reboots_by_itself(host: &ScratchHost) {
    let pid = host.vps("web1").init_pid;
    // The exec may be ended before it reports its own end.
    host.insula(&["exec", "web1", "--", "reboot"]);
    let vps = eventually("the guest has rebooted by itself", || {
        Some(host.vps("web1")).filter(|vps| vps.boots == 2 && vps.state() == VpsState::Ready)
    });
    assert_ne!(vps.init_pid, pid);
}

fn powers_itself_off(host: &ScratchHost) {
    host.insula(&["exec", "web1", "--", "poweroff"]);
    let vps = eventually("the guest has powered itself off", || {
        Some(host.vps("web1")).filter(|vps| vps.state() == VpsState::Stopped)
    });
    assert_eq!(vps.last_exit.unwrap().reason, "power_off");
}

#[test]
fn the_page_says_what_is_tested() {
    let page = std::fs::read_to_string(project_file("docs/guests.md")).unwrap();
    let rows: BTreeSet<&str> = page.lines().filter(|line| line.starts_with("| [")).collect();
    let expected: BTreeSet<String> = GUESTS.iter().map(row).collect();
    assert_eq!(rows, expected.iter().map(String::as_str).collect(), "docs/guests.md and the tests differ");
    let images = std::fs::read_dir(project_file("images")).unwrap();
    let images: BTreeSet<String> =
        images.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let tested = GUESTS.iter().map(|guest| format!("{}.yaml", guest.image)).collect();
    assert_eq!(images, tested, "each image has a test");
}

fn row(guest: &Guest) -> String {
    let definition = Image::named(guest.image).read();
    assert_eq!(definition.name.as_str(), guest.image, "an image is named as its file");
    let InitPlan { stop_signal, ready, .. } = plan_init(definition.init, &[]);
    let ready = match ready {
        ReadyMode::Notify => "`READY=1`",
        ReadyMode::LoginPrompt => "login prompt",
    };
    let stop = match stop_signal {
        12 => "SIGUSR2",
        15 => "SIGTERM",
        30 => "SIGPWR",
        37 => "SIGRTMIN+3",
        other => panic!("signal {other} has no name here"),
    };
    format!(
        "| [{name}](../images/{name}.yaml) | {init} | `{program}` | {ready} | {stop} | {network} |",
        name = guest.image,
        init = definition.init,
        program = guest.program,
        network = guest.network,
    )
}
