//! The VPSes of the host in memory: what reads are served from.
//!
//! A [`VpsHandle`] is shared by everybody. Its spec changes only together with the database. What is observed of the VPS
//! is written by its [`crate::vps::task`] alone. An operation that works on the VPS holds its [`Claim`], of which there is
//! one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use insula_types::{
    ExitReason, ExitRecord, HostId, OperationId, OperationKind, Reason, SnapshotInfo, VpsId, VpsName,
    VpsSpec, VpsState,
};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};

use crate::EngineError;
use crate::vps::command::Command;

/// What is known of a VPS's processes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// What its processes do.
    pub power: Power,
    /// Init's process id on the host.
    pub init_pid: Option<u32>,
    /// How often it has booted since it was started.
    pub boots: u32,
    /// When init was executed: milliseconds since 1970, UTC.
    pub started_at_ms: Option<i64>,
    /// When the guest said that it had booted.
    pub ready_at_ms: Option<i64>,
    /// How it ended the last time, be it to boot again.
    pub last_exit: Option<ExitRecord>,
    /// When it is booted again, while it waits for that.
    pub boot_at_ms: Option<i64>,
    /// The version of the protocol that its monitor speaks.
    pub monitor_version: Option<u32>,
}

/// What the processes of a VPS do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Power {
    /// There are none.
    #[default]
    Off,
    /// Init is about to be executed.
    Starting,
    /// Its boots follow each other too quickly: the next comes after a pause.
    Waiting,
    /// Init lives.
    Running,
    /// The guest says that it has booted.
    Ready,
    /// Init was told to end.
    Stopping,
    /// They are frozen; thawed, it is ready or just running.
    Paused {
        /// What it will be when it is thawed.
        ready: bool,
    },
}

impl Observed {
    /// The state, as far as the processes tell.
    pub fn state(&self) -> VpsState {
        match self.power {
            Power::Starting => VpsState::Starting,
            Power::Waiting => VpsState::Waiting,
            Power::Running => VpsState::Running,
            Power::Ready => VpsState::Ready,
            Power::Stopping => VpsState::Stopping,
            Power::Paused { .. } => VpsState::Paused,
            Power::Off => match self.last_exit.as_ref().map(|exit| exit.reason) {
                None => VpsState::Stopped,
                Some(ExitReason::PowerOff | ExitReason::Stopped | ExitReason::Killed) => VpsState::Stopped,
                // Behind a reboot it ran again, and ended with the host.
                Some(ExitReason::Reboot | ExitReason::HostDown) => VpsState::Stopped,
                Some(_) => VpsState::Failed,
            },
        }
    }
}

/// The operation that works on a VPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The operation.
    pub operation: OperationId,
    /// What it does.
    pub kind: OperationKind,
    /// The VPSes that it works on: a clone works on its source, too.
    pub target: Option<VpsId>,
    /// Whether it may: before it is accepted it has the VPS only to be judged, and changes nothing that is shown.
    pub is_accepted: bool,
}

impl Work {
    /// An operation that is not accepted yet.
    pub(crate) fn new(operation: OperationId, kind: OperationKind, target: Option<VpsId>) -> Self {
        Self { operation, kind, target, is_accepted: false }
    }
}

/// One VPS.
#[derive(Debug)]
pub struct VpsHandle {
    /// Never changes.
    pub id: VpsId,
    /// The host of this agent.
    host: HostId,
    spec: RwLock<Arc<VpsSpec>>,
    /// Whoever works on it holds this; others wait in order.
    turn: Arc<tokio::sync::Mutex<()>>,
    work: Mutex<Option<Work>>,
    waiting: AtomicUsize,
    /// Set while its turn to be started after the host's boot is still to come.
    pub(crate) awaits_autostart: AtomicBool,
    /// The state that was told last.
    told: Mutex<Option<VpsState>>,
    snapshots: Mutex<Vec<SnapshotInfo>>,
    pub(crate) observed: watch::Receiver<Observed>,
    pub(crate) commands: mpsc::Sender<Command>,
}

