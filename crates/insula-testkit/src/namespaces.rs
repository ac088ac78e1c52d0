//! The namespaces of a scratch host. What a test creates in them ends with its thread, however that
//! ends.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Stdio;

use insula_sys::netlink::{LOOPBACK_INDEX, Socket};
use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::process::{Command, PATIENCE, Process, is_readable};

/// Moves the calling thread, and what it will start, to network and mount namespaces of its own.
///
/// Mounts propagate inside as on a host with systemd. With an uplink, the host reaches what this
/// machine reaches, through a process that ends with the thread.
pub fn enter(with_uplink: bool) -> Option<Process> {
    let network = new_network();
    let uplink = with_uplink.then(|| start_uplink(&network));
    setns(network.as_fd(), CloneFlags::CLONE_NEWNET).expect("a network namespace of ours");
    enter_mounts();
    uplink
}

/// Moves the calling thread to a mount namespace of its own.
pub fn enter_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("the tests make namespaces: run them as root");
    let all = |propagation| mount_change("/", MountPropagationFlags::REC | propagation).expect("propagation");
    all(MountPropagationFlags::PRIVATE);
    all(MountPropagationFlags::SHARED);
}

/// Creates a network namespace that no process is in.
fn new_network() -> OwnedFd {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("the tests make namespaces: run them as root");
        Socket::open().and_then(|socket| socket.set_up(LOOPBACK_INDEX)).expect("a loopback");
        OwnedFd::from(File::open("/proc/thread-self/ns/net").expect("a namespace"))
    };
    std::thread::scope(|scope| scope.spawn(make).join().expect("a new namespace"))
}

/// Connects the namespace to a network that slirp4netns(1) emulates in user space. Nothing changes
/// on this machine.
fn start_uplink(network: &OwnedFd) -> Process {
    let path = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
    let arguments =
        ["--configure", "--mtu=65520", "--disable-host-loopback", "--ready-fd=1", "--netns-type=path"];
    let command = Command::new("slirp4netns").args(arguments).args([&path, "tap0"]);
    let mut process = command.spawn_with(Stdio::null(), Stdio::piped(), Stdio::null());
    let ready = OwnedFd::from(process.child().stdout.take().expect("it is piped"));
    assert!(is_readable(&ready, PATIENCE), "slirp4netns does not begin");
    let mut byte = [0];
    assert_eq!(rustix::io::read(&ready, &mut byte), Ok(1), "slirp4netns has failed: is it installed?");
    process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_loopback_and_mounts_of_its_own() {
        enter(false);
        let links = Command::new("ip").args(["-o", "link"]).run_ok().text();
        assert!(links.lines().count() == 1 && links.contains("lo: <LOOPBACK,UP"), "{links}");
        let directory = tempfile::tempdir().unwrap();
        Command::new("mount").args(["-t", "tmpfs", "none"]).args([directory.path()]).run_ok();
        let seen_from = |process| std::fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
        let path = directory.path().to_str().unwrap();
        assert!(seen_from("thread-self").contains(path) && !seen_from("1").contains(path));
        Command::new("umount").args([directory.path()]).run_ok();
    }
}
