//! Image definitions, builds and fingerprints.
//!
//! An image is a directory tree that is built once and cloned for each VPS. This crate knows what is in the tree. It knows
//! nothing of pools, volumes and aliases: its caller provides an empty directory and keeps the result.
//!
//! An [`ImageDefinition`] is data (`images/*.yaml`). [`plan_build`] turns it into one run of mmdebstrap, and [`build`] carries
//! that out. [`fingerprint`] computes the name of the result, and [`clean_check`] finds what clones must not share.

mod build;
mod clean;
mod definition;
mod fingerprint;
mod plan;
mod progress;

pub use build::{BuildError, FailureCause, build};
pub use clean::clean_check;
pub use definition::{DefinitionError, FileMode, ImageDefinition, ImageFile};
pub use fingerprint::{FingerprintError, TreeDigest, fingerprint};
pub use plan::plan_build;
