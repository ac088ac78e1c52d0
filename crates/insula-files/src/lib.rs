//! Trees of files as a stream of [`Item`]s: read beneath one directory, written beneath another.
//!
//! Both sides of a transfer use this crate: `insula` for the caller's files, and for those of the
//! VPS a process that runs inside the guest, or has the guest's root as its own. Trees may be
//! hostile and may change meanwhile:
//!
//! * A path is looked up only from a descriptor, and beneath it (openat2(2)). Writing follows no
//!   symbolic link.
//! * Only regular files are opened, and only after their type was checked. Pipes, sockets and
//!   devices never are.
//! * A file appears whole or not at all. It has no name until it is complete (`O_TMPFILE`) or, on
//!   file systems that don't support this, a temporary one that is removed with the [`TreeWriter`].
//! * Memory holds no more than one chunk and the way down to it, however large a directory is.
//!
//! The functions block. The crate knows no VPS, no user, and no transport but a pipe ([`wire`]).

mod error;
mod item;
mod job;
mod place;
mod read;
mod show;
mod write;

pub mod wire;

pub use error::{FileError, FileErrorKind};
pub use item::{Entry, EntryKind, Item, MAX_CHUNK, MAX_NAME, MAX_PATH, Skip, Totals, check_relative};
pub use job::{Job, serve};
pub use place::{OpenDescriptors, Place};
pub use read::{list, read};
pub use show::show;
pub use write::{Target, TreeWriter, WriteOptions};
