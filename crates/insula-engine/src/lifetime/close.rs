//! The end of an agent, with guests that run on; and the tear-down of all but the data.

use std::sync::Arc;
use std::time::Duration;

use insula_runtime::AppArmor;
use insula_storage::Pool;

use crate::host::networks::Networks;
use crate::{Engine, EngineError, VpsHandle};

impl Engine {
    /// Ends the agent: operations come to an end, for some seconds, spare monitors go, guests run on.
    pub async fn close(&self) {
        const GRACE: Duration = Duration::from_secs(10);
        if tokio::time::timeout(GRACE, self.operations.idle()).await.is_err() {
            tracing::warn!("operations are still under way; the next agent will continue them");
        }
        self.events.flush().await;
        self.fairness.end().await;
        self.dismiss_spares().await;
    }

    async fn dismiss_spares(&self) {
        let spares = self.spares.clone();
        // It can't fail but by a panic, which has been reported.
        let _ = tokio::task::spawn_blocking(move || spares.dismiss()).await;
    }

    /// Takes everything down but the data: VPSes, groups, network. The pools are given back, to be closed when nothing
    /// uses them any longer.
    pub async fn teardown(&self) -> Result<Vec<Pool>, EngineError> {
        self.kill_all().await?; // what waits for a boot waits no longer
        self.operations.idle().await;
        self.kill_all().await?; // what an operation has started meanwhile
        self.dismiss_spares().await;
        let layout = self.layout.clone();
        crate::blocking("remove the groups", move || {
            let failed = |error| EngineError::internal("failed to remove the groups of this agent", error);
            layout.remove_spare_groups().map_err(failed)?;
            layout.ensure_root_absent().map_err(failed)?;
            AppArmor::of(&layout.root_name)
                .ensure_all_absent()
                .map_err(|error| EngineError::internal("failed to remove the policies of this agent", error))
        })
        .await?;
        self.change_networks("take the network down", Networks::take_down).await?;
        Ok(self.pools.take_opened())
    }

    async fn kill_all(&self) -> Result<(), EngineError> {
        let kill = |handle: Arc<VpsHandle>| async move { handle.shut_down(true, Duration::ZERO).await };
        let killed = futures::future::join_all(self.table.all().into_iter().map(kill)).await;
        killed.into_iter().collect()
    }
}
