//! A process that attaches a mount to a guest that runs.
//!
//! ```text
//! monitor ─clone3→ helper, born in the guest's cgroup ─setns→ in the guest's user and mount namespaces
//! ```
//!
//! The guest is hostile, and may change its files meanwhile. The target is looked up once, below the guest's root, in the
//! guest's own mount namespace and with its ids, and the mount goes upon the descriptor that came of it. Links lead nowhere
//! but to what the guest sees; those of `/proc/<process>` are refused. A guest can make the lookup wait, such as by FUSE:
//! the monitor kills the helper then, as it does with programs.

use std::os::fd::{AsFd, OwnedFd};

use insula_sys::beneath::{self, Reach};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};
use rustix::process::setsid;
use rustix::thread::{
    Gid, ThreadNameSpaceType, Uid, move_into_thread_name_spaces, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::boot::reset_memory_kill_score;
use super::child::tell;
use super::enter::{EnterMessage, failed};
use crate::protocol::ExecFailure;

/// What the helper has from the monitor.
pub(super) struct AttachInput<'a> {
    pub socket: OwnedFd,
    pub init: &'a OwnedFd,
    /// Detached.
    pub mount: &'a OwnedFd,
    /// A path in the guest.
    pub target: &'a str,
}

/// The helper's life.
pub(super) fn attach(input: &AttachInput<'_>) -> i32 {
    let (message, code) = match try_to_attach(input) {
        Ok(()) => (EnterMessage::Executing, 0),
        Err((reason, chain)) => (EnterMessage::Failed(reason, chain), reason.exit_code()),
    };
    let _ = tell(&input.socket, &message, &[]); // the monitor has gone: nobody to tell
    code
}

fn try_to_attach(input: &AttachInput<'_>) -> Result<(), (ExecFailure, Vec<String>)> {
    reset_memory_kill_score("self").map_err(failed("reset oom_score_adj"))?;
    rustix::thread::set_name(c"insula-attach").map_err(failed("take a name"))?;
    setsid().map_err(failed("begin a session"))?; // the monitor ends it as a group of processes
    let namespaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT;
    move_into_thread_name_spaces(input.init.as_fd(), namespaces)
        .map_err(failed("enter the guest's namespaces"))?;
    set_thread_groups(&[]).map_err(failed("drop the groups"))?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(failed("become group root"))?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(failed("become root"))?;
    let target = find(input.target).map_err(|errno| {
        let (reason, chain) = failed(&format!("find {}", input.target))(errno);
        let is_missing = matches!(errno, Errno::NOENT | Errno::NOTDIR);
        (if is_missing { ExecFailure::NotFound } else { reason }, chain)
    })?;
    let both = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(input.mount, "", &target, "", both)
        .map_err(failed("attach the mount (a directory to a directory, else a file to a file)"))
}

/// Looks a path of the guest up: `ELOOP` for a link that is none of its file system's.
fn find(path: &str) -> rustix::io::Result<OwnedFd> {
    let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    beneath::open(root, path, Reach::InRoot, OFlags::PATH)
}
