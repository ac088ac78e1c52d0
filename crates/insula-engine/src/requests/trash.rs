//! Deleting: to the trash, out of it, and for good when its time is over.

use std::sync::Arc;
use std::time::Duration;

use insula_types::{OperationRecord, Reason, Requester, Trash, VpsName};

use crate::journal::retries::Asked;
use crate::model::job::Job;
use crate::model::step::Swap;
use crate::requests::create::name_taken;
use crate::requests::vps::journal;
use crate::{Engine, EngineError, VpsHandle, now_ms};

const DAY_MS: i64 = 86_400_000;

impl Engine {
    /// The VPS that somebody means, in the trash or not; one that is not goes first.
    pub fn vps_or_deleted(&self, text: &str) -> Result<Arc<VpsHandle>, EngineError> {
        self.table.find(text).or_else(|error| self.table.find_deleted(text).ok_or(error))
    }

    /// The VPS in the trash that somebody means: of several that had the name, the one deleted last.
    pub fn deleted_vps(&self, text: &str) -> Result<Arc<VpsHandle>, EngineError> {
        self.table.find_deleted(text).ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            match self.table.find(text) {
                Ok(handle) => {
                    let message = format!("VPS {:?} is not in the trash", handle.name().as_str());
                    EngineError::new(Reason::VpsNotFound, message)
                }
                Err(_) => {
                    EngineError::new(Reason::VpsNotFound, format!("there is no VPS {shown:?} in the trash"))
                        .hint("see insula list --deleted")
                }
            }
        })
    }

    /// Moves a VPS to the trash, or removes it for good; by force also when it runs.
    pub async fn delete_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        force: bool,
        now: bool,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let spec = handle.spec();
            if spec.delete_protection {
                let message = format!("VPS {:?} is protected from being deleted", spec.name.as_str());
                let hint = format!("insula set {} delete-protection=false", spec.name);
                return Err(EngineError::new(Reason::DeleteProtected, message).hint(hint));
            }
            let keep_ms = i64::from(self.settings.keep_deleted_days) * DAY_MS;
            let deleted_at_ms = now_ms();
            let job = match now || keep_ms == 0 {
                true => Job::DeleteVps { vps: handle.id, force },
                false => Job::TrashVps {
                    vps: handle.id,
                    trash: Trash { deleted_at_ms, expires_at_ms: deleted_at_ms + keep_ms },
                    name: spec.name.clone(),
                    force,
                },
            };
            self.request_now(asked, handle, job, journal).await
        })
        .await
    }

    /// Takes a VPS out of the trash, perhaps with another name.
    pub async fn undelete_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: Option<VpsName>,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let spec = handle.spec();
            let to = name.unwrap_or_else(|| spec.name.clone());
            if self.table.find(to.as_str()).is_ok_and(|other| other.id != handle.id) {
                return Err(name_taken(&to).hint(format!("insula undelete {} --as NAME", spec.id)));
            }
            let trash = spec.trash.unwrap_or(Trash { deleted_at_ms: 0, expires_at_ms: 0 });
            let name = Swap { from: spec.name.clone(), to };
            let job = Job::UndeleteVps { vps: handle.id, trash, name };
            self.request_now(asked, handle, job, journal).await
        })
        .await
    }

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
    async fn empty_trash(&self) -> Option<i64> {
        let mut next = None;
        for handle in self.table.all() {
            let Some(trash) = handle.spec().trash else { continue };
            if trash.expires_at_ms > now_ms() {
                next = Some(next.map_or(trash.expires_at_ms, |next: i64| next.min(trash.expires_at_ms)));
                continue;
            }
            let asked = Asked::by(Requester::agent());
            let job = Job::DeleteVps { vps: handle.id, force: true };
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
