//! Errors of reading and writing files.

use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::show::show;

/// The kind of an error, for callers to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileErrorKind {
    /// There is no such file or directory.
    NotFound,
    /// There is a directory where a file is expected, or the other way round; or a pipe, socket or
    /// device.
    WrongKind,
    /// The file system is full, or a quota is reached.
    NoRoom,
    /// The request is invalid, such as a path or an owner.
    Invalid,
    /// The other end of the transfer has gone.
    Gone,
    /// Any other error of the kernel.
    Other,
}

/// Why a file can't be read or written. The message names the file and the cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct FileError {
    /// The kind of the error, for callers to branch on.
    pub kind: FileErrorKind,
    /// What was being done to which file, and the kernel's error.
    pub message: String,
}

impl FileError {
    /// Makes an error of this kind.
    pub fn new(kind: FileErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// Makes an error from one of the kernel: `what` was being done to `path`.
    pub fn refused<E: Into<io::Error>>(what: &str, path: &[u8]) -> impl FnOnce(E) -> Self {
        move |error| {
            let error: io::Error = error.into();
            Self::new(kind_of(&error), format!("failed to {what} {}: {error}", show(path)))
        }
    }
}

fn kind_of(error: &io::Error) -> FileErrorKind {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => FileErrorKind::NotFound,
        Some(Errno::NOTDIR | Errno::ISDIR | Errno::LOOP) => FileErrorKind::WrongKind,
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => FileErrorKind::NoRoom,
        Some(Errno::NAMETOOLONG) => FileErrorKind::Invalid,
        Some(Errno::PIPE) => FileErrorKind::Gone,
        _ => FileErrorKind::Other,
    }
}
