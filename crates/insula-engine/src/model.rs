//! What jobs, steps and the policy are: pure data. Nothing here reads the host, the database or a clock.

pub(crate) mod job;
pub(crate) mod policy;
pub(crate) mod step;
