//! The guest's init before it is init: what happens between clone3(2) and execve(2), in the guest's namespaces.
//!
//! Everything follows the plan. No path of the host is looked up: what the guest gets from the host, the monitor has
//! opened as detached mounts.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use insula_sys::netlink;
use insula_sys::process::{close_all_but, reset_signals};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{
    Resource, Signal, getrlimit, set_parent_process_death_signal, setpgid, setrlimit, setsid,
};
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

use super::confine::confine;
use super::filesystem;
use crate::apparmor::AppArmor;
use crate::plan::{GuestNic, StartPlan};
use crate::protocol::{StartFailure, StartPhase};
use crate::seqpacket;

/// What the child tells the monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChildMessage {
    /// The file systems are put together and the budgets written. The notification socket comes along.
    Notify,
    /// Init is executed now: the next word is the end of the connection, or a failure.
    Executing,
    /// It failed.
    Failed(StartFailure),
}

/// The monitor's message that comes with the root mount: the ids are mapped.
pub(super) const ROOT_IS_READY: &[u8] = b"root";
/// The monitor's message that the interfaces are there, and that the guest can't raise its budgets.
pub(super) const HOST_IS_READY: &[u8] = b"host";

/// What the child has from the monitor.
pub(super) struct ChildInput<'a> {
    pub plan: &'a StartPlan,
    pub socket: OwnedFd,
    /// Detached mounts of the plan's device nodes, in the plan's order.
    pub devices: &'a [OwnedFd],
    /// A detached mount of the console's terminal.
    pub console: &'a OwnedFd,
}

/// Becomes init. Returns if it can't.
pub(super) fn become_init(input: &ChildInput<'_>) -> i32 {
    let Err(failure) = try_to_become_init(input);
    let _ = tell(&input.socket, &ChildMessage::Failed(failure), &[]); // if the monitor has gone, nobody is to be told
    1
}

fn try_to_become_init(input: &ChildInput<'_>) -> Result<std::convert::Infallible, StartFailure> {
    let plan = input.plan;
    let root = wait_for(&input.socket, ROOT_IS_READY)?.ok_or_else(|| {
        StartFailure::at(StartPhase::Root, "receive the root mount")(io::ErrorKind::InvalidData.into())
    })?;
    if plan.host.apparmor.is_some() {
        // While this is still the host's /proc.
        AppArmor::of(&plan.host.layout.root_name)
            .enter_at_exec(&plan.id)
            .map_err(StartFailure::at(StartPhase::Security, "enter the AppArmor policy"))?;
    }
    become_root(plan.guest.init.console_streams)?;
    filesystem::assemble(plan, &root, input.devices, input.console)
        .map_err(|failure| failure.into_start_failure())?;
    drop(root);
    open_notify_socket(&input.socket)?;
    wait_for(&input.socket, HOST_IS_READY)?;
    configure_network(&plan.guest.nics).map_err(|error| StartFailure::new(StartPhase::Network, &error))?;
    rustix::system::sethostname(plan.guest.hostname.as_bytes())
        .map_err(at(StartPhase::Prepare, "set the host name"))?;
    settle(&input.socket, plan.guest.init.console_streams)?;
    let (program, argv, environment) = strings(plan)?;
    confine(&plan.guest.dropped_capabilities, &plan.guest.seccomp)
        .map_err(|(what, error)| StartFailure::at(StartPhase::Security, what)(error))?;
    tell(&input.socket, &ChildMessage::Executing, &[])?;
    let Err(errno) = nix::unistd::execve(&program, &argv, &environment);
    Err(StartFailure::at(StartPhase::Execute, format!("execute {}", plan.guest.init.argv[0]))(errno.into()))
}

fn at(phase: StartPhase, what: &'static str) -> impl FnOnce(rustix::io::Errno) -> StartFailure {
    move |errno| StartFailure::at(phase, what)(errno.into())
}

/// Waits for a message of the monitor and takes the descriptor that comes with it.
fn wait_for(socket: &OwnedFd, expected: &[u8]) -> Result<Option<OwnedFd>, StartFailure> {
    let failure = |error| StartFailure::at(StartPhase::Prepare, "wait for the monitor")(error);
    match seqpacket::receive(socket.as_fd()).map_err(failure)? {
        Some((message, fds)) if message == expected => Ok(fds.into_iter().next()),
        _ => Err(failure(io::ErrorKind::ConnectionAborted.into())),
    }
}

