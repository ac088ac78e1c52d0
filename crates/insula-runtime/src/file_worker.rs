//! A process that works with the files of a VPS that does not run.
//!
//! It is the monitor's program with another first message: it comes out of one thread, and out of a sealed file. The volume is
//! all that it sees (chroot(2)), with the ids that are stored there, which are those of the guest; it keeps the five
//! capabilities that working with files takes. The pool's limit holds for it as for the guest.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use insula_files::wire::{Frame, write_frame};
use insula_files::{FileError, FileErrorKind, Job, OpenDescriptors, Place, serve};
use insula_types::IdRange;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::SocketFlags;
use rustix::process::{chroot, fchdir};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use serde::{Deserialize, Serialize};

use crate::monitor::confine;
use crate::parked::MonitorProgram;
use crate::plan::{DROPPED_CAPABILITIES, PlanError, SeccompFilter};
use crate::seqpacket;

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub enum FileWorkerError {
    /// The filter of system calls can't be made.
    #[error("failed to plan what the worker may do")]
    Plan(#[from] PlanError),
    /// It can't be run.
    #[error("failed to run a process that works with files")]
    Run(#[source] io::Error),
}

/// The first message to the worker; the volume, its input and its output come along. A monitor's first message is another.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FirstMessage {
    /// Work with files.
    Files {
        /// What to do.
        job: Job,
        /// What is user 0 on disk.
        first_id: u32,
        /// What it may not call.
        seccomp: SeccompFilter,
    },
}

/// Runs a worker in a root volume. It lives until its job is done or its streams are closed. Frames of
/// [`insula_files::wire`] go in and come out. `run_dir` has the log of what fails; `volume` is its top directory, and the ids that
/// its files have where they are not those of the guest.
pub fn run_file_worker(
    program: &MonitorProgram,
    run_dir: &Path,
    volume: (OwnedFd, Option<IdRange>),
    job: Job,
    streams: [OwnedFd; 2],
) -> Result<(), FileWorkerError> {
    let (root, ids) = volume;
    let message = FirstMessage::Files {
        job,
        first_id: ids.map_or(0, |ids| ids.start),
        seccomp: SeccompFilter::standard()?,
    };
    let run = || -> io::Result<()> {
        let (ours, its) = seqpacket::pair(SocketFlags::empty())?;
        let [input, output] = &streams;
        let fds = [root.as_fd(), input.as_fd(), output.as_fd()];
        seqpacket::send(ours.as_fd(), &serde_json::to_vec(&message)?, &fds)?;
        let log =
            OpenOptions::new().create(true).append(true).mode(0o600).open(run_dir.join("monitor.log"))?;
        program.run("insula-files", its, log)
    };
    run().map_err(FileWorkerError::Run)
}

/// The worker's life. Returns the exit code.
pub(crate) fn live(message: &FirstMessage, fds: Vec<OwnedFd>) -> i32 {
    let FirstMessage::Files { job, first_id, seccomp } = message;
    let Ok([root, input, output]) = <[OwnedFd; 3]>::try_from(fds) else { return 1 };
    let connected = rustix::stdio::dup2_stdin(&input).and_then(|()| rustix::stdio::dup2_stdout(&output));
    drop((input, output));
    if connected.is_err() {
        return 1;
    }
    match enter(root, seccomp) {
        Ok(place) => {
            serve(&place.with_first_id(*first_id), job, StandardInput, StandardOutput);
            0
        }
        Err((what, error)) => {
            let message = format!("failed to {what}: {error}");
            let failed = Frame::Failed(FileError::new(FileErrorKind::Other, message));
            let _ = write_frame(&mut StandardOutput, &failed); // an agent that no longer reads has gone
            1
        }
    }
}

fn enter(root: OwnedFd, seccomp: &SeccompFilter) -> Result<Place, (&'static str, io::Error)> {
    let failed = |what| move |errno: rustix::io::Errno| (what, io::Error::from(errno));
    rustix::thread::set_name(c"insula-files").map_err(failed("take a name"))?;
    let descriptors = OpenDescriptors::open().map_err(|error| ("open /proc/self/fd", error))?;
    fchdir(&root).and_then(|()| chroot(".")).map_err(failed("enter the volume"))?;
    drop(root);
    rustix::process::umask(Mode::empty());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).map_err(failed("open the volume"))?;
    let dropped: Vec<u32> = DROPPED_CAPABILITIES.iter().map(|capability| capability.number).collect();
    confine(&dropped, seccomp)?;
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::DAC_READ_SEARCH
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed("drop capabilities"))?;
    Ok(Place::new(root, descriptors))
}

/// The standard input, without a buffer of its own.
pub(crate) struct StandardInput;

impl Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(rustix::stdio::stdin(), buffer)?)
    }
}

/// The standard output, without a buffer of its own.
pub(crate) struct StandardOutput;

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
