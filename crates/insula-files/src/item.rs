//! The items that a stream of files consists of.

use serde::{Deserialize, Serialize};

use crate::error::{FileError, FileErrorKind};
use crate::show::show;

/// The maximum number of bytes of a file in one item.
pub const MAX_CHUNK: usize = 128 << 10;

/// The maximum length of a path: `PATH_MAX` of Linux, without the final NUL.
pub const MAX_PATH: usize = 4095;

/// The maximum length of a name in a directory: `NAME_MAX` of Linux.
pub const MAX_NAME: usize = 255;

/// A part of a stream. A regular file consists of its entry, its data in order, and its end.
/// Everything else is only an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// The start of a file, directory or link. A directory comes before what is in it.
    Entry(Entry),
    /// Bytes of the current file, at this offset. What is left out between two of these items is a
    /// hole.
    Data {
        /// The offset of the bytes in the file.
        offset: u64,
        /// The bytes, at most [`MAX_CHUNK`].
        bytes: Vec<u8>,
    },
    /// The current file is complete, and has this length.
    End {
        /// The length in bytes. There may be a hole at the end.
        length: u64,
    },
    /// This path is not in the stream. If it is the current file, it could not be read to its end,
    /// and must not be created.
    Skipped {
        /// The path, in the form that its entry would have.
        path: Vec<u8>,
        /// Why it was skipped.
        why: Skip,
    },
}

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path from where the stream begins: `log`, `log/syslog`. Any bytes but NUL.
    pub path: Vec<u8>,
    /// What kind of file it is.
    pub kind: EntryKind,
    /// The permissions: the lowest twelve bits of `st_mode`.
    pub mode: u32,
    /// The owner's user id, as seen in the guest.
    pub uid: u32,
    /// The group id, as seen in the guest.
    pub gid: u32,
    /// The length in bytes. For a file that is being changed, the length that it had.
    pub length: u64,
    /// When the contents were last changed, in milliseconds since 1970, UTC.
    pub modified_at_ms: i64,
    /// The target of a symbolic link.
    pub target: Vec<u8>,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A named pipe. In lists only.
    Fifo,
    /// A socket. In lists only.
    Socket,
    /// A device node. In lists only.
    Device,
}

/// Why something is left out of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// It is a pipe, a socket or a device.
    Kind(EntryKind),
    /// It is on another file system than the start of the stream, such as `/proc`.
    OtherFileSystem,
    /// There are too many directories above it, or its path is too long.
    TooDeep,
    /// It could not be read.
    Failed(String),
}

impl Skip {
    /// Whether something is missing that the caller asked for.
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::TooDeep | Self::Failed(_))
    }

    /// The reason, for people.
    pub fn reason(&self) -> String {
        match self {
            Self::Kind(EntryKind::Fifo) => "it is a named pipe".into(),
            Self::Kind(EntryKind::Socket) => "it is a socket".into(),
            Self::Kind(_) => "it is a device".into(),
            Self::OtherFileSystem => "it is on another file system".into(),
            Self::TooDeep => "it is too deep in the tree".into(),
            Self::Failed(why) => why.clone(),
        }
    }
}

/// How much was transferred.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// The number of files, directories and links.
    pub entries: u64,
    /// The number of bytes in files, without holes.
    pub bytes: u64,
}

/// Checks the path of an entry in a stream: names with `/` between them, none of them `.` or `..`;
/// or `.` alone, for the target itself. A sender of anything else is broken or hostile.
pub fn check_relative(path: &[u8]) -> Result<(), FileError> {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME;
    let is_good = path == b"."
        || (path.len() <= MAX_PATH && !path.contains(&0) && path.split(|byte| *byte == b'/').all(is_name));
    match is_good {
        true => Ok(()),
        false => Err(FileError::new(
            FileErrorKind::Invalid,
            format!("{} is not a path of a file in a stream", show(path)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_down_only() {
        for good in [&b"."[..], b"a", b"a/b", b"\xff\n", b"...", b"a b/..c"] {
            assert!(check_relative(good).is_ok(), "{}", show(good));
        }
        let long = [b'a'; MAX_NAME + 1];
        for bad in [&b""[..], b"/", b"/a", b"a/", b"a//b", b"..", b"a/..", b"../a", b"./a", b"a\0", &long] {
            assert_eq!(check_relative(bad).unwrap_err().kind, FileErrorKind::Invalid, "{}", show(bad));
        }
    }
}
