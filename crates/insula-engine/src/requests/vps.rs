//! What may be asked of VPSes and operations: judged by the policy, journaled, begun.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use insula_store::{OperationFilter, Store, StoreError};
use insula_types::{
    AuditEntry, OperationId, OperationRecord, OperationState, Reason, Requester, VpsId, VpsSpec, VpsState,
};
use tokio::sync::watch;

use crate::journal::execution::{Right, new_record};
use crate::journal::retries::Asked;
use crate::model::job::{Boot, Job, Stop};
use crate::model::policy::{admit, may_wait};
use crate::model::step::{Swap, Terms};
use crate::requests::changes::change_ssh_keys;
use crate::requests::create::name_taken;
use crate::vps::handle::Work;
use crate::vps::task::SETS_ON_CRASH;
use crate::{Engine, EngineError, VpsHandle, VpsView, now_ms};

/// Some operations, newest first, and whether there are older ones.
#[derive(Debug)]
pub struct OperationPage {
    /// The operations.
    pub operations: Vec<OperationRecord>,
    /// Whether there are older ones.
    pub more: bool,
}

impl Engine {
    /// The VPS that somebody means by a name or an id.
    pub fn vps(&self, text: &str) -> Result<Arc<VpsHandle>, EngineError> {
        self.table.find(text)
    }

    /// All VPSes, by name. From memory.
    pub fn vpses(&self) -> Vec<VpsView> {
        self.table.by_name().iter().map(|handle| handle.view()).collect()
    }

    /// The VPSes in the trash, by name, and those of one name oldest first.
    pub fn deleted_vpses(&self) -> Vec<VpsView> {
        let all = self.table.all();
        let mut deleted: Vec<VpsView> =
            all.iter().map(|handle| handle.view()).filter(|view| view.spec.trash.is_some()).collect();
        deleted.sort_by(|a, b| (&a.spec.name, a.spec.id).cmp(&(&b.spec.name, b.spec.id)));
        deleted
    }

