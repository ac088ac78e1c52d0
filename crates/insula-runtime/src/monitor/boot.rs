//! The monitor's side of a boot: what the host gives to the guest, and the wait for its init to be executed.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use insula_sys::netlink::{self, NetlinkError, VethPair};
use insula_sys::process::{CloneRequest, Cloned, clone_process, send_signal};
use insula_types::Attachment;
use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::child::{ChildInput, ChildMessage, HOST_IS_READY, ROOT_IS_READY, become_init};
use super::device::clone_devices;
use super::filesystem::clone_mount;
use super::owner::as_owner;
use super::root::mount_root;
use crate::apparmor::AppArmor;
use crate::plan::{HostNic, StartPlan};
use crate::protocol::{StartFailure, StartPhase};
use crate::seqpacket;

/// How long the child may take from clone3(2) to execve(2).
const BOOT_DEADLINE: Duration = Duration::from_secs(30);

/// A guest whose init has been executed.
#[derive(Debug)]
pub(super) struct Guest {
    /// Its init, a child of this process.
    pub init: Cloned,
    /// Where init says `READY=1`.
    pub notify: OwnedFd,
}

/// Boots the guest. `terminal` is the slave of its console. After a failure no process of it is left.
pub(super) fn boot(plan: &StartPlan, terminal: &OwnedFd) -> Result<Guest, StartFailure> {
    plan.host
        .layout
        .make_unified(&plan.id, plan.host.ids)
        .and_then(|()| plan.host.layout.apply_values(&plan.id, &plan.host.cgroup_values))
        .map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
    let devices = clone_devices(plan)?; // before none can be made any more
    plan.host
        .layout
        .guard_devices(&plan.id, &plan.host.device_rules)
        .map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
    if let Some(apparmor) = &plan.host.apparmor {
        AppArmor::of(&plan.host.layout.root_name)
            .ensure_loaded(&plan.id, &apparmor.policy)
            .map_err(|error| StartFailure::new(StartPhase::Security, &error))?;
    }
    let payload = plan
        .host
        .layout
        .open_payload(&plan.id)
        .map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
    let console =
        clone_mount(terminal).map_err(|errno| at(StartPhase::Console, "clone the console's mount", errno))?;
    let (init, socket) = clone_init(plan, &payload, &devices, &console)?;
    match prepare(plan, &init, &socket).and_then(|()| wait_for_exec(plan, &socket)) {
        Ok(notify) => Ok(Guest { init, notify }),
        Err(failure) => {
            end(&init);
            Err(last_words(&socket).unwrap_or(failure))
        }
    }
}

/// Clones what becomes init, already in its cgroup and namespaces, and returns it with a socket to talk to it.
fn clone_init(
    plan: &StartPlan,
    payload: &OwnedFd,
    devices: &[OwnedFd],
    console: &OwnedFd,
) -> Result<(Cloned, OwnedFd), StartFailure> {
    let failed = StartFailure::at;
    let (ours, its) =
        seqpacket::pair(SocketFlags::empty()).map_err(failed(StartPhase::Clone, "make a socket"))?;
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS; // the cgroup namespace is made by the child
    let request =
        CloneRequest { namespaces: Some(namespaces), cgroup: Some(payload.as_fd()), is_sibling: false };
    // The child closes the monitor's end, or it would not notice the monitor's death.
    let mut ours = Some(ours);
    let our_end = &mut ours;
    let child = move || {
        drop(our_end.take());
        become_init(&ChildInput { plan, socket: its, devices, console })
    };
    let init = as_owner(plan.host.ids, || clone_process(&request, child))
        .map_err(failed(StartPhase::Clone, "clone init into its namespaces and cgroup"))?;
    let socket =
        ours.ok_or_else(|| failed(StartPhase::Clone, "keep the socket")(io::ErrorKind::NotConnected.into()))?;
    Ok((init, socket))
}

/// Gives the child what only the host can: its ids, its root, its interfaces.
fn prepare(plan: &StartPlan, init: &Cloned, socket: &OwnedFd) -> Result<(), StartFailure> {
    write_id_maps(plan, init.pid).map_err(StartFailure::at(StartPhase::Ids, "map the guest's ids"))?;
    reset_memory_kill_score(init.pid)
        .map_err(StartFailure::at(StartPhase::Prepare, "reset oom_score_adj"))?;
    let root = mount_root(plan, init.pid)?;
    send(socket, ROOT_IS_READY, &[root.as_fd()])?;
    // Meanwhile the child mounts.
    connect_interfaces(plan, init.pid)
}

fn send(socket: &OwnedFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), StartFailure> {
    match seqpacket::send(socket.as_fd(), message, fds) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()), // it has failed and said why
        result => result.map_err(StartFailure::at(StartPhase::Prepare, "talk to the child")),
    }
}

/// Locks what the child has written of its budgets, and lets it go on.
fn release(plan: &StartPlan, socket: &OwnedFd) -> Result<(), StartFailure> {
    if !plan.host.budgets.is_empty() {
        let guarded = plan.host.layout.guard_sysctls(&plan.id, &plan.guest.writable_sysctls);
        guarded.map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
    }
    send(socket, HOST_IS_READY, &[])
}

fn write_id_maps(plan: &StartPlan, pid: i32) -> io::Result<()> {
    let map = format!("0 {} {}\n", plan.host.ids.start, plan.host.ids.length);
    fs::write(format!("/proc/{pid}/uid_map"), &map)?;
    fs::write(format!("/proc/{pid}/gid_map"), &map)
}

