//! What a stream of files is made of.

use serde::{Deserialize, Serialize};

use crate::error::{FileError, FileErrorKind};
use crate::show::show;

/// The most bytes of a file in one item.
pub const MAX_CHUNK: usize = 128 << 10;

/// The longest path: `PATH_MAX` of Linux, without the end.
pub const MAX_PATH: usize = 4095;

/// The longest name in a directory: `NAME_MAX` of Linux.
pub const MAX_NAME: usize = 255;

/// A piece of a stream. A regular file is its entry, its data in order, and its end; everything else is an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A file, directory or link begins. Directories come before what is in them.
    Entry(Entry),
    /// Bytes of the file that has begun, at this place. What is left out between two of them is a hole.
    Data {
        /// Their offset in the file, in bytes.
        offset: u64,
        /// At most [`MAX_CHUNK`].
        bytes: Vec<u8>,
    },
    /// The file is complete, and so long.
    End {
        /// In bytes; there may be a hole at the end.
        length: u64,
    },
    /// This is not in the stream. If it is the file that has begun, it was not read to its end, and must be discarded.
    Skipped {
        /// Its path, as an entry would have it.
        path: Vec<u8>,
        /// Why it is left out.
        why: Skip,
    },
}

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From where the stream begins: `log`, `log/syslog`. Any bytes but NUL.
    pub path: Vec<u8>,
    /// The kind of the entry.
    pub kind: EntryKind,
    /// Permissions: the lowest twelve bits of `st_mode`.
    pub mode: u32,
    /// Its owner, as the guest has it.
    pub uid: u32,
    /// Its group, as the guest has it.
    pub gid: u32,
    /// In bytes; of a file that changes, what it was.
    pub length: u64,
    /// When its contents were changed last: milliseconds since 1970, UTC.
    pub modified_at_ms: i64,
    /// Where a symbolic link points to.
    pub target: Vec<u8>,
}

/// What an entry is.
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

/// Why something is not in the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skip {
    /// It is a pipe, a socket or a device.
    Kind(EntryKind),
    /// It is on another file system, such as `/proc`.
    OtherFileSystem,
    /// There are too many directories above it, or its path is too long.
    TooDeep,
    /// It could not be read.
    Failed(String),
}

impl Skip {
    /// Whether something is missing that was asked for.
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

/// How much was written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of files, holes not counted.
    pub bytes: u64,
}

/// The path of an entry in a stream: names with `/` between them, none of them `.` or `..`; or `.` alone, for the place
/// itself. Whoever sends another is broken or hostile.
pub fn check_relative(path: &[u8]) -> Result<(), FileError> {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME;
    let is_good = path == b"."
        || (path.len() <= MAX_PATH && !path.contains(&0) && path.split(|byte| *byte == b'/').all(is_name));
    match is_good {
        true => Ok(()),
        false => Err(FileError::new(
            FileErrorKind::Invalid,
            format!("{} is no path of a file in a stream", show(path)),
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
