//! Trees of files as a stream of [`Item`]s: read beneath one directory, written beneath another.
//!
//! Both sides of a transfer use it: `insula` for its caller's files, and a process inside the guest, or with the guest's
//! root for its own, for files of the VPS. Trees may be hostile and may change meanwhile:
//!
//! * No path is looked up but from a descriptor, beneath it (openat2(2)). What is written goes through no symbolic link.
//! * Only regular files are opened, and only after a look at what they are: no pipe, socket or device is.
//! * A file appears whole or not at all: it has no name until it is complete (`O_TMPFILE`), or, on file systems that can't do
//!   that, one that goes away with the [`TreeWriter`].
//! * Nothing is held in memory but one chunk and the way down to it, however large a directory is.
//!
//! It blocks. It knows no VPS, no user and no wire but a pipe ([`wire`]).

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
