//! Carrying out jobs: journaled before each step, taken back when a step fails.
//!
//! ```text
//!         its turn           step fails, or cancelled            all taken back
//! queued ─────────> running ─────────────────────────> undoing ─────────────────> failed
//!    │ refused         │ all steps done
//!    └──> failed       └──────────────────> succeeded
//! ```
//!
//! What a step finds out ([`Output`]) is written with what ends the step, which is the beginning of the next one.
//! A record is written to the journal before its step begins, so a dead agent's operations are found by the next one
//! ([`crate::steps::recovery`]) in the state `queued`, `running`, `undoing` or `in-doubt` with the step that may be half
//! done.

use std::sync::Arc;

use insula_store::Store;
use insula_types::{Failure, OperationRecord, OperationState, Progress, Reason, Requester, TenantName};
use tokio::sync::watch;

use crate::jobs::Job;
use crate::jobs::spec::{Context, Moment};
use crate::journal::operations::{Reporter, Right};
use crate::journal::records::blank_record;
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::step::{Output, Step};
use crate::steps::resumption::describe as describe_steps;
use crate::vps::handle::{Claim, Place, Work};
use crate::{Engine, EngineError, now_ms};

/// A record for a job that is about to begin.
pub(crate) fn new_record(
    asked: &Asked,
    digest: String,
    job: &Job,
    target_name: &str,
    tenant: Option<TenantName>,
) -> OperationRecord {
    let mut record = OperationRecord {
        request: serde_json::to_string(job).expect("jobs have JSON forms"),
        tenant,
        ..blank_record(job.kind(), job.target().to_string(), target_name, asked, digest)
    };
    describe_steps(&mut record, &job.plan());
    record.progress.message = record.steps.first().cloned().unwrap_or_default();
    record
}

impl Engine {
    /// Begins, or goes on with, a job whose record is in the journal.
    pub(crate) fn spawn(&self, record: OperationRecord, job: Job, right: Right) -> OperationRecord {
        let id = record.id;
        if let Right::Now(claims) = &right {
            claims.iter().for_each(Claim::accept);
        }
        let (sender, receiver) = watch::channel(record.clone());
        let cancelled = self.operations.insert(id, receiver);
        let mut execution = Execution {
            engine: self.clone(),
            plan: job.plan(),
            job,
            record: Arc::new(sender),
            claims: vec![],
            cancelled,
        };
        tokio::spawn(async move {
            execution.run(right).await;
            execution.engine.operations.remove(&id);
        });
        record
    }

    /// Journals a job and begins it. Both happen even if the requester disconnects in between.
    ///
    /// `write` puts the record into the journal, perhaps with more in the same transaction; `right` comes after it.
    pub(crate) async fn begin(
        &self,
        record: OperationRecord,
        job: Job,
        write: impl FnOnce(&Store, &OperationRecord) -> Result<(), EngineError> + Send + 'static,
        right: impl FnOnce(&Engine) -> Result<Right, EngineError> + Send + 'static,
    ) -> Result<OperationRecord, EngineError> {
        let engine = self.clone();
        let begun = tokio::spawn(async move {
            let (store, kept) = (engine.store.clone(), record.clone());
            crate::blocking("journal an operation", move || write(&store, &kept)).await?;
            let right = right(&engine)?;
            Ok(engine.spawn(record, job, right))
        });
        begun.await.unwrap_or_else(|error| Err(EngineError::internal("failed to begin an operation", error)))
    }

    /// A job that has nothing to do: done before it began.
    pub(crate) async fn spawn_done(
        &self,
        mut record: OperationRecord,
    ) -> Result<OperationRecord, EngineError> {
        record.state = OperationState::Succeeded;
        record.progress = Progress { percent: 100, message: "nothing to do".to_owned() };
        let kept = record.clone();
        self.store(move |store| store.insert_operation(&kept)).await?;
        Ok(record)
    }
}

/// A job being carried out.
pub(super) struct Execution {
    pub(super) engine: Engine,
    job: Job,
    pub(super) plan: Plan,
    pub(super) record: Arc<watch::Sender<OperationRecord>>,
    claims: Vec<Claim>,
    cancelled: watch::Receiver<Option<Requester>>,
}