    /// Boots a VPS. Nothing to do when it runs, but for the waiting.
    pub async fn start_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        wait_ready: bool,
        override_suspension: bool,
    ) -> Result<OperationRecord, EngineError> {
        let job = Job::StartVps { vps: handle.id, boot: Boot { wait_ready }, override_suspension };
        self.request(asked, handle, job).await
    }

    /// Shuts a VPS down; by force, or when the time is over, it is killed.
    pub async fn stop_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        force: bool,
        timeout: Option<Duration>,
    ) -> Result<OperationRecord, EngineError> {
        let job = Job::StopVps { vps: handle.id, stop: self.stop(force, timeout) };
        self.request(asked, handle, job).await
    }

    /// Shuts a VPS down and boots it.
    pub async fn restart_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        force: bool,
        timeout: Option<Duration>,
        wait_ready: bool,
    ) -> Result<OperationRecord, EngineError> {
        let stop = self.stop(force, timeout);
        let job = Job::RestartVps { vps: handle.id, stop, boot: Boot { wait_ready } };
        self.request(asked, handle, job).await
    }

    /// Freezes the processes of a VPS.
    pub async fn pause_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, Job::PauseVps { vps: handle.id }).await
    }

    /// Thaws the processes of a VPS.
    pub async fn resume_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, Job::ResumeVps { vps: handle.id }).await
    }

    pub(crate) fn stop(&self, force: bool, timeout: Option<Duration>) -> Stop {
        let timeout = timeout.unwrap_or(self.settings.stop_timeout());
        Stop { force, timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) }
    }

    /// One operation, under way or done.
    pub async fn operation(&self, id: OperationId) -> Result<OperationRecord, EngineError> {
        if let Some(watch) = self.operations.watch(&id) {
            return Ok(watch.borrow().clone());
        }
        let found = self.store(move |store| store.operation(&id)).await?;
        found
            .ok_or_else(|| EngineError::new(Reason::OperationNotFound, format!("there is no operation {id}")))
    }

    /// The record of an operation under way as it changes; `None` when it is done.
    pub fn watch_operation(&self, id: &OperationId) -> Option<watch::Receiver<OperationRecord>> {
        self.operations.watch(id)
    }

    /// Waits until an operation is done, or the time is over: returns it as it is then.
    pub async fn wait_operation(
        &self,
        id: OperationId,
        timeout: Option<Duration>,
    ) -> Result<OperationRecord, EngineError> {
        if let Some(mut watch) = self.operations.watch(&id) {
            let done =
                async { watch.wait_for(|record| record.state.is_final()).await.map(|record| record.clone()) };
            let waited = match timeout {
                Some(timeout) => tokio::time::timeout(timeout, done).await.ok(),
                None => Some(done.await),
            };
            if let Some(Ok(record)) = waited {
                return Ok(record);
            }
        }
        self.operation(id).await
    }

    /// Operations, newest first. What is under way is as it is now: its progress is not journaled. What is over is as it was
    /// journaled, which comes first: those who watch may not have been told yet.
    pub async fn operations(&self, filter: OperationFilter) -> Result<OperationPage, EngineError> {
        let page = self.store(move |store| store.operations(&filter)).await?;
        let now = |record: OperationRecord| match self.operations.watch(&record.id) {
            Some(watch) if !record.state.is_final() => watch.borrow().clone(),
            _ => record,
        };
        Ok(OperationPage { operations: page.operations.into_iter().map(now).collect(), more: page.more })
    }

    /// Asks an operation to end early. What was done is taken back.
    pub async fn cancel_operation(
        &self,
        requester: &Requester,
        id: OperationId,
    ) -> Result<OperationRecord, EngineError> {
        let record = self.operation(id).await?;
        let refused = |why: &str| {
            let message = format!("operation {id} ({}) {why}", record.kind);
            Err(EngineError::new(Reason::NotCancellable, message))
        };
        let job: Option<Job> = serde_json::from_str(&record.request).ok();
        match (record.state, job) {
            (OperationState::Succeeded | OperationState::Failed, _) => return refused("is over"),
            (OperationState::Undoing, _) => return refused("is being taken back already"),
            (OperationState::Running | OperationState::InDoubt, Some(job))
                if !job.plan().is_cancellable(record.step as usize) =>
            {
                return refused("is beyond the point where it could be taken back");
            }
            _ => {}
        }
        if self.operations.cancel(&id, requester).is_none() {
            return refused("is over");
        }
        let entry = AuditEntry {
            at_ms: now_ms(),
            requester: requester.clone(),
            action: "cancel-operation".to_owned(),
            object: record.target.clone(),
            object_name: record.target_name.clone(),
            result: "ACCEPTED".to_owned(),
            request_id: None,
            operation: Some(id),
        };
        self.store(move |store| store.append_audit(&entry)).await?;
        self.operation(id).await
    }

    /// Judges, journals and begins a job on a VPS.
    pub(crate) async fn request(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        job: Job,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || self.request_now(asked, handle, job, journal)).await
    }

    /// The same, for a request that is known to be no retry. `write` puts the record into the journal, perhaps with more.
    pub(crate) async fn request_now(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        job: Job,
        write: impl FnOnce(&Store, &OperationRecord) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<OperationRecord, EngineError> {
        let name = handle.name();
        let request = job.request().ok_or_else(|| gone(name.as_str()))?;
        let work = Work::new(OperationId::new(), job.kind(), Some(handle.id));
        let (right, is_queued) = match handle.claim(work) {
            Ok(claim) => (Right::Now(vec![claim]), false),
            Err(_) if may_wait(request) && asked.etag.is_none() => (Right::Later(handle.queue()?), true),
            Err(busy) => return Err(busy),
        };
        if self.table.by_id(&handle.id).is_none() {
            return Err(gone(name.as_str()));
        }
        // Not before it is ours: whoever had it may have left it in another state.
        let state = handle.resting_state();
        let is_called_off =
            matches!(job, Job::StopVps { .. }) && handle.awaits_autostart.load(Ordering::Relaxed);
        let is_needed =
            is_queued || admit(request, name.as_str(), state)? || is_called_off || !is_done_by(&job, state);
        let spec = handle.spec();
        check_etag(asked, "VPS", name.as_str(), spec.revision)?;
        let job = self.refresh(job, handle)?;
        let mut record = new_record(asked, self.digest(asked), &job, name.as_str(), spec.tenant.clone());
        record.id = work.operation;
        record.notes = notes(&job, state, handle.observed.borrow().monitor_version);
        if is_queued {
            record.state = OperationState::Queued;
        }
        match is_needed {
            _ if asked.validate_only => Ok(record),
            true => self.begin(record, job, write, move |_| Ok(right)).await,
            false => {
                drop(right);
                self.spawn_done(record).await
            }
        }
    }

    /// The job with what it has to know of the VPS as it is now: another operation may have changed that since.
    pub(crate) fn refresh(&self, job: Job, handle: &VpsHandle) -> Result<Job, EngineError> {
        let spec = handle.spec();
        Ok(match job {
            Job::UpdateVps { vps, update, .. } => {
                let from = Terms::of(&spec);
                let to = self.change_terms(from.clone(), &update)?;
                self.check_ids(&spec, &to.features)?;
                self.check_exchangeable(&spec, &to.features)?;
                Job::UpdateVps { vps, update, terms: Some(Box::new(Swap { from, to })) }
            }
            Job::CreateSnapshot { .. } => {
                self.check_copyable(handle)?;
                job
            }
            Job::RenameVps { vps, name } => {
                Job::RenameVps { vps, name: Swap { from: spec.name.clone(), to: name.to } }
            }
            Job::ChangeVpsSshKeys { vps, add, remove, .. } => {
                let to = change_ssh_keys(&spec.ssh_keys, &add, &remove);
                let keys = Swap { from: spec.ssh_keys.clone(), to };
                Job::ChangeVpsSshKeys { vps, add, remove, keys }
            }
            Job::SuspendVps { vps, mut suspension, stop } => {
                // One that is suspended again has another reason, and is remembered as it was.
                let before = spec.suspension.as_ref().map(|suspension| suspension.was_running);
                suspension.was_running = before.unwrap_or_else(|| {
                    is_on(handle.resting_state()) || handle.awaits_autostart.load(Ordering::Relaxed)
                });
                Job::SuspendVps { vps, suspension, stop }
            }
            Job::UnsuspendVps { vps, .. } => Job::UnsuspendVps { vps, suspension: spec.suspension.clone() },
            Job::TrashVps { vps, trash, force, .. } => {
                Job::TrashVps { vps, trash, name: spec.name.clone(), force }
            }
            job => job,
        })
    }

    /// Changes a VPS's spec: in the database first, then in memory.
    pub(crate) async fn change_spec(
        &self,
        vps: &VpsId,
        change: impl FnOnce(&mut VpsSpec),
    ) -> Result<(), EngineError> {
        let Some(handle) = self.table.by_id(vps) else { return Ok(()) };
        let before = handle.spec();
        let mut spec = (*before).clone();
        change(&mut spec);
        if spec == *before {
            return Ok(());
        }
        let kept = spec.clone();
        let store = self.store.clone();
        crate::blocking("change a VPS", move || {
            store.update_vps(&kept).map_err(|error| match &error {
                StoreError::Taken { what, .. } if what.contains("vps.name") => name_taken(&kept.name),
                _ => EngineError::from(error),
            })
        })
        .await?;
        self.table.change(&handle, spec);
        self.note_state(&handle);
        Ok(())
    }
}

