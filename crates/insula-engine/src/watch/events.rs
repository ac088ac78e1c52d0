//! What happens on the host, as watchers are told: they miss nothing, and hear nothing twice.
//!
//! Events are in the database before anybody hears of them; watchers read them from there, after their cursor. Events of
//! operations and of access are written together with what they tell of. Changes of a VPS's state come over a channel to
//! one writer, which [`Events`] owns: should the agent die before they are written, the next one finds that the state is
//! not the one told last.

use std::sync::{Mutex, PoisonError};

use insula_store::EventFilter;
use insula_types::{Event, EventBody, EventRecord, EventSubject, LimitKind, Reason};
use tokio::sync::{mpsc, oneshot, watch};

use crate::host::database::Database;
use crate::vps::handle::VpsHandle;
use crate::vps::news::News;
use crate::{EngineError, now_ms};

/// How many events a watcher reads at a time.
const BATCH: u32 = 256;

/// The way of events to the database, and the news of it.
#[derive(Debug)]
pub(crate) struct Events {
    store: Database,
    sender: mpsc::UnboundedSender<Message>,
    /// Until the writer takes it.
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Message>>>,
    newest: watch::Receiver<u64>,
}

#[derive(Debug)]
enum Message {
    Event(Box<Event>),
    /// To be answered when all before it is written.
    Flush(oneshot::Sender<()>),
}

impl Events {
    /// `newest` is the sequence number of the last event in the database, as it grows.
    pub(crate) fn new(store: Database, newest: watch::Receiver<u64>) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        Self { store, sender, receiver: Mutex::new(Some(receiver)), newest }
    }

    fn send(&self, event: Event) {
        let _ = self.sender.send(Message::Event(Box::new(event))); // without a writer the engine is gone
    }

    /// The events after the cursor, and then new ones; without a cursor, new ones.
    ///
    /// # Errors
    /// [`Reason::CursorExpired`] when events after the cursor are no longer kept.
    pub(crate) async fn watch(
        &self,
        after: Option<u64>,
        filter: EventFilter,
    ) -> Result<EventStream, EngineError> {
        let newest = self.newest.clone();
        let last = *newest.borrow();
        let cursor = after.unwrap_or(last);
        let first = self.store.run(|store| store.first_event()).await?.unwrap_or(last + 1);
        if cursor > last {
            return Err(EngineError::invalid("cursor", format!("there is no event {cursor} yet")));
        }
        if cursor != 0 && cursor + 1 < first {
            let message = format!("events before {first} are no longer kept");
            return Err(EngineError::new(Reason::CursorExpired, message)
                .hint("list the VPSes, then begin again with cursor 0"));
        }
        Ok(EventStream { store: self.store.clone(), filter, cursor, newest })
    }

    /// Begins the task that writes events down, as many at once as have come.
    pub(crate) fn begin_writing(&self) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut receiver) = receiver else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            while let Some(first) = receiver.recv().await {
                let (mut events, mut waiting) = (vec![], vec![]);
                let more = std::iter::from_fn(|| receiver.try_recv().ok());
                for message in std::iter::once(first).chain(more) {
                    match message {
                        Message::Event(event) => events.push(*event),
                        Message::Flush(done) => waiting.push(done),
                    }
                }
                if let Err(error) = store.run(move |store| store.append_events(&events)).await {
                    tracing::error!("events: {}", error.chain());
                }
                for done in waiting {
                    let _ = done.send(()); // nobody may wait any more
                }
            }
        });
    }

    /// Waits until all events so far are written.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.sender.send(Message::Flush(done)).is_ok() {
            let _ = written.await; // gone is as good as written
        }
    }
}

impl News for Events {
    /// Tells the state of a VPS, if it is another than before.
    fn note_state(&self, handle: &VpsHandle) {
        handle.tell_state(|state, previous| {
            let body = EventBody::VpsState { state, previous };
            self.send(Event { at_ms: now_ms(), subject: Some(handle.subject()), body });
        });
    }

    /// Tells that a VPS has hit a limit.
    fn note_limit(&self, handle: &VpsHandle, limit: LimitKind, count: u64) {
        let body = EventBody::Limit { limit, count };
        self.send(Event { at_ms: now_ms(), subject: Some(handle.subject()), body });
    }
}

/// The events that somebody watches.
#[derive(Debug)]
pub struct EventStream {
    store: Database,
    filter: EventFilter,
    cursor: u64,
    newest: watch::Receiver<u64>,
}

impl EventStream {
    /// Behind which event it is.
    pub fn cursor(&self) -> u64 {
        self.cursor
    }

    /// The next events, at least one. May be cancelled.
    pub async fn next(&mut self) -> Result<Vec<EventRecord>, EngineError> {
        loop {
            let newest = *self.newest.borrow_and_update();
            let (cursor, filter) = (self.cursor, self.filter.clone());
            let events = self.store.run(move |store| store.events(cursor, BATCH, &filter)).await?;
            // Events that the filter leaves out count as read, too.
            let is_all = events.len() < BATCH as usize;
            self.cursor = match events.last() {
                Some(last) if !is_all => last.sequence,
                last => last.map_or(newest, |last| last.sequence.max(newest)).max(self.cursor),
            };
            if !events.is_empty() {
                return Ok(events);
            }
            if self.newest.changed().await.is_err() {
                return std::future::pending().await; // the engine is ending
            }
        }
    }
}

impl VpsHandle {
    /// The VPS for an event.
    fn subject(&self) -> EventSubject {
        let spec = self.spec();
        EventSubject { vps: self.id, name: spec.name.clone(), tenant: spec.tenant.clone() }
    }
}
