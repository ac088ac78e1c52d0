//! Requests about the host itself: how full its pools are, and which facilities guests have.

use crate::host::pools::PoolView;
use crate::{Engine, EngineError};

impl Engine {
    /// The host's pools, and how full they are.
    pub async fn pool_views(&self) -> Result<Vec<PoolView>, EngineError> {
        let mut views = vec![];
        for pool in self.pools.all() {
            views.push(pool.view().await?);
        }
        Ok(views)
    }

    /// The pool of this name, and how full it is.
    pub async fn pool_view(&self, name: &str) -> Result<PoolView, EngineError> {
        self.pools.by_name(name)?.view().await
    }

    /// The way of cgroups on this host: `hybrid` or `unified`.
    pub fn cgroup_mode(&self) -> &'static str {
        if self.layout.legacy.is_empty() { "unified" } else { "hybrid" }
    }

    /// Whether guests run under a policy of AppArmor: `enforced`, or why not.
    pub fn apparmor(&self) -> &str {
        self.policy.as_ref().map_or_else(|lack| &**lack, |_| "enforced")
    }
}
