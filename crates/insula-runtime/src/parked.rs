//! Monitors that wait for a VPS.
//!
//! On a hybrid host, a monitor waits some 16 ms until the kernel has moved it to its v1 groups. A parked monitor has done
//! that before it is needed. If its control socket closes before it has a plan, it ends: so it ends with the agent.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use insula_sys::process::SealedProgram;
use rustix::fs::fcntl_setfl;
use rustix::net::SocketFlags;

use crate::cgroup::CgroupLayout;
use crate::connection::{ConnectionError, MonitorConnection};
use crate::plan::StartPlan;
use crate::protocol::{Event, PROTOCOL_VERSION, Request, StartFailure};
use crate::seqpacket;

/// Why a monitor could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its program can't be read.
    #[error("failed to load the monitor's program {path}")]
    Load {
        /// The program.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The monitor can't be run.
    #[error("failed to run the monitor")]
    Run(#[source] io::Error),
    /// The monitor ended before it was parked.
    #[error("the monitor could not be parked")]
    Park(#[source] StartFailure),
    /// The connection to the monitor failed.
    #[error("failed to talk to the parked monitor")]
    Connection(#[from] ConnectionError),
}

/// The program of the monitors, which is read once and kept in sealed memory. All monitors share its pages. No process in a
/// guest can reach the host's file through them, and an upgrade of the file does not change monitors that run.
#[derive(Debug)]
pub struct MonitorProgram {
    program: SealedProgram,
}

impl MonitorProgram {
    /// Reads the monitor's program into sealed memory.
    pub fn load(path: &Path) -> Result<Self, SpawnError> {
        SealedProgram::load(path, c"insula-monitor")
            .map(|program| Self { program })
            .map_err(|source| SpawnError::Load { path: path.to_owned(), source })
    }

    /// Runs the program, with its first message on `control`. Returns when the monitor is no longer a child of the caller.
    pub(crate) fn run(&self, name: &str, control: OwnedFd, log: File) -> io::Result<()> {
        self.program.run_daemon(name, control, Some(log))
    }
}

/// What a monitor needs to know before it has a plan.
#[derive(Debug)]
pub struct MonitorConfig<'a> {
    /// The program that it runs.
    pub program: &'a MonitorProgram,
    /// Where the cgroups are. [`CgroupLayout::ensure_root`] must have been called.
    pub layout: &'a CgroupLayout,
    /// The agent's run directory, which exists. A monitor that fails writes the reason to `monitor.log` in it.
    pub run_dir: &'a Path,
}

/// A monitor that waits for a plan. It ends when this is dropped.
#[derive(Debug)]
pub struct ParkedMonitor {
    connection: MonitorConnection,
    version: OnceLock<u32>,
}

/// Runs a monitor that parks. Returns at once: [`ParkedMonitor::wait`] tells when it is parked.
pub fn spawn_parked(config: &MonitorConfig<'_>) -> Result<ParkedMonitor, SpawnError> {
    let (ours, its) = seqpacket::pair(SocketFlags::NONBLOCK).map_err(SpawnError::Run)?;
    fcntl_setfl(&its, rustix::fs::OFlags::empty()).map_err(|errno| SpawnError::Run(errno.into()))?;
    let layout = serde_json::to_vec(config.layout).map_err(|error| SpawnError::Run(error.into()))?;
    seqpacket::send(ours.as_fd(), &layout, &[]).map_err(SpawnError::Run)?;
    let log = config.run_dir.join("monitor.log");
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log).map_err(SpawnError::Run)?;
    config.program.run("insula-monitor", its, log).map_err(SpawnError::Run)?;
    Ok(ParkedMonitor { connection: MonitorConnection::from_socket(ours), version: OnceLock::new() })
}

impl ParkedMonitor {
    /// Waits until the monitor is parked. To start it without waiting is no error.
    pub fn wait(&self, deadline: Instant) -> Result<(), SpawnError> {
        loop {
            match self.connection.receive(deadline)?.0 {
                Event::Parked { version } => {
                    self.version.get_or_init(|| version);
                    return Ok(());
                }
                Event::StartFailed { failure } => return Err(SpawnError::Park(failure)),
                _ => {}
            }
        }
    }

    /// The version of the protocol that the monitor speaks. Until it has said so, that of this program.
    pub fn version(&self) -> u32 {
        self.version.get().copied().unwrap_or(PROTOCOL_VERSION)
    }

    /// The version that the monitor itself has told. Blocks until the monitor is parked.
    fn told_version(&self) -> Result<u32, ConnectionError> {
        const PARKING: Duration = Duration::from_secs(10);
        if self.version.get().is_none() {
            self.wait(Instant::now() + PARKING).map_err(|error| match error {
                SpawnError::Connection(error) => error,
                _ => ConnectionError::Closed, // it has said why, and ends
            })?;
        }
        Ok(self.version())
    }

    /// Hands over the plan, unless the monitor's version is too old to carry it out as it is meant. The events on the
    /// connection say what becomes of it: [`Event::Phase`], [`Event::StartFailed`], [`Event::Exited`]. The connection ends
    /// with the monitor.
    pub fn start(self, plan: &StartPlan) -> Result<MonitorConnection, ConnectionError> {
        let needed = plan.needed_protocol();
        if needed > 1 {
            let version = self.told_version()?;
            if version < needed {
                return Err(ConnectionError::TooOld { version, needed });
            }
        }
        self.connection.send(&Request::Start { plan: Box::new(plan.clone()) }, &[])?;
        Ok(self.connection)
    }
}

impl AsFd for ParkedMonitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}
