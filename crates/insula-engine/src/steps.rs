//! Jobs carried out, step by step: journaled before each, taken back when one fails, resumed after a crash. Which steps
//! there are is in [`crate::model`], which a job has in [`crate::jobs`]. Nothing here decides what is allowed.

pub(crate) mod apply;
mod doubt;
mod errors;
pub(crate) mod execution;
mod image;
mod recovery;
pub(crate) mod resumption;
pub(crate) mod start;
