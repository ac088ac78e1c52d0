//! What the steps of jobs do, and how they are taken back. Which steps there are is in [`crate::model`].

pub(crate) mod apply;
mod errors;
pub(crate) mod start;
