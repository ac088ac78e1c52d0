//! The one task of each VPS: it alone talks to the monitor, and writes what is observed. It must not wait for an
//! operation, nor decide what is allowed.
//!
//! ```text
//!            launch                    init executed            READY=1
//!   off ───────────────> starting ───────────────────> running ─────────> ready
//!    ^                       │                            │                 │
//!    └───────────────────────┴──── the monitor ended ─────┴── stopping <────┘
//! ```
//!
//! Requests come over a channel and are done one after the other. A caller that asked waits until what is observed
//! changes.

pub(crate) mod end;

use std::path::PathBuf;
use std::sync::Arc;

use insula_runtime::protocol::StartFailure;
use insula_runtime::{CgroupLayout, ConnectionError, Event, Phase, Request, StartPlan, Status, VpsDirectory};
use insula_types::{ExitReason, ExitRecord, Reason, SnapshotInfo, VpsId, VpsSpec};
use tokio::sync::{mpsc, oneshot, watch};

use crate::host::database::Database;
use crate::vps::command::Command;
use crate::vps::limit_bell::{LimitBell, limit_met};
use crate::vps::link::{MonitorLink, monitor_failed};
use crate::vps::news::News;
use crate::vps::spares::Spares;
use crate::vps::table::Table;
use crate::{EngineError, Observed, Power, VpsHandle, now_ms};

/// The versions of the protocol that brought [`Request::SetLimits`] and [`Request::SetOnCrash`].
const SETS_LIMITS: u32 = 2;
pub(crate) const SETS_ON_CRASH: u32 = 3;

/// What the tasks of all VPSes need of what is around them.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) layout: CgroupLayout,
    pub(crate) run_dir: PathBuf,
    pub(crate) spares: Spares,
    pub(crate) store: Database,
    pub(crate) table: Arc<Table>,
    pub(crate) news: Arc<dyn News>,
}

/// What a task begins with.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How the VPS ended the last time.
    pub(crate) exit: Option<ExitRecord>,
    /// Its monitor, where it lives, the version of the protocol that it speaks, and what it says.
    pub(crate) running: Option<(MonitorLink, u32, Status)>,
    /// Whether its monitor lives, but is not understood, or is another host's.
    pub(crate) is_silent: bool,
}

/// The owner of what is observed of a VPS.
pub(crate) struct VpsTask {
    around: Surroundings,
    id: VpsId,
    directory: VpsDirectory,
    observed: watch::Sender<Observed>,
    commands: mpsc::Receiver<Command>,
    link: Option<MonitorLink>,
    launching: Option<oneshot::Sender<Result<(), EngineError>>>,
    /// For the caller that waits for the monitor's answer.
    telling: Option<oneshot::Sender<Result<(), EngineError>>>,
    /// How the guest ended, as its monitor said last.
    exit: Option<ExitRecord>,
    limits: Option<LimitBell>,
    /// The end of a boot that was followed by another, until it is in the database.
    unkept: Option<ExitRecord>,
}

impl VpsTask {
    /// Puts a VPS into the table, with the task that owns what is observed of it.
    pub(crate) fn adopt(
        around: &Surroundings,
        spec: VpsSpec,
        snapshots: Vec<SnapshotInfo>,
        found: Found,
    ) -> Arc<VpsHandle> {
        let handle = Arc::new(Self::spawn(around.clone(), spec, snapshots, found));
        around.table.insert(handle.clone());
        handle
    }

    fn spawn(around: Surroundings, spec: VpsSpec, snapshots: Vec<SnapshotInfo>, found: Found) -> VpsHandle {
        let directory = VpsDirectory::new(&around.run_dir, &spec.id);
        let (observed, receiver) = watch::channel(Observed { last_exit: found.exit, ..Observed::default() });
        let (sender, commands) = mpsc::channel(16);
        let host = around.store.host_id();
        let mut task = Self {
            around,
            id: spec.id,
            directory,
            observed,
            commands,
            link: None,
            launching: None,
            telling: None,
            exit: None,
            limits: None,
            unkept: None,
        };
        if let Some((link, version, status)) = found.running {
            task.link = Some(link);
            task.note_version(version);
            task.update(&status);
        }
        tokio::spawn(task.run());
        VpsHandle::new(host, spec, snapshots, receiver, sender)
    }