pub(super) fn tell(
    socket: &OwnedFd,
    message: &impl Serialize,
    fds: &[BorrowedFd<'_>],
) -> Result<(), StartFailure> {
    let send = || seqpacket::send(socket.as_fd(), &serde_json::to_vec(message)?, fds);
    send().map_err(StartFailure::at(StartPhase::Prepare, "talk to the monitor"))
}

/// Becomes root of the guest's user namespace, in a session and a cgroup namespace of its own, and dies with the monitor.
///
/// An init with the console gets a process group only, as the kernel starts one: the first terminal that the leader of a
/// session opens would be its controlling terminal, and a user who logs in at the console would have no job control. It stays
/// in the monitor's session, which has no terminal, and no process that the guest could signal.
fn become_root(has_console: bool) -> Result<(), StartFailure> {
    let ids = |what| at(StartPhase::Ids, what);
    set_thread_groups(&[]).map_err(ids("drop the groups"))?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(ids("become group root"))?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(ids("become root"))?;
    match has_console {
        true => setpgid(None, None).map_err(ids("begin a process group"))?,
        false => setsid().map(drop).map_err(ids("begin a session"))?,
    }
    // Behind the change of ids, which resets it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(ids("tie its life to the monitor's"))?;
    // Not in clone3(2): there the namespace would have the monitor's group as its root.
    unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| StartFailure::at(StartPhase::Clone, "make a cgroup namespace")(errno.into()))
}

/// Binds the socket that init says `READY=1` on, and hands it to the monitor.
fn open_notify_socket(socket: &OwnedFd) -> Result<(), StartFailure> {
    let bind = || -> io::Result<UnixDatagram> {
        std::fs::create_dir_all("/run/host")?;
        let notify = UnixDatagram::bind("/run/host/notify")?;
        notify.set_nonblocking(true)?;
        Ok(notify)
    };
    let notify = bind().map_err(StartFailure::at(StartPhase::Mounts, "bind /run/host/notify"))?;
    tell(socket, &ChildMessage::Notify, &[notify.as_fd()])
}

fn configure_network(nics: &[GuestNic]) -> Result<(), netlink::NetlinkError> {
    const LOOPBACK: u32 = 1; // the first interface of every network namespace
    let netlink = netlink::Socket::open()?;
    netlink.set_up(LOOPBACK)?;
    for nic in nics {
        let Some(index) = netlink.interface_index(nic.name.as_str())? else { continue };
        for &(address, prefix_length) in &nic.addresses {
            netlink.add_address(index, address, prefix_length)?;
        }
        netlink.set_up(index)?;
        if let Some(gateway) = nic.gateway {
            netlink.add_default_route(gateway, index)?;
        }
    }
    Ok(())
}

/// Takes from init what is the monitor's: streams, descriptors, signals, limits.
///
/// The console does not become init's controlling terminal. It becomes that of a user who logs in there.
fn settle(socket: &OwnedFd, has_console: bool) -> Result<(), StartFailure> {
    let streams = |what| at(StartPhase::Prepare, what);
    // Closed, not marked for closing: the path of init is the guest's, and may lead through /proc/self/fd.
    #[allow(unsafe_code)]
    // SAFETY: what the monitor owns is not touched in this child, which owns nothing but the socket by now.
    let closed = unsafe { close_all_but(&[socket.as_fd()]) };
    closed.map_err(StartFailure::at(StartPhase::Prepare, "close all descriptors"))?;
    let (path, what) = match has_console {
        true => ("/dev/console", "open /dev/console"),
        false => ("/dev/null", "open /dev/null"),
    };
    let stream =
        open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).map_err(streams(what))?;
    rustix::stdio::dup2_stdin(&stream).map_err(streams("set the standard input"))?;
    rustix::stdio::dup2_stdout(&stream).map_err(streams("set the standard output"))?;
    rustix::stdio::dup2_stderr(&stream).map_err(streams("set the standard error"))?;
    reset_signals();
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // The kernel's defaults, whatever the agent has for itself. Init raises what it wants up to the hard limit.
    for (resource, soft) in [(Resource::Nofile, 1024), (Resource::Core, 0)] {
        let mut limit = getrlimit(resource);
        limit.current = Some(limit.maximum.map_or(soft, |hard| soft.min(hard)));
        setrlimit(resource, limit).map_err(streams("set the resource limits"))?;
    }
    Ok(())
}

fn strings(plan: &StartPlan) -> Result<(CString, Vec<CString>, Vec<CString>), StartFailure> {
    let invalid = |_| {
        StartFailure::at(StartPhase::Execute, "read init's arguments")(io::ErrorKind::InvalidInput.into())
    };
    let all =
        |texts: &[String]| texts.iter().map(|text| CString::new(&**text)).collect::<Result<Vec<_>, _>>();
    let argv = all(&plan.guest.init.argv).map_err(invalid)?;
    let environment = all(&plan.guest.init.environment).map_err(invalid)?;
    let program = argv.first().cloned().unwrap_or_default();
    Ok((program, argv, environment))
}
