//! The operations under way: which clients wait for them or want them to end early, and how many may work at a time.
//! [`Operations`] owns this in memory, and a dead agent's is lost without harm: the journal has the rest. What is over is in
//! the database alone. It must not carry anything out: that is [`crate::steps::execution`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use insula_types::{OperationId, OperationRecord, OperationState, Progress, Requester};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::vps::handle::{Claim, Place};

/// The operations under way, for clients that wait.
#[derive(Debug)]
pub(crate) struct Operations {
    running: Mutex<HashMap<OperationId, Running>>,
    permits: Arc<Semaphore>,
}

/// An operation under way.
#[derive(Debug, Clone)]
struct Running {
    record: watch::Receiver<OperationRecord>,
    /// The client that wants it to end early.
    cancel: Arc<watch::Sender<Option<Requester>>>,
}

impl Operations {
    pub(crate) fn new(parallel: usize) -> Self {
        Self { running: Mutex::default(), permits: Arc::new(Semaphore::new(parallel)) }
    }

    /// Begins to tell waiting clients of an operation. Returns how it learns that it is to end early.
    pub(crate) fn insert(
        &self,
        id: OperationId,
        record: watch::Receiver<OperationRecord>,
    ) -> watch::Receiver<Option<Requester>> {
        let (cancel, cancelled) = watch::channel(None);
        self.lock().insert(id, Running { record, cancel: Arc::new(cancel) });
        cancelled
    }

    /// It is over, and all that is to know of it is in the journal.
    pub(crate) fn remove(&self, id: &OperationId) {
        self.lock().remove(id);
    }

    /// Waits until it may work: so many may at a time.
    pub(crate) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().acquire_owned().await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OperationId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What watchers have been told, when the journal may know more.
    #[cfg(test)]
    pub(crate) fn tell(&self, record: OperationRecord) {
        let (id, cancel) = (record.id, Arc::new(watch::channel(None).0));
        self.lock().insert(id, Running { record: watch::channel(record).1, cancel });
    }

    /// One that is under way, if there is any. Those in doubt only wait for others.
    fn any(&self) -> Option<watch::Receiver<OperationRecord>> {
        let is_under_way = |running: &&Running| running.record.borrow().state != OperationState::InDoubt;
        self.lock().values().find(is_under_way).map(|running| running.record.clone())
    }

    /// Waits until no operation is under way.
    pub(crate) async fn idle(&self) {
        while let Some(mut watch) = self.any() {
            let _ = watch.wait_for(|record| record.state.is_final()).await; // gone is done
            tokio::task::yield_now().await;
        }
    }

    /// The record of an operation under way, as it changes.
    pub(crate) fn watch(&self, id: &OperationId) -> Option<watch::Receiver<OperationRecord>> {
        self.lock().get(id).map(|running| running.record.clone())
    }

    /// Asks an operation to end early. Returns its record; `None` when it is not under way.
    pub(crate) fn cancel(&self, id: &OperationId, requester: &Requester) -> Option<()> {
        self.lock().get(id).map(|running| drop(running.cancel.send_replace(Some(requester.clone()))))
    }
}

/// An operation's right to work on its VPS: at once and alone, or when its turn comes.
#[derive(Debug)]
pub(crate) enum Right {
    /// It has these already; none, where it works on no VPS.
    Now(Vec<Claim>),
    /// It waits for its turn.
    Later(Place),
}

/// Reports how far a step is, between the journal's entries.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    record: Arc<watch::Sender<OperationRecord>>,
    from: u8,
    to: u8,
}

impl Reporter {
    /// Of a step that takes the operation from one percentage to another.
    pub(crate) fn new(record: Arc<watch::Sender<OperationRecord>>, from: u8, to: u8) -> Self {
        Self { record, from, to }
    }

    /// The step is so many percent done, and does this.
    pub(crate) fn report(&self, percent: u8, message: &str) {
        let share = u32::from(self.to - self.from) * u32::from(percent.min(100)) / 100;
        let percent = self.from + u8::try_from(share).unwrap_or(0);
        self.record.send_modify(|record| record.progress = Progress { percent, message: message.to_owned() });
    }
}