/// Whether a job without anything to change is done: one that was to wait for a boot still waits.
fn is_done_by(job: &Job, state: VpsState) -> bool {
    !matches!(job, Job::StartVps { boot: Boot { wait_ready: true }, .. }) || state == VpsState::Ready
}

/// Whether it has processes, or is about to have some.
pub(crate) fn is_on(state: VpsState) -> bool {
    state.is_alive() || matches!(state, VpsState::Starting | VpsState::Waiting)
}

/// What the requester should know about the result.
fn notes(job: &Job, state: VpsState, monitor_version: Option<u32>) -> Vec<String> {
    let Job::UpdateVps { terms: Some(terms), .. } = job else { return vec![] };
    let Swap { from, to } = &**terms;
    let on_crash = |terms: &Terms| terms.supervision.on_crash.unwrap_or_default();
    let is_old = monitor_version.is_some_and(|version| version < SETS_ON_CRASH);
    let wait = [
        (from.hostname != to.hostname && state.is_alive(), "the host name is that of the next start"),
        (from.features != to.features && state.is_alive(), "the features are those of the next start"),
        (
            on_crash(from) != on_crash(to) && is_old,
            "the VPS runs with a monitor of an older version: on-crash counts from the next start on",
        ),
    ];
    wait.iter().filter(|(is_so, _)| *is_so).map(|(_, note)| (*note).to_owned()).collect()
}

fn gone(name: &str) -> EngineError {
    EngineError::new(Reason::VpsNotFound, format!("VPS {name:?} has just been deleted"))
}

/// Refuses to change what somebody else has changed since the client has read it (AIP-154).
pub(crate) fn check_etag(asked: &Asked, what: &str, name: &str, revision: u64) -> Result<(), EngineError> {
    match &asked.etag {
        Some(etag) if *etag != format!("r{revision}") => {
            let message = format!("{what} {name:?} was changed by somebody else meanwhile");
            Err(EngineError::new(Reason::EtagMismatch, message).hint("read it again, and decide again"))
        }
        _ => Ok(()),
    }
}

/// Nothing but the record goes into the journal.
pub(crate) fn journal(store: &Store, record: &OperationRecord) -> Result<(), EngineError> {
    store.insert_operation(record).map_err(EngineError::from)
}
