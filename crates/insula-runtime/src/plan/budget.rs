//! What a guest may have of things that the kernel counts by user namespace: namespaces(7).
//!
//! Below its own user namespace a guest may make others; what is made there counts here, too. What it may have besides is
//! bounded by what one user of the host may have, since its user namespace belongs to a user of its own.

use insula_types::{Feature, Features};
use serde::{Deserialize, Serialize};

/// A limit of a user namespace.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// The file below `/proc/sys/user`.
    pub name: &'static str,
    /// The most that there may be.
    pub most: u32,
    /// The most that there may be in a guest with containers of its own: what they have counts here, too.
    pub most_nested: u32,
    /// Why a guest gets this many.
    pub reason: &'static str,
}

/// All of them. The host's own limits, by default half of its threads, are lower on small machines, and hold there.
pub const BUDGETS: &[Budget] = &[
    budget("max_net_namespaces", 1024, "each is some 100 KiB of the kernel's, and slows down making others"),
    budget("max_user_namespaces", 4096, "one for each sandboxed service, browser tab or container"),
    budget(
        "max_mnt_namespaces",
        4096,
        "one for each sandboxed service or container, with a copy of all mounts",
    ),
    budget("max_pid_namespaces", 2048, "one for each container"),
    budget("max_ipc_namespaces", 2048, "one for each container, with a file system for message queues"),
    budget("max_uts_namespaces", 4096, "one for each sandboxed service or container"),
    budget("max_cgroup_namespaces", 4096, "one for each container"),
    budget("max_time_namespaces", 1024, "hardly used"),
];

const fn budget(name: &'static str, most: u32, reason: &'static str) -> Budget {
    Budget { name, most, most_nested: 4 * most, reason }
}

/// A [`Budget`] of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedBudget {
    /// The file below `/proc/sys/user`.
    pub name: String,
    /// The most that there may be.
    pub most: u32,
}

pub(super) fn plan_budgets(features: &Features) -> Vec<PlannedBudget> {
    let is_nesting = features.has(&Feature::Nesting);
    let plan = |budget: &Budget| PlannedBudget {
        name: budget.name.to_owned(),
        most: if is_nesting { budget.most_nested } else { budget.most },
    };
    BUDGETS.iter().map(plan).collect()
}
