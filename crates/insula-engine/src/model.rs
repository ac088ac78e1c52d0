//! What jobs, steps and the policy are: pure data. Nothing here reads the host, the database or a clock.

pub(crate) mod asked;
pub(crate) mod changes;
pub(crate) mod checks;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod step;
