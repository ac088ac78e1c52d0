//! The guest's device nodes as detached mounts: the host's own, and nodes that are made for it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use insula_sys::process::{CloneRequest, clone_process};
use insula_sys::user_namespace::is_nested;
use insula_types::IdRange;
use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chmodat, chownat, fstat, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount, open_tree,
};
use rustix::net::SocketFlags;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::filesystem::clone_mount_at;
use crate::cgroup::DeviceKind;
use crate::plan::{DeviceNode, OwnNode, StartPlan};
use crate::protocol::{StartFailure, StartPhase};
use crate::seqpacket;

/// Detached mounts of the plan's device nodes, in the plan's order.
pub(super) fn clone_devices(plan: &StartPlan) -> Result<Vec<OwnedFd>, StartFailure> {
    let failed = |what: &str, device: &DeviceNode| {
        let what = format!("{what} the device {}", device.source.display());
        StartFailure::at(StartPhase::Mounts, what)
    };
    let own: Vec<&OwnNode> = plan.devices.iter().filter_map(|device| device.own.as_ref()).collect();
    let mut made = match own.is_empty() {
        true => vec![],
        false => {
            plan.layout
                .open_devices(&plan.id)
                .map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
            make_nodes(&own, plan.ids)
                .map_err(StartFailure::at(StartPhase::Mounts, "make the guest's device nodes"))?
        }
    }
    .into_iter();
    let clone = |device: &DeviceNode| match device.own {
        Some(_) => match made.next().flatten() {
            Some(mount) => Ok(mount),
            None => clone_device(&device.source).map_err(|errno| failed("borrow", device)(errno.into())),
        },
        None => {
            clone_device(&device.source).map_err(|errno| failed("clone the mount of", device)(errno.into()))
        }
    };
    plan.devices.iter().map(clone).collect()
}

fn clone_device(path: &Path) -> rustix::io::Result<OwnedFd> {
    let mount = clone_mount_at(path)?;
    match FileType::from_raw_mode(fstat(&mount)?.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(mount),
        _ => Err(Errno::NODEV), // a file of the host that is called so, which all guests would share
    }
}

/// Makes nodes that belong to the guest's root, on a file system that nobody else sees. In a process of its own, which is in
/// a mount namespace of its own: before Linux 6.15 only what is mounted somewhere can be cloned.
///
/// `None` for each where nobody can make one: in a VPS. The guest gets what the VPS has, with its permissions.
fn make_nodes(nodes: &[&OwnNode], ids: IdRange) -> io::Result<Vec<Option<OwnedFd>>> {
    let (ours, its) = seqpacket::pair(SocketFlags::empty())?;
    let request = CloneRequest { namespaces: Some(CloneFlags::CLONE_NEWNS), ..CloneRequest::default() };
    let mut ours = Some(ours);
    let (our_end, its_end) = (&mut ours, &its);
    let helper = clone_process(&request, move || {
        drop(our_end.take());
        match send_nodes(its_end, nodes, ids) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO), // all of Linux's fit into an exit code
        }
    })?;
    drop(its);
    let ours = ours.ok_or(io::ErrorKind::NotConnected)?;
    let made = std::iter::from_fn(|| seqpacket::receive(ours.as_fd()).transpose());
    let made: io::Result<Vec<_>> = made.map(|node| Ok(node?.1.into_iter().next())).collect();
    let status = waitid(WaitId::PidFd(helper.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    match status.and_then(|status| status.exit_status()) {
        Some(0) => made,
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None => Err(io::Error::other("the process that makes device nodes was killed")),
    }
}

/// Makes the nodes and sends a message for each: with a detached mount, or without where none can be made.
fn send_nodes(socket: &OwnedFd, nodes: &[&OwnNode], ids: IdRange) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let directory = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(&directory, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    for (index, node) in nodes.iter().enumerate() {
        let mount = make_node(&directory, &index.to_string(), node, ids)?;
        let fds: Vec<_> = mount.iter().map(AsFd::as_fd).collect();
        seqpacket::send(socket.as_fd(), b"node", &fds)?;
    }
    Ok(())
}

fn make_node(
    directory: &OwnedFd,
    name: &str,
    node: &OwnNode,
    ids: IdRange,
) -> rustix::io::Result<Option<OwnedFd>> {
    let kind = match node.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
    };
    let device = makedev(node.major, node.minor);
    match mknodat(directory, name, kind, Mode::empty(), device) {
        Err(Errno::PERM) if is_nested().unwrap_or_default() => return Ok(None),
        result => result?,
    }
    let (user, group) = (Uid::from_raw(ids.start), Gid::from_raw(ids.start));
    chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    chmodat(directory, name, Mode::from_raw_mode(node.mode), AtFlags::empty())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(directory, name, flags).map(Some)
}
