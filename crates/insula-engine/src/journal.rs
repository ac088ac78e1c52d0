//! Operations as they are written down and told: records, the operations under way, and what makes a retry safe. What
//! an operation does is not known here.

#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod operations;
pub(crate) mod records;
pub(crate) mod retries;
