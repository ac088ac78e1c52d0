//! Monitors that wait for a VPS to start, so that no start waits for one. [`Spares`] owns them until a start takes one;
//! they end with the agent. A spare must not know which VPS it is for.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use insula_files::Job;
use insula_runtime::{
    CgroupLayout, MonitorConfig, MonitorProgram, ParkedMonitor, SpawnError, run_file_worker, spawn_parked,
};
use insula_types::IdRange;

use crate::EngineError;

/// The parked monitors of an agent. They end with it.
#[derive(Debug, Clone)]
pub(crate) struct Spares {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    program: MonitorProgram,
    layout: CgroupLayout,
    run_dir: PathBuf,
    wanted: usize,
    /// `None` once no further monitors may be made.
    parked: Mutex<Option<VecDeque<ParkedMonitor>>>,
    /// Held while monitors are made.
    filling: Mutex<()>,
}

impl Spares {
    pub(crate) fn new(
        program: MonitorProgram,
        layout: CgroupLayout,
        run_dir: PathBuf,
        wanted: usize,
    ) -> Self {
        let (parked, filling) = (Mutex::new(Some(VecDeque::new())), Mutex::default());
        Self { shared: Arc::new(Shared { program, layout, run_dir, wanted, parked, filling }) }
    }

    fn parked(&self) -> MutexGuard<'_, Option<VecDeque<ParkedMonitor>>> {
        self.shared.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a parked monitor, or runs one if there is none. The next spare is not made here, during the start, but by
    /// [`Self::refill`] after it.
    pub(crate) async fn take(&self) -> Result<ParkedMonitor, EngineError> {
        let parked = self.parked().as_mut().and_then(VecDeque::pop_front);
        match parked {
            Some(monitor) => Ok(monitor),
            None => {
                let spares = self.clone();
                crate::blocking("run a monitor", move || spares.spawn().map_err(spawn_failed)).await
            }
        }
    }

    /// Makes spares up to the wanted number, without delaying the start that took one.
    pub(crate) fn refill(&self) {
        let spares = self.clone();
        tokio::task::spawn_blocking(move || {
            let _alone = spares.shared.filling.lock().unwrap_or_else(PoisonError::into_inner);
            while spares.are_too_few() {
                match spares.spawn_and_wait() {
                    Ok(monitor) => spares.keep(monitor),
                    Err(error) => {
                        tracing::warn!("no spare monitor: {}", spawn_failed(error).chain());
                        break;
                    }
                }
            }
        });
    }

    /// One that comes too late ends at once.
    fn keep(&self, monitor: ParkedMonitor) {
        if let Some(parked) = self.parked().as_mut() {
            parked.push_back(monitor);
        }
    }

    fn are_too_few(&self) -> bool {
        self.parked().as_ref().is_some_and(|parked| parked.len() < self.shared.wanted)
    }

    /// Runs a process that works with the files of a root volume. It blocks.
    pub(crate) fn run_file_worker(
        &self,
        volume: (OwnedFd, Option<IdRange>),
        job: Job,
        streams: [OwnedFd; 2],
    ) -> Result<(), EngineError> {
        let Shared { program, run_dir, .. } = &*self.shared;
        run_file_worker(program, run_dir, volume, job, streams)
            .map_err(|error| EngineError::internal("failed to work with the files of the VPS", error))
    }

    /// Ends all spares, including those that are just being made, and makes no further ones. It blocks.
    pub(crate) fn dismiss(&self) {
        *self.parked() = None;
        drop(self.shared.filling.lock());
    }

    fn spawn(&self) -> Result<ParkedMonitor, SpawnError> {
        let Shared { program, layout, run_dir, .. } = &*self.shared;
        spawn_parked(&MonitorConfig { program, layout, run_dir })
    }

    fn spawn_and_wait(&self) -> Result<ParkedMonitor, SpawnError> {
        const LIMIT: Duration = Duration::from_secs(10);
        let monitor = self.spawn()?;
        monitor.wait(Instant::now() + LIMIT)?;
        Ok(monitor)
    }
}

fn spawn_failed(error: SpawnError) -> EngineError {
    EngineError::internal("failed to get a monitor", error)
}
