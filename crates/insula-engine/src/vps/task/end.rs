//! The end of a monitor: what it leaves is removed, and how the VPS has ended is kept.

use insula_runtime::{AppArmor, CgroupLayout, ConnectionError, VpsDirectory};
use insula_types::{DesiredPower, ExitReason, ExitRecord, Reason, VpsId};

use super::VpsTask;
use crate::{EngineError, Observed, now_ms};

impl VpsTask {
    /// The monitor has ended. If it was killed, its guest may still be there, and has to end as well.
    pub(super) async fn ended(&mut self, error: ConnectionError) {
        (self.link, self.limits) = (None, None);
        self.answer_telling(Ok(())); // the next start's plan says so
        let record = self.clean_up(error).await;
        self.keep_exit(&record).await;
        let detail = record.detail.clone().unwrap_or_else(|| record.reason.to_string());
        self.answer_launch(Err(EngineError::new(
            Reason::StartFailed,
            format!("the VPS ended at once: {detail}"),
        )));
        self.observed.send_modify(|observed| {
            *observed = Observed { last_exit: Some(record), ..Observed::default() };
        });
    }

    async fn clean_up(&mut self, error: ConnectionError) -> ExitRecord {
        let (layout, id, directory) = (self.around.layout.clone(), self.id, self.directory.clone());
        let heard = self.exit.take();
        let done = crate::blocking("clean up behind a monitor", move || {
            let record = heard.or_else(|| directory.read_exit_record().ok().flatten());
            let record = record.unwrap_or_else(|| ExitRecord {
                reason: ExitReason::MonitorLost,
                at_ms: now_ms(),
                detail: Some(error.to_string()),
            });
            clean_up(&layout, &id, &directory);
            Ok(record)
        });
        done.await.unwrap_or_else(|error| ExitRecord {
            reason: ExitReason::MonitorLost,
            at_ms: now_ms(),
            detail: Some(error.chain()),
        })
    }

    /// Keeps how it ended. A guest that powered itself off is not to be started again with the host.
    pub(super) async fn keep_exit(&self, record: &ExitRecord) {
        let Some(handle) = self.around.table.by_id(&self.id) else { return };
        let (id, mut spec, kept) = (self.id, (*handle.spec()).clone(), record.clone());
        let written = if record.reason == ExitReason::PowerOff {
            spec.power = DesiredPower::Off;
            let kept_spec = spec.clone();
            let written = self.around.store.run(move |store| store.put_exit(&kept_spec, &kept)).await;
            written.map(|()| self.around.table.change(&handle, spec))
        } else {
            self.around.store.run(move |store| store.put_end(&id, &kept)).await
        };
        if let Err(error) = written {
            tracing::error!(vps = %self.id, "{}", error.chain());
        }
        tracing::info!(vps = %self.id, name = %handle.name(), "ended: {}", record.reason);
    }
}

/// Ends what may be left of a guest without a monitor, and removes its groups and its directory.
pub(crate) fn clean_up(layout: &CgroupLayout, id: &VpsId, directory: &VpsDirectory) {
    let killed = layout.kill(id).map(drop);
    let removed = layout.remove_groups(id);
    for error in [killed, removed].into_iter().filter_map(Result::err) {
        tracing::warn!(vps = %id, "cleaning up: {}", EngineError::internal("groups", error).chain());
    }
    if let Err(error) = AppArmor::of(&layout.root_name).ensure_absent(id) {
        tracing::warn!(vps = %id, "cleaning up: {}", EngineError::internal("AppArmor", error).chain());
    }
    if let Err(error) = directory.remove() {
        tracing::warn!(vps = %id, "failed to remove {}: {error}", directory.path().display());
    }
}
