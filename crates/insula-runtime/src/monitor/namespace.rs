//! Work that needs a mount namespace of its own: before Linux 6.15 only what is mounted somewhere can be cloned, or be a
//! layer of an overlay.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use insula_sys::process::{CloneRequest, clone_process};
use nix::sched::CloneFlags;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, fsconfig_create,
    fsmount, fsopen, mount_change, move_mount,
};
use rustix::net::SocketFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::seqpacket;

/// Hands a mount over, or says that there is none.
pub(super) type HandOver<'a> = dyn FnMut(Option<OwnedFd>) -> io::Result<()> + 'a;

/// Runs `work` in a process of its own, in a mount namespace of its own, with the directory of an empty file system that
/// nobody else sees. Returns what it has handed over, in that order.
pub(super) fn in_mount_namespace(
    work: impl FnOnce(&OwnedFd, &mut HandOver<'_>) -> io::Result<()>,
) -> io::Result<Vec<Option<OwnedFd>>> {
    let (ours, its) = seqpacket::pair(SocketFlags::empty())?;
    let request = CloneRequest { namespaces: Some(CloneFlags::CLONE_NEWNS), ..CloneRequest::default() };
    let mut ours = Some(ours);
    let (our_end, its_end) = (&mut ours, &its);
    let helper = clone_process(&request, move || {
        drop(our_end.take());
        let mut hand_over = |mount: Option<OwnedFd>| {
            let fds: Vec<_> = mount.iter().map(AsFd::as_fd).collect();
            seqpacket::send(its_end.as_fd(), b"mount", &fds)
        };
        match make_directory().and_then(|directory| work(&directory, &mut hand_over)) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO), // all of Linux's fit into an exit code
        }
    })?;
    drop(its);
    let ours = ours.ok_or(io::ErrorKind::NotConnected)?;
    let handed_over = std::iter::from_fn(|| seqpacket::receive(ours.as_fd()).transpose());
    let handed_over: io::Result<Vec<_>> = handed_over.map(|mount| Ok(mount?.1.into_iter().next())).collect();
    let status = waitid(WaitId::PidFd(helper.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    match status.and_then(|status| status.exit_status()) {
        Some(0) => handed_over,
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("a process of the monitor that mounts was killed")),
    }
}

/// The root of a new file system, attached where no path leads.
fn make_directory() -> io::Result<OwnedFd> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let directory = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&directory, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(directory)
}
