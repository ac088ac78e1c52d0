//! A guest's console outlives the clients that watch it.

use insula_testkit::{Image, ScratchHost, Terminal};

const DETACH: &[u8] = b"\x01q";

#[test]
fn several_look_and_type_and_leave() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &[]);
    let look = || Terminal::start(&host.command("insula").args(["console", "web1"]));
    let mut one = look();
    one.expect("web1 login:");
    assert!(one.is_raw());
    let mut other = look();
    other.expect("web1 login:");

    one.type_keys(b"nobody-in-particular\r");
    one.expect("Password:");
    other.expect("nobody-in-particular");
    other.expect("Password:");

    one.type_keys(DETACH);
    assert_eq!(one.wait(), 0);
    assert!(!one.is_raw(), "the terminal is as it was");
    host.sh("web1", "echo only the other sees it >/dev/console");
    other.expect("only the other sees it");

    let mut third = look();
    third.expect("nobody-in-particular");
    third.expect("only the other sees it");
    let log = host.insula_ok(&["log", "web1"]);
    assert!(log.contains("web1 login:") && log.contains("only the other sees it"), "{log}");

    third.type_keys(DETACH);
    assert_eq!(third.wait(), 0);
    host.insula_ok(&["stop", "web1"]);
    other.expect("closed the console");
    assert_eq!(other.wait(), 0, "the guest's end is the console's");
}