impl Execution {
    async fn run(&mut self, right: Right) {
        match right {
            Right::Now(claims) => self.claims = claims,
            Right::Later(place) => match self.take_turn(place).await {
                Ok(true) => {}
                Ok(false) => return self.finish(OperationState::Succeeded).await,
                Err(error) => return self.refuse(&error).await,
            },
        }
        self.tell_state();
        let (state, step) = self.position();
        if state == OperationState::InDoubt {
            self.settle_doubt(step).await;
        }
        let mut permit = self.engine.operations.permit().await;
        let (state, step) = self.position();
        if state == OperationState::Undoing {
            return self.take_back(step, None).await; // as the journal says
        }
        for index in step..self.plan.steps.len() {
            if !self.plan.steps[index].is_exclusive() {
                self.release();
                permit = None;
            }
            if let Err(error) = self.advance(index).await {
                return self.take_back(index, Some(error)).await;
            }
        }
        self.finish(OperationState::Succeeded).await;
        drop(permit);
    }

    fn position(&self) -> (OperationState, usize) {
        let record = self.record.borrow();
        (record.state, record.step as usize)
    }

    /// Waits for the VPS, and checks the job again: the VPS may be another by now. `false`: nothing to do.
    async fn take_turn(&mut self, place: Place) -> Result<bool, EngineError> {
        let (work, requester) = {
            let record = self.record.borrow();
            (Work::new(record.id, record.kind, self.job.target().vps()), record.requester.clone())
        };
        let mut cancelled = self.cancelled.clone();
        let claim = tokio::select! {
            claim = place.claim(work) => claim,
            error = cancellation(&mut cancelled) => return Err(error),
        };
        self.claims.push(claim);
        let handle = self.engine.target(&self.job)?;
        let context = Context::new(&self.engine, &handle, &requester, Moment::AtItsTurn);
        let admission = context.judge(&mut *self.job)?;
        self.claims.iter().for_each(Claim::accept);
        self.plan = self.job.plan();
        let request = serde_json::to_string(&self.job).expect("jobs have JSON forms");
        self.journal(|record| {
            (record.state, record.request, record.notes) =
                (OperationState::Running, request, admission.notes);
            describe_steps(record, &self.plan);
        })
        .await?;
        Ok(admission.is_needed)
    }

    /// Ends it before it began.
    async fn refuse(&mut self, error: &EngineError) {
        self.record.send_modify(|record| record.error = Some(describe(error)));
        self.finish(OperationState::Failed).await;
    }

    /// Journals a step and does it.
    async fn advance(&self, index: usize) -> Result<(), EngineError> {
        let step = &self.plan.steps[index];
        let (from, to) = (self.percent(index), self.percent(index + 1));
        if index > 0 {
            let progress = Progress { percent: from, message: step.message().to_owned() };
            self.journal(|record| {
                record.step = u32::try_from(index).unwrap_or(u32::MAX);
                record.progress = progress;
            })
            .await?;
        }
        let mut cancelled = self.cancelled.clone();
        if self.plan.is_cancellable(index) && cancelled.borrow().is_some() {
            return Err(cancellation(&mut cancelled).await);
        }
        let reporter = Reporter::new(self.record.clone(), from, to);
        let output = tokio::select! {
            result = self.apply(index, step, &reporter) => result?,
            error = cancellation(&mut cancelled), if step.is_wait() => return Err(error),
        };
        if let Some(output) = output {
            self.keep_output(step, &output);
        }
        Ok(())
    }

    /// Keeps what a step found out until the end of the step is journaled: with the next step, or with the operation's end.
    fn keep_output(&self, step: &Step, output: &Output) {
        let output = serde_json::to_string(output).expect("outputs have JSON forms");
        self.record.send_modify(|record| drop(record.outputs.insert(step.name().to_owned(), output)));
    }