    async fn run(mut self) {
        loop {
            if let Some(record) = self.unkept.take() {
                self.keep_exit(&record).await;
            }
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break, // the VPS no longer exists
                },
                event = next_event(self.link.as_ref()) => match event {
                    Ok(event) => self.hear(event),
                    Err(error) => self.ended(error).await,
                },
                () = limit_met(self.limits.as_ref()) => self.tell_limits(),
            }
            self.tell_state();
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Launch(plan, reply) => match self.launch(&plan).await {
                Ok(()) => self.launching = Some(reply),
                Err(error) => answer(reply, Err(error)),
            },
            Command::Stop(timeout) => {
                if let Power::Paused { .. } = self.observed.borrow().power {
                    let thawed = self.around.layout.thaw(&self.id);
                    if let Err(error) = thawed {
                        tracing::warn!(vps = %self.id, "failed to thaw it before it is stopped: {error}");
                    }
                }
                let timeout_ms =
                    timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
                let request = timeout_ms.map_or(Request::Kill, |timeout_ms| Request::Stop { timeout_ms });
                if let Some(Err(error)) = self.link.as_ref().map(|link| link.send(&request, &[])) {
                    tracing::warn!(vps = %self.id, "{}", error.chain());
                }
            }
            Command::SetPaused(paused, reply) => answer(reply, self.set_paused(paused)),
            Command::RememberLimits(values, reply) => {
                let known = self.knows(SETS_LIMITS, "new limits while its guest runs");
                answer(reply, known.and_then(|()| self.tell(&Request::SetLimits { values })));
            }
            Command::SetOnCrash(on_crash, reply) => {
                let known = self.observed.borrow().monitor_version >= Some(SETS_ON_CRASH);
                let request = Request::SetOnCrash { on_crash };
                match self.link.as_ref().filter(|_| known).map(|link| link.send(&request, &[])) {
                    Some(Ok(())) => self.telling = Some(reply),
                    Some(Err(error)) => answer(reply, Err(error)),
                    None => answer(reply, Ok(())), // the next start's plan says so
                }
            }
        }
    }

    /// Asks the monitor, where there is one.
    fn tell(&self, request: &Request) -> Result<(), EngineError> {
        self.link.as_ref().map_or(Ok(()), |link| link.send(request, &[]))
    }

    /// Whether the monitor, where there is one, speaks this version of the protocol or a newer one.
    fn knows(&self, version: u32, what: &str) -> Result<(), EngineError> {
        match self.observed.borrow().monitor_version {
            Some(its) if its < version => {
                let message = format!(
                    "its monitor is of an older version ({its}) that does not know {what} (version {version})"
                );
                Err(EngineError::new(Reason::MonitorTooOld, message)
                    .hint("restart the VPS: it gets a monitor of this version then"))
            }
            _ => Ok(()),
        }
    }

    /// Hands the plan to a monitor. A parked one may have been killed: another one is asked then.
    async fn launch(&mut self, plan: &StartPlan) -> Result<(), EngineError> {
        if self.link.is_some() {
            return Err(EngineError::new(Reason::VpsRunning, "it already has a monitor"));
        }
        let mut tries = 3;
        let (connection, version) = loop {
            tries -= 1;
            let monitor = self.around.spares.take().await?;
            let version = monitor.version();
            match monitor.start(plan) {
                Err(ConnectionError::Closed) if tries > 0 => continue,
                result => {
                    let failed = |error| monitor_failed("use a monitor", error);
                    break (result.map_err(failed)?, version);
                }
            }
        };
        self.link = Some(MonitorLink::new(connection)?);
        self.exit = None;
        self.observed.send_modify(|observed| {
            observed.power = Power::Starting;
            observed.monitor_version = Some(version);
        });
        Ok(())
    }

    fn tell_state(&self) {
        if let Some(handle) = self.around.table.by_id(&self.id) {
            self.around.news.note_state(&handle);
        }
    }

    /// Watches for limits that are hit, from now on.
    fn watch_limits(&mut self) {
        let watch = LimitBell::open(&self.around.layout, &self.id);
        self.limits = watch.inspect_err(|error| tracing::warn!(vps = %self.id, "{}", error.chain())).ok();
    }

    fn tell_limits(&mut self) {
        let (Some(limits), Some(handle)) = (&mut self.limits, self.around.table.by_id(&self.id)) else {
            return;
        };
        match limits.news() {
            Some(news) => news.for_each(|(limit, count)| self.around.news.note_limit(&handle, limit, count)),
            None => self.limits = None, // the groups are gone; the next boot has others
        }
    }

    fn set_paused(&mut self, paused: bool) -> Result<(), EngineError> {
        let failed = |error| EngineError::internal("failed to freeze or thaw the processes", error);
        let layout = &self.around.layout;
        match paused {
            true => layout.freeze(&self.id).map_err(failed)?,
            false => layout.thaw(&self.id).map_err(failed)?,
        };
        self.observed.send_modify(|observed| {
            observed.power = match (observed.power, paused) {
                (Power::Running, true) => Power::Paused { ready: false },
                (Power::Ready, true) => Power::Paused { ready: true },
                (Power::Paused { ready: false }, false) => Power::Running,
                (Power::Paused { ready: true }, false) => Power::Ready,
                (power, _) => power,
            };
        });
        Ok(())
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Parked { version } => self.note_version(version),
            Event::Hello { version, status } => {
                self.note_version(version);
                self.update(&status);
            }
            Event::Phase { status } => self.update(&status),
            Event::StartFailed { failure } => self.start_failed(&failure),
            Event::Exited { record } => self.exit = Some(record),
            Event::OnCrashSet => self.answer_telling(Ok(())),
            Event::Refused { message } => {
                tracing::warn!(vps = %self.id, "its monitor refused: {message}");
                let error = EngineError::new(Reason::Internal, format!("its monitor refused: {message}"));
                self.answer_telling(Err(error));
            }
            _ => {} // of exec and console, which have connections of their own
        }
    }

    fn note_version(&self, version: u32) {
        self.observed.send_modify(|observed| observed.monitor_version = Some(version));
    }

    fn update(&mut self, status: &Status) {
        let frozen = self.around.layout.is_frozen(&self.id);
        self.observed.send_modify(|observed| {
            observed.power = match status.phase {
                Phase::Starting if status.boot_at_ms.is_some() => Power::Waiting,
                Phase::Starting => Power::Starting,
                Phase::Running if frozen => Power::Paused { ready: false },
                Phase::Running => Power::Running,
                Phase::Ready if frozen => Power::Paused { ready: true },
                Phase::Ready => Power::Ready,
                // Until the monitor is gone with all that it had, it is stopping.
                Phase::Stopping | Phase::Exited => Power::Stopping,
            };
            observed.init_pid = status.init_pid.and_then(|pid| u32::try_from(pid).ok());
            observed.boots = status.boots;
            observed.started_at_ms = status.started_at_ms;
            observed.ready_at_ms = status.ready_at_ms;
            observed.boot_at_ms = status.boot_at_ms;
            if status.last_end.is_some() && observed.last_exit != status.last_end {
                observed.last_exit = status.last_end.clone();
                self.unkept = status.last_end.clone();
            }
        });
        if matches!(status.phase, Phase::Running | Phase::Ready) {
            // On cgroup2, a guest that reboots gets new groups. The bell of the former groups is asked here. Otherwise the news
            // of their end could come after this, and the new groups would have no bell.
            self.tell_limits();
            if self.limits.is_none() {
                self.watch_limits();
            }
            self.answer_launch(Ok(()));
        }
    }

    fn start_failed(&mut self, failure: &StartFailure) {
        self.exit.get_or_insert_with(|| ExitRecord {
            reason: ExitReason::StartFailed,
            at_ms: now_ms(),
            detail: Some(failure.to_string()),
        });
        self.answer_launch(Err(EngineError::new(Reason::StartFailed, "failed to start the VPS")
            .caused_by(failure.clone())
            .hint("the phase and the errno name what the host or the image lacks")));
    }

    fn answer_launch(&mut self, result: Result<(), EngineError>) {
        if let Some(reply) = self.launching.take() {
            answer(reply, result);
        }
    }

    fn answer_telling(&mut self, result: Result<(), EngineError>) {
        if let Some(reply) = self.telling.take() {
            answer(reply, result);
        }
    }
}

async fn next_event(link: Option<&MonitorLink>) -> Result<Event, ConnectionError> {
    match link {
        Some(link) => link.next().await.map(|(event, _)| event),
        None => std::future::pending().await,
    }
}

/// Answers the caller, which may have gone.
fn answer(reply: oneshot::Sender<Result<(), EngineError>>, result: Result<(), EngineError>) {
    let _ = reply.send(result);
}
