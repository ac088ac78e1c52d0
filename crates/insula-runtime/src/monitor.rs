//! The monitor: one small process per running VPS, the parent of its init.
//!
//! It boots the guest by its plan, boots it again when the guest reboots, keeps its console, runs programs in it, ends it,
//! and leaves a record of its end. It asks nobody and needs no agent. It decides nothing that the plan has decided, and
//! knows no other VPS.
//!
//! ```text
//! parked ──plan──> starting ──execve──> running ──READY=1──> ready
//!    │                │  ^                 │                   │
//!    │ (agent gone)   │  └──guest reboots──┼───────────────────┤
//!    v                v                    v                   v
//!   end  <──────── failed               stopping ──────────> exited: record, tear down, end
//! ```
//!
//! A guest that reboots or crashes again and again waits in `starting` for its next boot, and is given up in the end:
//! [`reboots`] says when.
//!
//! Single-threaded: it forks. The event loop ([`server`]) is the only place that waits, but for the bounded wait for
//! execve(2) in [`boot`]. If the monitor dies, init is killed by the kernel, and the guest with it.

mod attach;
mod boot;
mod child;
mod clients;
mod confine;
mod console;
mod device;
mod enter;
mod exec;
mod exit;
mod files;
mod filesystem;
mod life;
mod namespace;
mod owner;
mod prompt;
mod reboots;
mod requests;
mod root;
mod server;

pub(crate) use filesystem::clone_mount_at;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use insula_sys::process::{CloneRequest, clone_process, close_from};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{DumpableBehavior, set_dumpable_behavior, setsid};

use crate::cgroup::{CgroupLayout, SpareName};
use crate::file_worker;
use crate::plan::{StartEnd, StartPlan};
use crate::protocol::{Event, PROTOCOL_VERSION, Request, StartFailure, StartPhase};
use crate::seqpacket;
use server::Monitor;

pub(crate) use confine::confine;

/// The program `insula-monitor`. It forks a child, which the host's init adopts, and returns.
pub fn run() -> ExitCode {
    match clone_process(&CloneRequest::default(), live) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("insula-monitor: failed to fork: {error}");
            ExitCode::FAILURE
        }
    }
}

fn live() -> i32 {
    let control = match detach() {
        Ok(control) => control,
        Err(error) => {
            eprintln!("insula-monitor: failed to leave the caller: {error}");
            return 1;
        }
    };
    let first = match seqpacket::receive(control.as_fd()) {
        Ok(Some(first)) => first,
        Ok(None) => return 0, // the agent has gone
        Err(error) => {
            eprintln!("insula-monitor: failed to hear from the agent: {error}");
            return 1;
        }
    };
    let (layout, fds) = first;
    if let Ok(request) = serde_json::from_slice(&layout) {
        drop(control);
        return file_worker::live(&request, fds);
    }
    match park(&control, &layout).and_then(|plan| plan.map(Monitor::prepare).transpose()) {
        Ok(Some(monitor)) => monitor.serve(control),
        Ok(None) => 0, // the agent has gone
        Err(failure) => {
            eprintln!("insula-monitor: {failure}");
            let event = serde_json::to_vec(&Event::StartFailed { failure }).unwrap_or_default();
            let _ = seqpacket::send(control.as_fd(), &event, &[]); // without an agent nobody is to be told
            1
        }
    }
}

/// Leaves the caller's session and takes the control socket off the standard input.
fn detach() -> io::Result<OwnedFd> {
    // What the agent's parent forgot to close.
    #[allow(unsafe_code)]
    // SAFETY: the program has just begun, and has opened nothing.
    unsafe { close_from(3) }?;
    setsid()?;
    rustix::thread::set_name(c"insula-monitor")?; // run from a sealed file, it would be named after a descriptor
    // Neither the monitor nor a child before its execve(2) can be looked into by a guest.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let control = fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(control)
}

/// Joins the spare groups, and waits for a plan. `None` if the agent ends first.
fn park(control: &OwnedFd, layout: &[u8]) -> Result<Option<StartPlan>, StartFailure> {
    let failed = |what| StartFailure::at(StartPhase::Prepare, what);
    let receive = || seqpacket::receive(control.as_fd()).map_err(failed("hear from the agent"));
    let layout: CgroupLayout = serde_json::from_slice(layout)
        .map_err(|error| failed("read the layout of the cgroups")(error.into()))?;
    let name = SpareName::for_this_process();
    layout.park(&name).map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
    let parked = serde_json::to_vec(&Event::Parked { version: PROTOCOL_VERSION }).unwrap_or_default();
    seqpacket::send(control.as_fd(), &parked, &[]).map_err(failed("tell the agent"))?;
    while let Some((request, _)) = receive()? {
        if let Ok(Request::Start { plan }) = serde_json::from_slice(&request) {
            refuse_restore(&plan)?;
            layout.claim(&name, &plan.id).map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
            // From here on it is one client of several, and nobody may hold the others up.
            fcntl_setfl(control, OFlags::NONBLOCK)
                .map_err(|errno| failed("stop blocking for the agent")(errno.into()))?;
            return Ok(Some(*plan));
        }
    }
    Ok(None)
}

/// A plan that ends with a restore is no boot, and nothing else can be done here yet.
fn refuse_restore(plan: &StartPlan) -> Result<(), StartFailure> {
    match &plan.end {
        StartEnd::Boot => Ok(()),
        StartEnd::Restore(restore) => {
            let what =
                format!("restore the guest from {}, which no monitor can do yet", restore.images.display());
            Err(StartFailure::at(StartPhase::Prepare, what)(Errno::OPNOTSUPP.into()))
        }
    }
}
