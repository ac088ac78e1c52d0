//! Files into a VPS and out of it.
//!
//! ```text
//! push: files here ─> thread ─> requests ─────────────> agent ─> VPS
//! pull: VPS ─> agent ─> responses ─> thread ─> files here
//! ```
//!
//! A thread that may block reads and writes the files here. The content of a VPS is hostile: it is written below the
//! directory that was named, through no link, by [`insula_files`].

mod pull;
mod push;
mod transfer;

pub use pull::Pull;
pub use push::Push;
pub use transfer::warn_of_skip;
