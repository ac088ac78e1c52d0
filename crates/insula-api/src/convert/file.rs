//! Conversions of files inside VPSes, and of the items of transfers.

use insula_files::{Entry, EntryKind, Item, Skip};

use super::field::timestamp_ms;
use crate::error::ApiError;
use crate::v1;
use crate::v1::file_item::Item as Message;

/// The two fields for a path: as text and, where it isn't UTF-8, as bytes.
pub fn path_fields(path: &[u8]) -> (String, Vec<u8>) {
    match str::from_utf8(path) {
        Ok(text) => (text.to_owned(), vec![]),
        Err(_) => (String::from_utf8_lossy(path).into_owned(), path.to_vec()),
    }
}

/// The path that the two fields stand for.
pub fn path_of(text: &str, bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() { text.as_bytes().to_vec() } else { bytes.to_vec() }
}

impl From<Item> for v1::FileItem {
    fn from(item: Item) -> Self {
        let item = match item {
            Item::Entry(entry) => Message::Entry(entry.into()),
            Item::Data { offset, bytes } => Message::Data(v1::FileData { offset, data: bytes }),
            Item::End { length } => Message::End(v1::FileEnd { size_bytes: length }),
            Item::Skipped { path, why } => Message::Skip(skip(&path, &why)),
        };
        Self { item: Some(item) }
    }
}

impl From<Entry> for v1::FileEntry {
    fn from(entry: Entry) -> Self {
        let (path, path_bytes) = path_fields(&entry.path);
        let (link_target, link_target_bytes) = path_fields(&entry.target);
        let kind = match entry.kind {
            EntryKind::File => v1::FileType::Regular,
            EntryKind::Directory => v1::FileType::Directory,
            EntryKind::Link => v1::FileType::SymbolicLink,
            EntryKind::Fifo => v1::FileType::NamedPipe,
            EntryKind::Socket => v1::FileType::Socket,
            EntryKind::Device => v1::FileType::Device,
        };
        Self {
            path,
            path_bytes,
            r#type: kind.into(),
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            size_bytes: entry.length,
            update_time: Some(timestamp_ms(entry.modified_at_ms)),
            link_target,
            link_target_bytes,
        }
    }
}

/// Converts a file that a transfer skips, with the reason.
pub fn skip(path: &[u8], why: &Skip) -> v1::FileSkip {
    let (path, path_bytes) = path_fields(path);
    v1::FileSkip { path, path_bytes, reason: why.reason(), failed: why.is_failure() }
}

/// Converts an item of a transfer from a message. The content is checked by the code that writes
/// it.
pub fn file_item(message: v1::FileItem) -> Result<Item, ApiError> {
    let unknown = || ApiError::invalid_field("items", "an item is of an unknown kind");
    Ok(match message.item.ok_or_else(unknown)? {
        Message::Entry(entry) => Item::Entry(file_entry(&entry).ok_or_else(unknown)?),
        Message::Data(v1::FileData { offset, data }) => Item::Data { offset, bytes: data },
        Message::End(v1::FileEnd { size_bytes }) => Item::End { length: size_bytes },
        Message::Skip(skip) => {
            Item::Skipped { path: path_of(&skip.path, &skip.path_bytes), why: Skip::Failed(skip.reason) }
        }
    })
}

fn file_entry(entry: &v1::FileEntry) -> Option<Entry> {
    let kind = match entry.r#type() {
        v1::FileType::Unspecified => return None,
        v1::FileType::Regular => EntryKind::File,
        v1::FileType::Directory => EntryKind::Directory,
        v1::FileType::SymbolicLink => EntryKind::Link,
        v1::FileType::NamedPipe => EntryKind::Fifo,
        v1::FileType::Socket => EntryKind::Socket,
        v1::FileType::Device => EntryKind::Device,
    };
    let time = entry.update_time.unwrap_or_default();
    Some(Entry {
        path: path_of(&entry.path, &entry.path_bytes),
        kind,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        length: entry.size_bytes,
        modified_at_ms: time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000)),
        target: path_of(&entry.link_target, &entry.link_target_bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_whatever_their_names() {
        for path in [&b"a/b"[..], b"\xff\n", "grün".as_bytes()] {
            for kind in [EntryKind::File, EntryKind::Directory, EntryKind::Link, EntryKind::Socket] {
                let target = if kind == EntryKind::Link { b"../\xfe".to_vec() } else { vec![] };
                let entry = Entry {
                    path: path.to_vec(),
                    kind,
                    mode: 0o4755,
                    uid: 7,
                    gid: u32::MAX,
                    length: 1 << 40,
                    modified_at_ms: -1,
                    target,
                };
                let item = Item::Entry(entry);
                assert_eq!(file_item(item.clone().into()).unwrap(), item);
            }
        }
        for item in [Item::Data { offset: 5, bytes: vec![0, 255] }, Item::End { length: 9 }] {
            assert_eq!(file_item(item.clone().into()).unwrap(), item);
        }
        assert!(file_item(v1::FileItem::default()).is_err());
        let unspecified = v1::FileItem { item: Some(Message::Entry(v1::FileEntry::default())) };
        assert!(file_item(unspecified).is_err());
    }
}
