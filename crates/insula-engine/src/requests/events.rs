//! Events: those that were, and those to come.

use insula_store::EventFilter;
use insula_types::EventRecord;

use crate::watch::events::EventStream;
use crate::{Engine, EngineError};

impl Engine {
    /// The events after the cursor, oldest first.
    pub async fn events(
        &self,
        after: u64,
        count: u32,
        filter: EventFilter,
    ) -> Result<Vec<EventRecord>, EngineError> {
        self.store(move |store| store.events(after, count, &filter)).await
    }

    /// The events after the cursor, and then new ones; without a cursor, new ones.
    ///
    /// # Errors
    /// [`insula_types::Reason::CursorExpired`] when events after the cursor are no longer kept.
    pub async fn watch_events(
        &self,
        after: Option<u64>,
        filter: EventFilter,
    ) -> Result<EventStream, EngineError> {
        self.events.watch(after, filter).await
    }
}
