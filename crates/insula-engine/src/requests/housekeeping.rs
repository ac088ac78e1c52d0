//! What the agent asks of itself: old records are forgotten, and VPSes whose time in the trash is over are removed.

use std::time::Duration;

use insula_types::Requester;

use crate::jobs::delete::DeleteJob;
use crate::model::asked::Asked;
use crate::{DAY_MS, Engine, EngineError, now_ms};

impl Engine {
    /// Begins the task that forgets what is old: operations, events, and VPSes whose time in the trash is over.
    #[allow(clippy::disallowed_methods)] // a deadline is all that it waits for
    pub(crate) fn keep_house(&self) {
        /// How often it looks, when nothing is due before.
        const INTERVAL: Duration = Duration::from_secs(3600);
        let engine = self.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = engine.forget_old().await {
                    tracing::error!("cleaning up: {}", error.chain());
                }
                let due_ms = engine.empty_trash().await.map_or(i64::MAX, |due| due - now_ms());
                let due = Duration::from_millis(u64::try_from(due_ms).unwrap_or(0));
                tokio::time::sleep(due.clamp(Duration::from_secs(1), INTERVAL)).await;
            }
        });
    }

    /// Removes the VPSes whose time in the trash is over. Returns when the next is due: milliseconds since 1970.
    pub(crate) async fn empty_trash(&self) -> Option<i64> {
        let mut next = None;
        for handle in self.table.all() {
            let spec = handle.spec();
            let Some(trash) = spec.trash.filter(|_| !handle.is_elsewhere()) else { continue };
            if trash.expires_at_ms > now_ms() {
                next = Some(next.map_or(trash.expires_at_ms, |next: i64| next.min(trash.expires_at_ms)));
                continue;
            }
            // Neither after others nor of another version: a client that undeletes it meanwhile keeps it.
            let etag = Some(format!("r{}", spec.revision));
            let asked = Asked { etag, ..Asked::by(Requester::agent()) };
            let job = DeleteJob { vps: handle.id, force: true };
            if let Err(error) = self.request(&asked, &handle, job).await {
                tracing::warn!(vps = %handle.id, "failed to remove it from the trash: {}", error.chain());
            }
        }
        next
    }

    async fn forget_old(&self) -> Result<(), EngineError> {
        let operations_ms = now_ms() - i64::from(self.settings.keep_operations_days) * DAY_MS;
        let events_ms = now_ms() - i64::from(self.settings.keep_events_days) * DAY_MS;
        self.store(move |store| {
            store.prune_operations(operations_ms)?;
            store.prune_events(events_ms).map(drop)
        })
        .await
    }
}
