//! How a job is accepted: its VPS is claimed or waited for, and the job is checked, written down and begun. This is the
//! one way to an operation with steps.

use std::sync::Arc;

use insula_store::{Store, StoreError};
use insula_types::{
    OperationId, OperationRecord, OperationState, Reason, SnapshotInfo, SnapshotName, VpsSpec,
};

use crate::jobs::Job;
use crate::jobs::spec::{Context, Moment};
use crate::journal::operations::Right;
use crate::model::asked::Asked;
use crate::model::checks::{name_taken, snapshot_taken};
use crate::model::policy::may_wait;
use crate::steps::execution::new_record;
use crate::vps::handle::{Claim, Work};
use crate::vps::task::Found;
use crate::{Engine, EngineError, VpsHandle, now_ms};

impl Engine {
    /// Judges, journals and begins a job on a VPS.
    pub(crate) async fn request(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        job: impl Into<Job>,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || self.request_now(asked, handle, job)).await
    }

    /// The same, for a request that is known to be no retry.
    pub(crate) async fn request_now(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        job: impl Into<Job>,
    ) -> Result<OperationRecord, EngineError> {
        let mut job = job.into();
        let work = Work::new(OperationId::new(), job.kind(), Some(handle.id));
        let can_wait = asked.etag.is_none() && job.request().is_some_and(may_wait);
        let (right, moment) = match handle.claim(work) {
            Ok(claim) => (Right::Now(vec![claim]), Moment::AtItsTurn),
            Err(_) if can_wait => (Right::Later(handle.queue()?), Moment::InLine),
            Err(busy) => return Err(busy),
        };
        // Not before it is ours: the operation before may have left it in another state.
        let spec = handle.spec();
        check_etag(asked, "VPS", spec.name.as_str(), spec.revision)?;
        let admission = Context::new(self, handle, &asked.requester, moment).judge(&mut *job)?;
        let mut record = new_record(asked, self.digest(asked), &job, spec.name.as_str(), spec.tenant.clone());
        record.id = work.operation;
        record.notes = admission.notes;
        if moment == Moment::InLine {
            record.state = OperationState::Queued;
        }
        let write = write_with_snapshot(handle, job.snapshot());
        match admission.is_needed {
            _ if asked.validate_only => Ok(record),
            true => self.begin(record, job, write, move |_| Ok(right)).await,
            false => {
                drop(right);
                self.spawn_done(record).await
            }
        }
    }

    /// Journals and begins a job that makes a VPS: its spec is written together with the record. `source`: the claim on the VPS
    /// that it is made from.
    pub(crate) async fn reserve(
        &self,
        asked: &Asked,
        work: Work,
        spec: VpsSpec,
        job: impl Into<Job>,
        source: Option<Claim>,
    ) -> Result<OperationRecord, EngineError> {
        let (job, digest) = (job.into(), self.digest(asked));
        let mut record = new_record(asked, digest, &job, spec.name.as_str(), spec.tenant.clone());
        record.id = work.operation;
        if asked.validate_only {
            return Ok(record);
        }
        let kept = spec.clone();
        let write = move |store: &Store, record: &OperationRecord| {
            store.insert_vps(&kept, record).map_err(|error| match &error {
                StoreError::Taken { what, .. } if what.contains("vps.name") => name_taken(&kept.name),
                _ => EngineError::from(error),
            })
        };
        let right = move |engine: &Engine| {
            let claim = engine.adopt(spec, vec![], Found::default()).claim(work)?;
            Ok(Right::Now(source.into_iter().chain([claim]).collect()))
        };
        self.begin(record, job, write, right).await
    }

    /// Journals and begins a job that works on no VPS.
    pub(crate) async fn request_of_host(
        &self,
        asked: &Asked,
        target_name: &str,
        job: impl Into<Job>,
        is_needed: bool,
    ) -> Result<OperationRecord, EngineError> {
        let job = job.into();
        let record = new_record(asked, self.digest(asked), &job, target_name, None);
        match is_needed {
            true => self.begin(record, job, journal, |_| Ok(Right::Now(vec![]))).await,
            false => self.spawn_done(record).await,
        }
    }
}

/// Refuses to change what somebody else has changed since the client has read it (AIP-154).
pub(crate) fn check_etag(asked: &Asked, what: &str, name: &str, revision: u64) -> Result<(), EngineError> {
    match &asked.etag {
        Some(etag) if *etag != format!("r{revision}") => {
            let message = format!("{what} {name:?} has changed since it was read");
            Err(EngineError::new(Reason::EtagMismatch, message).hint("read it again, then repeat the change"))
        }
        _ => Ok(()),
    }
}

/// Writes the record; for a job that takes a snapshot, the name of that in the same transaction.
fn write_with_snapshot(
    handle: &Arc<VpsHandle>,
    name: Option<&SnapshotName>,
) -> impl FnOnce(&Store, &OperationRecord) -> Result<(), EngineError> + Send + 'static {
    let created_at = now_ms() / 1000;
    let info = name.map(|name| SnapshotInfo { vps: handle.id, name: name.clone(), created_at, size: None });
    let handle = handle.clone();
    move |store, record| {
        let Some(info) = info else { return journal(store, record) };
        store.insert_snapshot(&info, record).map_err(|error| match error {
            StoreError::Taken { what, .. } if what.contains("snapshot") => snapshot_taken(&info.name),
            other => EngineError::from(other),
        })?;
        handle.snapshots().push(info);
        Ok(())
    }
}

/// Nothing but the record goes into the journal.
fn journal(store: &Store, record: &OperationRecord) -> Result<(), EngineError> {
    store.insert_operation(record).map_err(EngineError::from)
}
