//! The guest's file systems, put together inside its mount namespace.
//!
//! What is below the guest's root is hostile: targets are looked up through no symbolic link and mounted upon by
//! descriptor. A root that has a link at the place of a mount does not boot.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use insula_sys::beneath::{self, Reach};
use insula_sys::mount::{make_private, set_attributes};
use rustix::fs::{CWD, FileType, Mode, OFlags, fchmod, fstat, major, minor, mkdirat, openat, symlinkat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::plan::{MountStep, RunFile, StartPlan};
use crate::protocol::{StartFailure, StartPhase};

/// What failed, and the kernel's error.
#[derive(Debug)]
pub(super) struct Failure {
    what: String,
    source: io::Error,
}

impl Failure {
    pub(super) fn into_start_failure(self) -> StartFailure {
        StartFailure::at(StartPhase::Mounts, self.what)(self.source)
    }
}

fn failed<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Failure {
    move |error| Failure { what: what.into(), source: error.into() }
}

/// Mounts everything and makes it the root of this mount namespace.
pub(super) fn assemble(
    plan: &StartPlan,
    root: &OwnedFd,
    devices: &[OwnedFd],
    console: &OwnedFd,
) -> Result<(), Failure> {
    rustix::process::umask(Mode::empty());
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(failed("make all mounts private"))?;
    attach(root, CWD, "/").map_err(failed("mount the root volume"))?;
    let mut mounts = Mounts { root, mounted: vec![] };
    for step in &plan.guest.mounts {
        mounts.mount(step).map_err(cannot_mount(step))?;
    }
    fill_dev(plan, &mounts, devices, console)?;
    let run = mounts.open("run").map_err(failed("open /run"))?;
    for file in &plan.guest.run_files {
        write_run_file(&run, file).map_err(failed(format!("write /run/{}", file.path)))?;
    }
    for path in &plan.guest.masked {
        unless_missing(mounts.mask(path)).map_err(failed(format!("cover /{path}")))?;
    }
    for path in &plan.guest.read_only {
        unless_missing(mounts.make_read_only(path)).map_err(failed(format!("make /{path} read-only")))?;
    }
    for budget in &plan.host.budgets {
        let written = mounts.write(&format!("proc/sys/user/{}", budget.name), &budget.most.to_string());
        unless_missing(written).map_err(failed(format!("limit {}", budget.name)))?;
    }
    make_root(root)
}

/// A guest's root is a tenant's, and may have anything at the place of a mount.
fn cannot_mount(step: &MountStep) -> impl FnOnce(Errno) -> Failure {
    let why = |errno| match errno {
        Errno::LOOP => ": the guest's root has a symbolic link there",
        Errno::NOTDIR => ": the guest's root has no directory there",
        _ => "",
    };
    move |errno| failed(format!("mount {} at /{}{}", step.filesystem, step.target, why(errno)))(errno)
}

/// What is mounted so far. A path is looked up from the mount that it is in, by the descriptor that the kernel gave for
/// that mount: what the guest's root has at `/proc` or `/dev` decides over nothing (CVE-2025-31133, -52565, -52881).
struct Mounts<'a> {
    root: &'a OwnedFd,
    /// Where, and what.
    mounted: Vec<(&'a str, OwnedFd)>,
}

impl<'a> Mounts<'a> {
    fn mount(&mut self, step: &'a MountStep) -> rustix::io::Result<()> {
        let context = fsopen(&*step.filesystem, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (name, value) in &step.options {
            match value {
                Some(value) => fsconfig_set_string(&context, &**name, &**value)?,
                None => fsconfig_set_flag(&context, &**name)?,
            }
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::from_bits_retain(step.attributes);
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        let (base, path) = self.find(&step.target);
        attach(&mount, ensure_directory(base, path)?, "")?;
        self.mounted.push((&step.target, mount));
        Ok(())
    }

    /// The mount that a path is in, and the path from there. Of two that fit, the later one lies upon the other.
    fn find<'p>(&self, path: &'p str) -> (&OwnedFd, &'p str) {
        let below = |(target, mount)| match path.strip_prefix(target) {
            Some("") => Some((mount, ".")),
            Some(rest) => rest.strip_prefix('/').map(|rest| (mount, rest)),
            None => None,
        };
        let mounted = self.mounted.iter().rev().map(|(target, mount)| (*target, mount));
        mounted.into_iter().find_map(below).unwrap_or((self.root, path))
    }

    fn open(&self, path: &str) -> rustix::io::Result<OwnedFd> {
        let (base, path) = self.find(path);
        open_beneath(base, path, OFlags::PATH)
    }

    fn write(&self, path: &str, text: &str) -> rustix::io::Result<()> {
        let (base, path) = self.find(path);
        rustix::io::write(open_beneath(base, path, OFlags::WRONLY)?, text.as_bytes()).map(drop)
    }

    /// Covers a file with the null device, a directory with an empty one.
    fn mask(&self, path: &str) -> rustix::io::Result<()> {
        let target = self.open(path)?;
        let is_directory = FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory;
        let cover = match is_directory {
            true => {
                let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
                fsconfig_set_string(&context, "nr_inodes", "1")?;
                fsconfig_create(&context)?;
                fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?
            }
            false => clone_mount(&self.open_null()?)?,
        };
        attach(cover, target, "")
    }

    /// The null device and nothing that is called so: what is written to a cover must be gone.
    fn open_null(&self) -> rustix::io::Result<OwnedFd> {
        let null = self.open("dev/null")?;
        let stat = fstat(&null)?;
        let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
        match is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) {
            true => Ok(null),
            false => Err(Errno::NODEV),
        }
    }

    fn make_read_only(&self, path: &str) -> rustix::io::Result<()> {
        let target = self.open(path)?;
        let copy = clone_mount(&target)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
        set_attributes(copy.as_fd(), attributes, None)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        attach(copy, target, "")
    }
}

/// The old root ends up on top of the new one and is taken off: pivot_root(2).
fn make_root(root: &OwnedFd) -> Result<(), Failure> {
    fchdir(root).map_err(failed("enter the root volume"))?;
    pivot_root(".", ".").map_err(failed("make the root volume the root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(failed("detach the host's root"))?;
    chdir("/").map_err(failed("enter the root"))
}

fn attach(mount: impl AsFd, directory: impl AsFd, path: &str) -> rustix::io::Result<()> {
    let by_fd =
        if path.is_empty() { MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH } else { MoveMountFlags::empty() };
    move_mount(mount, "", directory, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | by_fd)
}

/// Looks a path up below a directory, through no link of any kind: `ELOOP` where there is one.
fn open_beneath(base: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    beneath::open(base, path, Reach::Beneath, flags)
}

/// Opens a directory below another and makes it where it is missing.
fn ensure_directory(base: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let open = || open_beneath(base, path, OFlags::PATH | OFlags::DIRECTORY);
    match open() {
        Err(Errno::NOENT) => {
            let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
            mkdirat(ensure_directory(base, parent)?, name, Mode::from_raw_mode(0o755))?;
            open()
        }
        result => result,
    }
}

fn fill_dev(
    plan: &StartPlan,
    mounts: &Mounts<'_>,
    devices: &[OwnedFd],
    console: &OwnedFd,
) -> Result<(), Failure> {
    let dev = mounts.open("dev").map_err(failed("open /dev"))?;
    let names = plan.guest.devices.iter().map(String::as_str).chain(["console"]);
    for (name, mount) in names.zip(devices.iter().chain([console])) {
        let (parent, file) = name.rsplit_once('/').unwrap_or((".", name));
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        ensure_directory(&dev, parent)
            .and_then(|parent| openat(parent, file, flags, Mode::empty()))
            .and_then(|file| attach(mount, file, ""))
            .map_err(failed(format!("mount the device /dev/{name}")))?;
    }
    for link in &plan.guest.links {
        symlinkat(&*link.target, &dev, &*link.name).map_err(failed(format!("link /dev/{}", link.name)))?;
    }
    Ok(())
}

/// Writes a file below the new and empty `/run`.
fn write_run_file(run: &OwnedFd, file: &RunFile) -> io::Result<()> {
    let (parent, name) = file.path.rsplit_once('/').unwrap_or((".", &file.path));
    let parent = ensure_directory(run, parent)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(file.mode);
    let fd = openat(parent, name, flags, mode)?;
    fchmod(&fd, mode)?;
    File::from(fd).write_all(file.contents.as_bytes())
}

fn unless_missing(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// A detached mount of what the descriptor refers to.
pub(super) fn clone_mount(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    private(open_tree(fd, "", flags)?)
}

/// A detached mount of what is at a path of the host.
pub(crate) fn clone_mount_at(path: &Path) -> rustix::io::Result<OwnedFd> {
    private(open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?)
}

/// A clone shares the propagation of its original, and on hosts with systemd that is everyone's: the guest's mounts
/// would be seen on the host, and pivot_root(2) refuses such a root.
fn private(mount: OwnedFd) -> rustix::io::Result<OwnedFd> {
    make_private(mount.as_fd()).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(mount)
}
