//! The guest's device nodes as detached mounts: the host's own, and nodes that are made for it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use insula_sys::user_namespace::is_nested;
use insula_types::IdRange;
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, fstat, makedev, mknodat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::filesystem::clone_mount_at;
use super::namespace::in_mount_namespace;
use crate::cgroup::DeviceKind;
use crate::plan::{DeviceNode, OwnNode, StartPlan};
use crate::protocol::{StartFailure, StartPhase};

/// Detached mounts of the plan's device nodes, in the plan's order.
pub(super) fn clone_devices(plan: &StartPlan) -> Result<Vec<OwnedFd>, StartFailure> {
    let failed = |what: &str, device: &DeviceNode| {
        let what = format!("{what} the device {}", device.source.display());
        StartFailure::at(StartPhase::Mounts, what)
    };
    let own: Vec<&OwnNode> = plan.host.devices.iter().filter_map(|device| device.own.as_ref()).collect();
    let mut made = match own.is_empty() {
        true => vec![],
        false => {
            plan.host
                .layout
                .open_devices(&plan.id)
                .map_err(|error| StartFailure::new(StartPhase::Cgroup, &error))?;
            make_nodes(&own, plan.host.ids)
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
    plan.host.devices.iter().map(clone).collect()
}

fn clone_device(path: &Path) -> rustix::io::Result<OwnedFd> {
    let mount = clone_mount_at(path)?;
    match FileType::from_raw_mode(fstat(&mount)?.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(mount),
        _ => Err(Errno::NODEV), // a file of the host that is called so, which all guests would share
    }
}

/// Makes nodes that belong to the guest's root, on a file system that nobody else sees.
///
/// `None` for each where nobody can make one: in a VPS. The guest gets what the VPS has, with its permissions.
fn make_nodes(nodes: &[&OwnNode], ids: IdRange) -> io::Result<Vec<Option<OwnedFd>>> {
    in_mount_namespace(|directory, hand_over| {
        for (index, node) in nodes.iter().enumerate() {
            hand_over(make_node(directory, &index.to_string(), node, ids)?)?;
        }
        Ok(())
    })
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
