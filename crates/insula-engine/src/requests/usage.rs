//! What VPSes use.

use std::sync::Arc;

use crate::watch::usage::{Usage, observe_usage};
use crate::{Engine, EngineError, VpsHandle};

impl Engine {
    /// What these VPSes use now, all in one go.
    pub async fn usage(&self, handles: Vec<Arc<VpsHandle>>) -> Result<Vec<Usage>, EngineError> {
        observe_usage(self.layout.clone(), self.pools.clone(), handles).await
    }

    /// All VPSes that are not in the trash, by name.
    pub fn handles(&self) -> Vec<Arc<VpsHandle>> {
        self.table.by_name()
    }
}