/// What a list or an answer shows of a VPS: a moment's copy.
#[derive(Debug, Clone)]
pub struct VpsView {
    /// As it should be.
    pub spec: Arc<VpsSpec>,
    /// What it is doing.
    pub state: VpsState,
    /// What is known of its processes.
    pub observed: Observed,
    /// The operation that works on the VPS.
    pub work: Option<Work>,
    /// Whether its turn to be started after the host's boot is still to come.
    pub awaits_autostart: bool,
}

/// How many operations may wait for their turn on one VPS.
const MOST_WAITING: usize = 8;

impl VpsHandle {
    pub(crate) fn new(
        host: HostId,
        spec: VpsSpec,
        snapshots: Vec<SnapshotInfo>,
        observed: watch::Receiver<Observed>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let (id, spec) = (spec.id, RwLock::new(Arc::new(spec)));
        Self {
            id,
            host,
            spec,
            turn: Arc::default(),
            work: Mutex::default(),
            waiting: AtomicUsize::new(0),
            awaits_autostart: AtomicBool::new(false),
            told: Mutex::default(),
            snapshots: Mutex::new(snapshots),
            observed,
            commands,
        }
    }

    /// The VPS as it should be.
    pub fn spec(&self) -> Arc<VpsSpec> {
        self.spec.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps a changed spec, which is in the database already. Of the table, which must find it by its new name.
    pub(crate) fn set_spec(&self, spec: VpsSpec) {
        *self.spec.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(spec);
    }

    /// Its name.
    pub fn name(&self) -> VpsName {
        self.spec().name.clone()
    }

    /// Whether it lives on another host: then nothing that it has is this agent's to touch.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.spec().placement.host_id != self.host
    }

    /// What it is doing.
    pub fn state(&self) -> VpsState {
        self.state_of(&self.observed.borrow())
    }

    fn state_of(&self, observed: &Observed) -> VpsState {
        let is_shown = |work: &Work| work.is_accepted && work.target == Some(self.id);
        match self.work().filter(is_shown).map(|work| work.kind) {
            Some(OperationKind::CreateVps | OperationKind::CloneVps) if observed.power == Power::Off => {
                VpsState::Creating
            }
            Some(OperationKind::DeleteVps) => VpsState::Deleting,
            _ => resting_state(self.host, &self.spec(), observed),
        }
    }

    /// What it is doing, but for the operation that works on it.
    pub(crate) fn resting_state(&self) -> VpsState {
        resting_state(self.host, &self.spec(), &self.observed.borrow())
    }

    /// A moment's copy.
    pub fn view(&self) -> VpsView {
        let observed = self.observed.borrow().clone();
        let awaits_autostart = self.awaits_autostart.load(Ordering::Relaxed);
        VpsView {
            spec: self.spec(),
            state: self.state_of(&observed),
            work: self.work(),
            observed,
            awaits_autostart,
        }
    }

    /// Tells the state, when it is another than the one that was told last, and that one: one after the other.
    pub(crate) fn tell_state(&self, tell: impl FnOnce(VpsState, Option<VpsState>)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.state();
        if *told != Some(state) {
            tell(state, told.replace(state));
        }
    }

    /// What was told of it by an agent before.
    pub(crate) fn set_told(&self, state: VpsState) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// Its snapshots, oldest first.
    pub fn snapshots(&self) -> MutexGuard<'_, Vec<SnapshotInfo>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The operation that works on the VPS.
    pub fn work(&self) -> Option<Work> {
        *self.lock_work()
    }

