//! Operations that a dead agent left: they go on with the step that was under way, or are taken back, or ask first.

use insula_types::{Failure, OperationRecord, OperationState, Reason, VpsId};

use crate::jobs::Job;
#[cfg(test)]
use crate::journal::faults::recovery_of;
use crate::journal::operations::Right;
use crate::model::step::Recovery;
#[cfg(not(test))]
use crate::model::step::Step;
use crate::steps::resumption::fit;
use crate::vps::handle::Work;
use crate::{Engine, EngineError};

#[cfg(not(test))]
fn recovery_of(step: &Step) -> Recovery {
    step.recovery()
}

impl Engine {
    /// Goes on with an operation that a dead agent left. One that works on a VPS of another host stays as it is in the
    /// journal.
    pub(crate) fn recover(&self, mut record: OperationRecord) -> Result<(), EngineError> {
        let job: Job = serde_json::from_str(&record.request)
            .map_err(|error| EngineError::internal("failed to read the journal", error))?;
        let handle = |vps: Option<VpsId>| vps.and_then(|vps| self.table.by_id(&vps));
        let worked_on = [handle(job.source()), handle(job.target().vps())];
        if worked_on.iter().flatten().any(|vps| vps.is_elsewhere()) {
            tracing::warn!(operation = %record.id, "it is left alone: its VPS lives on another host");
            return Ok(());
        }
        tracing::info!(operation = %record.id, "continuing {} of {}", record.kind, record.target_name);
        let plan = job.plan();
        fit(&mut record, &plan);
        match plan.steps.get(record.step as usize).map(recovery_of) {
            Some(Recovery::TakeBack) if record.state == OperationState::Running => {
                record.state = OperationState::Undoing;
                let message = "the agent ended during the operation; it was rolled back";
                record.error = Some(Failure::new(Reason::Interrupted, message));
            }
            Some(Recovery::Ask) if record.state == OperationState::Running => {
                record.state = OperationState::InDoubt;
                self.store.update_operation(&record)?;
            }
            _ => {}
        }
        let work = Work::new(record.id, record.kind, job.target().vps());
        let right = match (record.state, &worked_on) {
            (OperationState::Queued, [_, Some(handle)]) => Right::Later(handle.queue_again()),
            // Whoever waits for a boot does not work on the VPS: another may have it.
            (OperationState::Running, _) if plan.is_waiting(record.step as usize) => Right::Now(vec![]),
            _ => Right::Now(worked_on.iter().flatten().filter_map(|vps| vps.claim(work).ok()).collect()),
        };
        self.spawn(record, job, right);
        Ok(())
    }
}
