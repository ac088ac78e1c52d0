//! Files into a VPS and out of it.
//!
//! ```text
//! push: files here ─> thread ─> requests ─────────────> agent ─> VPS
//! pull: VPS ─> agent ─> responses ─> thread ─> files here
//! ```
//!
//! Files here are read and written by a thread that may block. What comes out of a VPS is hostile: it is written beneath the
//! directory that was named, through no link, by [`insula_files`].

mod pull;
mod push;
mod transfer;

pub use pull::Pull;
pub use push::Push;
pub use transfer::warn_of_skip;