    async fn apply(
        &self,
        index: usize,
        step: &Step,
        reporter: &Reporter,
    ) -> Result<Option<Output>, EngineError> {
        #[cfg(test)]
        return self
            .engine
            .faults
            .around(index, || self.engine.apply(step, &self.job, &self.record, reporter))
            .await;
        #[cfg(not(test))]
        {
            let _ = index;
            self.engine.apply(step, &self.job, &self.record, reporter).await
        }
    }

    /// Takes back what was done, the failed step first, and goes on when that fails: all errors are in the result.
    async fn take_back(&mut self, failed: usize, failure: Option<EngineError>) {
        if let Some(error) = &failure {
            tracing::warn!(operation = %self.record.borrow().id, "{}: {}", self.job.kind(), error.chain());
        }
        if failed < self.plan.commit {
            for index in (0..=failed).rev() {
                let step = u32::try_from(index).unwrap_or(u32::MAX);
                let error = failure.as_ref().map(describe);
                let journaled = self
                    .journal(|record| {
                        record.state = OperationState::Undoing;
                        record.step = step;
                        record.error = record.error.take().or(error);
                    })
                    .await;
                let undone = self.engine.undo(&self.plan.steps[index], &self.job, &self.record).await;
                for error in [journaled, undone].into_iter().filter_map(Result::err) {
                    tracing::error!(operation = %self.record.borrow().id, "rolling back: {}", error.chain());
                    self.add_to_error(&error.chain());
                }
            }
        } else if let Some(error) = &failure {
            self.record.send_modify(|record| record.error = Some(describe(error)));
        }
        self.finish(OperationState::Failed).await;
    }

    fn add_to_error(&self, text: &str) {
        self.record.send_modify(|record| {
            record.error.get_or_insert_with(interrupted).undo.push(text.to_owned());
        });
    }

    /// Ends it. Others may work on the VPS before waiting clients are told.
    async fn finish(&mut self, state: OperationState) {
        self.release();
        let kept = serde_json::to_string(&self.job.without_secrets()).expect("jobs have JSON forms");
        let written = self
            .journal(|record| {
                record.state = state;
                record.request = kept;
                if state == OperationState::Succeeded {
                    record.progress = Progress { percent: 100, message: "done".to_owned() };
                } else {
                    record.error.get_or_insert_with(interrupted);
                }
            })
            .await;
        if let Err(error) = written {
            tracing::error!("journal: {}", error.chain());
        }
    }

    /// Lets others work on the VPS.
    fn release(&mut self) {
        self.claims.clear();
        self.tell_state();
    }

    /// Tells the state of the VPS: that it is being made or removed is one.
    fn tell_state(&self) {
        if let Ok(handle) = self.engine.target(&self.job) {
            self.engine.note_state(&handle);
        }
    }

    /// Changes the record: on disk first, then for watchers.
    pub(super) async fn journal(&self, change: impl FnOnce(&mut OperationRecord)) -> Result<(), EngineError> {
        let mut record = self.record.borrow().clone();
        change(&mut record);
        record.updated_at_ms = now_ms();
        let kept = record.clone();
        let written = self.engine.store(move |store| store.update_operation(&kept)).await;
        self.record.send_replace(record);
        written
    }

    fn percent(&self, index: usize) -> u8 {
        u8::try_from(100 * index / self.plan.steps.len().max(1)).unwrap_or(100)
    }
}

/// Until somebody cancels the operation: the error that it ends with.
async fn cancellation(cancelled: &mut watch::Receiver<Option<Requester>>) -> EngineError {
    let by = cancelled.wait_for(Option::is_some).await.ok().and_then(|requester| requester.clone());
    match by {
        Some(requester) => {
            EngineError::new(Reason::Cancelled, format!("it was cancelled by {}", requester.name))
        }
        None => std::future::pending().await, // nobody can any more
    }
}

/// An error as the journal keeps it.
fn describe(error: &EngineError) -> Failure {
    Failure {
        reason: error.reason().to_string(),
        messages: error.messages(),
        hint: error.hint_text().map(str::to_owned),
        undo: vec![],
    }
}

/// Why an operation ends of which nothing else is known.
fn interrupted() -> Failure {
    Failure::new(Reason::Interrupted, "the agent ended during the operation")
}
