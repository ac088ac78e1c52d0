//! What steps and plans are, what is allowed in which state, and what can be changed: pure data. Nothing here reads the
//! host, the database or a clock.

pub(crate) mod asked;
pub(crate) mod changes;
pub(crate) mod checks;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod step;
