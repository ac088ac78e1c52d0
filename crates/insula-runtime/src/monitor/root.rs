//! The guest's root as a detached mount: one volume, or an overlay of layers.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use insula_sys::mount::{MountAttrFlags, set_attributes};
use insula_types::IdRange;
use rustix::fs::{Gid, Mode, mkdirat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MoveMountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    move_mount,
};
use rustix::process::fchdir;
use rustix::thread::set_thread_res_gid;

use super::filesystem::clone_mount_at;
use super::namespace::in_mount_namespace;
use super::owner::as_owner;
use crate::plan::StartPlan;
use crate::protocol::{StartFailure, StartPhase};

/// A detached mount of the root in which the guest's ids are those that are stored, or that the files have already. `pid` is
/// the guest's init, in its user namespace.
pub(super) fn mount_root(plan: &StartPlan, pid: i32) -> Result<OwnedFd, StartFailure> {
    let root = &plan.host.root;
    let ids = match root.has_shifted_ids {
        true => None,
        false => {
            let namespace = File::open(format!("/proc/{pid}/ns/user"));
            Some(namespace.map_err(StartFailure::at(StartPhase::Root, "open the guest's user namespace"))?)
        }
    };
    let upper = clone_layer(&root.upper, ids.as_ref(), MountAttrFlags::empty())?;
    if root.lower.is_empty() {
        return Ok(upper);
    }
    let mut layers = vec![upper];
    for lower in &root.lower {
        layers.push(clone_layer(lower, ids.as_ref(), MountAttrFlags::MOUNT_ATTR_RDONLY)?);
    }
    let what = format!("mount an overlay of {} layers with the upper one", root.lower.len());
    mount_overlay(&layers, plan.host.ids)
        .map_err(StartFailure::at(StartPhase::Root, format!("{what} {}", root.upper.display())))
}

/// A detached mount of one volume, without devices.
fn clone_layer(path: &Path, ids: Option<&File>, attributes: MountAttrFlags) -> Result<OwnedFd, StartFailure> {
    let failed = |what: &str| StartFailure::at(StartPhase::Root, format!("{what} {}", path.display()));
    let layer = clone_mount_at(path).map_err(|errno| failed("clone the mount of")(errno.into()))?;
    let attributes = attributes | MountAttrFlags::MOUNT_ATTR_NODEV;
    match ids {
        None => set_attributes(layer.as_fd(), attributes, None).map_err(failed("take the devices from"))?,
        Some(ids) => {
            set_attributes(layer.as_fd(), attributes | MountAttrFlags::MOUNT_ATTR_IDMAP, Some(ids.as_fd()))
                .map_err(failed("map the ids (does the file system know idmapped mounts?) of"))?
        }
    }
    Ok(layer)
}

/// A detached overlay of layers: the upper one with its directories `upper` and `work`, then those below it.
///
/// The kernel works on the layers as the user that has mounted the overlay: with the guest's ids, or it could make nothing
/// in a layer that has no other ids.
fn mount_overlay(layers: &[OwnedFd], ids: IdRange) -> io::Result<OwnedFd> {
    let made = in_mount_namespace(|directory, hand_over| {
        for (index, layer) in layers.iter().enumerate() {
            let place = index.to_string();
            mkdirat(directory, &*place, Mode::RWXU)?;
            move_mount(layer, "", directory, &*place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
        fchdir(directory)?; // paths of layers are short and plain, whatever the volumes are called
        let lower: Vec<String> = (1..layers.len()).map(|index| index.to_string()).collect();
        let group = Gid::from_raw(ids.start);
        set_thread_res_gid(None::<Gid>, group, None::<Gid>)?; // this process only mounts
        let overlay = as_owner(ids, || {
            let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(&context, "lowerdir", lower.join(":"))?;
            fsconfig_set_string(&context, "upperdir", "0/upper")?;
            fsconfig_set_string(&context, "workdir", "0/work")?;
            fsconfig_create(&context)?;
            Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)?)
        })?;
        hand_over(Some(overlay))
    })?;
    made.into_iter().flatten().next().ok_or_else(|| io::ErrorKind::NotFound.into())
}
