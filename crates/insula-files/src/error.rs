//! Why a file can't be read or written.

use std::io;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::show::show;

/// What a caller branches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileErrorKind {
    /// There is no such file or directory.
    NotFound,
    /// A directory where a file is expected, or the other way round; a pipe, a socket, a device.
    WrongKind,
    /// The file system, or a quota, has no room.
    NoRoom,
    /// What was asked for makes no sense: a path, an owner.
    Invalid,
    /// Whoever wants the data, or has it, has gone.
    Gone,
    /// Anything else that the kernel has refused.
    Other,
}

/// Why a file can't be read or written. The message names it and the cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct FileError {
    /// What a caller branches on.
    pub kind: FileErrorKind,
    /// What was being done to what, and the kernel's word.
    pub message: String,
}

impl FileError {
    /// An error of this kind.
    pub fn new(kind: FileErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What the kernel refused: `what` was being done to `path`.
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
