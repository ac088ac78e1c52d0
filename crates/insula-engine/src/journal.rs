//! Operations: written down before each step, known again when they are retried, gone on with after a crash.

pub(crate) mod execution;
#[cfg(test)]
pub(crate) mod faults;
pub(crate) mod recovery;
pub(crate) mod retries;