    fn lock_work(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the VPS for an operation, until the claim is dropped.
    ///
    /// # Errors
    /// [`Reason::VpsBusy`] with the operation that has it.
    pub(crate) fn claim(self: &Arc<Self>, work: Work) -> Result<Claim, EngineError> {
        match self.turn.clone().try_lock_owned() {
            Ok(turn) => Ok(self.begin(work, turn)),
            Err(_) => Err(self.busy("works on")),
        }
    }

    /// A place in the queue of operations that wait to work on the VPS.
    ///
    /// # Errors
    /// [`Reason::VpsBusy`] when the line is too long.
    pub(crate) fn queue(self: &Arc<Self>) -> Result<Place, EngineError> {
        match self.waiting.fetch_add(1, Ordering::Relaxed) < MOST_WAITING {
            true => Ok(Place { handle: self.clone() }),
            false => {
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                Err(self.busy("and several after it wait for"))
            }
        }
    }

    /// A place for one that had it when an agent died: it is kept, however long the line is.
    pub(crate) fn queue_again(self: &Arc<Self>) -> Place {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Place { handle: self.clone() }
    }

    fn begin(self: &Arc<Self>, work: Work, turn: OwnedMutexGuard<()>) -> Claim {
        *self.lock_work() = Some(work);
        Claim { handle: self.clone(), _turn: turn }
    }

    fn busy(&self, does: &str) -> EngineError {
        let name = self.name();
        match self.work() {
            Some(Work { operation, kind, .. }) => EngineError::new(
                Reason::VpsBusy,
                format!("operation {operation} ({kind}) {does} VPS {:?}", name.as_str()),
            )
            .hint(format!("wait for it: insula operation wait {operation}")),
            None => {
                let message = format!("an operation {does} VPS {:?}", name.as_str());
                EngineError::new(Reason::VpsBusy, message)
                    .hint(format!("list its operations: insula operation list --vps {name}"))
            }
        }
    }
}

fn resting_state(host: HostId, spec: &VpsSpec, observed: &Observed) -> VpsState {
    match observed.power {
        _ if spec.placement.host_id != host => VpsState::Elsewhere,
        Power::Off if spec.trash.is_some() => VpsState::Deleted,
        Power::Off if spec.suspension.is_some() => VpsState::Suspended,
        _ => observed.state(),
    }
}

/// Whether it has processes, or is about to have some.
pub(crate) fn is_on(state: VpsState) -> bool {
    state.is_alive() || matches!(state, VpsState::Starting | VpsState::Waiting)
}

/// A place in the queue of operations that wait to work on a VPS.
#[derive(Debug)]
pub(crate) struct Place {
    handle: Arc<VpsHandle>,
}

impl Place {
    /// Waits until it is this one's turn.
    pub(crate) async fn claim(self, work: Work) -> Claim {
        let turn = self.handle.turn.clone().lock_owned().await;
        self.handle.begin(work, turn)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.handle.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to work on a VPS.
#[derive(Debug)]
pub(crate) struct Claim {
    handle: Arc<VpsHandle>,
    _turn: OwnedMutexGuard<()>,
}

impl Claim {
    /// The operation may do its work.
    pub(crate) fn accept(&self) {
        if let Some(work) = &mut *self.handle.lock_work() {
            work.is_accepted = true;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        *self.handle.lock_work() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_that_nobody_wanted_is_a_failure() {
        let ended = |reason| Observed {
            last_exit: Some(ExitRecord { reason, at_ms: 0, detail: None }),
            ..Observed::default()
        };
        for (reason, state) in [
            (ExitReason::PowerOff, VpsState::Stopped),
            (ExitReason::Stopped, VpsState::Stopped),
            (ExitReason::Killed, VpsState::Stopped),
            (ExitReason::Reboot, VpsState::Stopped),
            (ExitReason::HostDown, VpsState::Stopped),
            (ExitReason::Exited(1), VpsState::Failed),
            (ExitReason::BootLoop, VpsState::Failed),
            (ExitReason::Signal(11), VpsState::Failed),
            (ExitReason::OutOfMemory, VpsState::Failed),
            (ExitReason::MonitorLost, VpsState::Failed),
            (ExitReason::StartFailed, VpsState::Failed),
        ] {
            assert_eq!(ended(reason).state(), state, "{reason}");
        }
    }
}