/// Takes from the guest what the host may have done to keep its monitors from being killed when memory runs out.
pub(super) fn reset_memory_kill_score(process: impl std::fmt::Display) -> io::Result<()> {
    match fs::read_to_string("/proc/self/oom_score_adj")?.trim() {
        "0" => Ok(()),
        _ => fs::write(format!("/proc/{process}/oom_score_adj"), "0"),
    }
}

/// Makes the veth pairs, the guests' ends inside the guest's network namespace.
fn connect_interfaces(plan: &StartPlan, pid: i32) -> Result<(), StartFailure> {
    if plan.guest.nics.is_empty() {
        return Ok(());
    }
    let failed = |error: NetlinkError| StartFailure::new(StartPhase::Network, &error);
    let netns = fs::File::open(format!("/proc/{pid}/ns/net"))
        .map_err(StartFailure::at(StartPhase::Network, "open the guest's network namespace"))?;
    let netlink = netlink::Socket::open().map_err(failed)?;
    for (guest, host) in plan.nics() {
        let pair = VethPair {
            host_name: host.host_name.as_str(),
            guest_name: guest.name.as_str(),
            guest_netns: netns.as_fd(),
            bridge_index: Some(bridge_index(&netlink, host)?),
            mac: guest.mac.0,
            mtu: None,
        };
        create_veth(&netlink, &pair).map_err(failed)?;
    }
    Ok(())
}

/// The bridge that the host's end is plugged into.
fn bridge_index(netlink: &netlink::Socket, nic: &HostNic) -> Result<u32, StartFailure> {
    let refused =
        |what, errno| StartFailure::at(StartPhase::Network, what)(io::Error::from_raw_os_error(errno));
    match &nic.attachment {
        Attachment::Bridged(bridge) => netlink
            .interface_index(bridge.as_str())
            .map_err(|error| StartFailure::new(StartPhase::Network, &error))?
            .ok_or_else(|| refused(format!("plug {} into bridge {bridge}", nic.host_name), libc::ENODEV)),
        Attachment::Routed(uplink) => {
            Err(refused(format!("route {} to {uplink}", nic.host_name), libc::EOPNOTSUPP))
        }
    }
}

/// The pair of a former boot may still be there: the kernel takes its time to tear a network namespace down.
fn create_veth(netlink: &netlink::Socket, pair: &VethPair<'_>) -> Result<(), NetlinkError> {
    match netlink.create_veth(pair) {
        Err(error) if error.errno() == Some(libc::EEXIST) => {
            netlink.delete_interface(pair.host_name)?;
            netlink.create_veth(pair)
        }
        result => result,
    }
}

/// Deletes the host's ends of the interfaces, if they are still there.
pub(super) fn disconnect_interfaces(nics: &[HostNic]) -> Result<(), NetlinkError> {
    if nics.is_empty() {
        return Ok(());
    }
    let netlink = netlink::Socket::open()?;
    let delete = |nic: &HostNic| netlink.delete_interface(nic.host_name.as_str()).map(drop);
    nics.iter().map(delete).fold(Ok(()), Result::and)
}

/// Waits until the child has executed init: the socket closes by execve(2). Returns the notification socket.
fn wait_for_exec(plan: &StartPlan, socket: &OwnedFd) -> Result<OwnedFd, StartFailure> {
    let failed = |kind: io::ErrorKind| StartFailure::at(StartPhase::Clone, "wait for init")(kind.into());
    let deadline = Instant::now() + BOOT_DEADLINE;
    let (mut notify, mut is_executing) = (None, false);
    loop {
        let timeout = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return Err(failed(io::ErrorKind::TimedOut)),
            Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(at(StartPhase::Clone, "wait for init", errno)),
        }
        let received = seqpacket::receive(socket.as_fd()).map_err(|error| failed(error.kind()))?;
        let Some((message, fds)) = received else { break };
        match serde_json::from_slice(&message).map_err(|error| failed(io::Error::from(error).kind()))? {
            ChildMessage::Notify => {
                notify = fds.into_iter().next();
                release(plan, socket)?;
            }
            ChildMessage::Executing => is_executing = true,
            ChildMessage::Failed(failure) => return Err(failure),
        }
    }
    notify.filter(|_| is_executing).ok_or_else(|| failed(io::ErrorKind::UnexpectedEof))
}

/// What the child, ended by now, said of its own failure. Where the host trips over a child that is gone already, this is
/// the cause.
fn last_words(socket: &OwnedFd) -> Option<StartFailure> {
    let messages = std::iter::from_fn(|| seqpacket::receive(socket.as_fd()).ok().flatten());
    messages.flat_map(|(message, _)| serde_json::from_slice(&message)).find_map(|message| match message {
        ChildMessage::Failed(failure) => Some(failure),
        _ => None,
    })
}

/// Kills init, and with it all of its pid namespace, and waits for the end.
fn end(init: &Cloned) {
    // Errors mean that it has ended already.
    let _ = send_signal(init.pidfd.as_fd(), libc::SIGKILL);
    let _ = waitid(WaitId::PidFd(init.pidfd.as_fd()), WaitIdOptions::EXITED);
}

fn at(phase: StartPhase, what: &str, errno: Errno) -> StartFailure {
    StartFailure::at(phase, what)(errno.into())
}
