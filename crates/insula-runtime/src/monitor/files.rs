//! A process that works with the files of a guest that runs.
//!
//! ```text
//! monitor ─clone3→ worker, born in the guest's cgroup ─setns→ in the guest's namespaces but the pid namespace
//! ```
//!
//! It sees what the guest's root sees, with its ids, quotas and limits. Outside of the pid namespace nobody in the guest can
//! stop it, look into it or find it. It has the monitor's memory, is not dumpable, and has nothing of the host's but the
//! streams and a descriptor of its own `/proc/self/fd`. A guest can make it wait, such as by FUSE. The client gives up then,
//! and the monitor kills the worker when the client's connection closes.

use std::os::fd::{AsFd, OwnedFd};

use insula_files::{Job, OpenDescriptors, Place, serve};
use insula_sys::process::close_all_but;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::setsid;
use rustix::thread::{
    Gid, ThreadNameSpaceType, Uid, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::boot::reset_memory_kill_score;
use super::child::tell;
use super::confine::confine;
use super::enter::{EnterMessage, failed};
use crate::apparmor::AppArmor;
use crate::file_worker::{StandardInput, StandardOutput};
use crate::plan::StartPlan;
use crate::protocol::ExecFailure;

/// What the worker has from the monitor.
pub(super) struct FilesInput<'a> {
    pub plan: &'a StartPlan,
    pub job: &'a Job,
    pub socket: OwnedFd,
    pub init: &'a OwnedFd,
    /// Where frames come from and go to.
    pub streams: [&'a OwnedFd; 2],
}

/// The worker's life.
pub(super) fn work_with_files(input: &FilesInput<'_>) -> i32 {
    let place = match enter(input) {
        Ok(place) => place,
        Err((reason, chain)) => {
            let _ = tell(&input.socket, &EnterMessage::Failed(reason, chain), &[]); // the monitor has gone: nobody to tell
            return reason.exit_code();
        }
    };
    if tell(&input.socket, &EnterMessage::Executing, &[]).is_err()
        || rustix::net::shutdown(&input.socket, rustix::net::Shutdown::Both).is_err()
    {
        return 1;
    }
    serve(&place, input.job, StandardInput, StandardOutput);
    0
}

fn enter(input: &FilesInput<'_>) -> Result<Place, (ExecFailure, Vec<String>)> {
    reset_memory_kill_score("self").map_err(failed("reset oom_score_adj"))?;
    rustix::thread::set_name(c"insula-files").map_err(failed("take a name"))?;
    let descriptors = OpenDescriptors::open().map_err(failed("open /proc/self/fd"))?;
    if input.plan.host.apparmor.is_some() {
        let apparmor = AppArmor::of(&input.plan.host.layout.root_name);
        apparmor.enter(&input.plan.id).map_err(failed("enter the AppArmor policy"))?;
    }
    let all_but_processes = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP;
    move_into_thread_name_spaces(input.init.as_fd(), all_but_processes)
        .map_err(failed("enter the guest's namespaces"))?;
    set_thread_groups(&[]).map_err(failed("drop the groups"))?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(failed("become group root"))?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(failed("become root"))?;
    setsid().map_err(failed("begin a session"))?;
    let [stdin, stdout] = input.streams;
    rustix::stdio::dup2_stdin(stdin).map_err(failed("set the standard input"))?;
    rustix::stdio::dup2_stdout(stdout).map_err(failed("set the standard output"))?;
    #[allow(unsafe_code)]
    // SAFETY: what the monitor owns is not touched in this child, which owns nothing but these two by now.
    let closed = unsafe { close_all_but(&[input.socket.as_fd(), descriptors.as_fd()]) };
    closed.map_err(failed("close all descriptors"))?;
    rustix::process::umask(Mode::empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).map_err(failed("open the guest's root"))?;
    confine(&input.plan.guest.dropped_capabilities, &input.plan.guest.seccomp)
        .map_err(|(what, error)| failed(what)(error))?;
    Ok(Place::new(root, descriptors))
}
