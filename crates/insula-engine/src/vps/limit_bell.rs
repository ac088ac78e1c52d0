//! Limits that a VPS meets, as news. A [`LimitBell`] belongs to the task of its VPS, and owns the counts that were told
//! last. It must not act on a limit: the kernel does.

use std::os::fd::{AsFd, OwnedFd};

use insula_runtime::CgroupLayout;
use insula_runtime::cgroup::{LimitCounts, LimitWatch};
use insula_types::{LimitKind, VpsId};
use tokio::io::unix::AsyncFd;

use crate::EngineError;
use crate::vps::link::watched;

/// Watches the limits of a VPS that runs.
#[derive(Debug)]
pub(crate) struct LimitBell {
    watch: LimitWatch,
    /// Ready when the watch may have news.
    bell: AsyncFd<OwnedFd>,
    told: LimitCounts,
}

impl LimitBell {
    /// Watches from now on.
    pub(crate) fn open(layout: &CgroupLayout, vps: &VpsId) -> Result<Self, EngineError> {
        let failed = "failed to watch the limits";
        let mut watch =
            LimitWatch::open(layout, vps).map_err(|error| EngineError::internal(failed, error))?;
        let told = watch.read_counts().unwrap_or_default();
        let bell = watch.as_fd().try_clone_to_owned().and_then(watched);
        Ok(Self { bell: bell.map_err(|error| EngineError::internal(failed, error))?, watch, told })
    }

    /// What was met since it was asked last, and how often. `None`: the VPS has ended.
    pub(crate) fn news(&mut self) -> Option<impl Iterator<Item = (LimitKind, u64)> + use<>> {
        let now = self.watch.read_counts()?;
        let before = std::mem::replace(&mut self.told, now);
        let counts = [
            (LimitKind::Memory, now.memory_kills.saturating_sub(before.memory_kills)),
            (LimitKind::Processes, now.fork_refusals.saturating_sub(before.fork_refusals)),
        ];
        Some(counts.into_iter().filter(|(_, count)| *count > 0))
    }
}

/// Until there may be news.
pub(crate) async fn limit_met(bell: Option<&LimitBell>) {
    let Some(bell) = bell else { return std::future::pending().await };
    match bell.bell.readable().await {
        Ok(mut ready) => ready.clear_ready(), // what comes from now on makes it ready again
        Err(_) => std::future::pending().await,
    }
}
