//! Control groups: where a VPS's limits are, on pure cgroup2 hosts and on hybrid ones.
//!
//! ```text
//! cgroup2, everywhere                        v1, for the controllers that a hybrid host keeps there
//! <mount>/<root>/monitors     monitors       <controller>/<root>/<id>       monitor and guest: limits
//! <mount>/<root>/<id>         limits         <controller>/<root>/spare-…    a parked monitor
//! <mount>/<root>/<id>/payload the guest
//!             └─ payload/.insula  programs brought into the guest
//! ```
//!
//! The guest owns `payload` and sees it as its `/sys/fs/cgroup`. It can write none of the others.
//!
//! A process joins cgroup2 groups at its birth (`CLONE_INTO_CGROUP`). There is no such thing in v1, and the first move
//! waits for an RCU grace period: on a hybrid host the monitor is parked in a spare group, which gets the VPS's name
//! when it is started, and its children are born there.

mod change;
mod device_rule;
mod groups;
mod guards;
mod layout;
mod limits;
mod programs;
mod usage;
mod watch;

pub use device_rule::{DeviceKind, DeviceRule};
pub use groups::{CgroupError, SpareName};
pub use layout::{CgroupLayout, Controller, LayoutError, LegacyHierarchy};
pub use limits::{CgroupLimitError, CgroupValue, plan_limits};
pub use usage::Usage;
pub use watch::{LimitCounts, LimitWatch};
