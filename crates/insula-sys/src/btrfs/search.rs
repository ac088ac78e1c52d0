//! Reads the items of btrfs's own trees (`BTRFS_IOC_TREE_SEARCH_V2`).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::wire::{SEARCH_HEADER_BYTES, SearchArgs, SearchKey, tree_search_v2};

/// The key of an item. Keys are ordered by their fields, from first to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub objectid: u64,
    /// `BTRFS_*_KEY`.
    pub kind: u8,
    pub offset: u64,
}

impl Key {
    /// The smallest key that is larger than this one. `None` if this is the largest of all.
    fn next(self) -> Option<Self> {
        if let Some(offset) = self.offset.checked_add(1) {
            return Some(Self { offset, ..self });
        }
        if let Some(kind) = self.kind.checked_add(1) {
            return Some(Self { kind, offset: 0, ..self });
        }
        self.objectid.checked_add(1).map(|objectid| Self { objectid, kind: 0, offset: 0 })
    }
}

const BUFFER_BYTES: usize = 64 << 10;

#[repr(C)]
struct SearchBuffer {
    args: SearchArgs,
    items: [u8; BUFFER_BYTES],
}

/// Hands each item of `tree` with a key from `first` to `last`, both included, to `on_item`, in order.
///
/// `NotFound` if there is no such tree. A change that the kernel makes meanwhile may or may not be seen.
pub fn search(
    filesystem: BorrowedFd<'_>,
    tree: u64,
    first: Key,
    last: Key,
    mut on_item: impl FnMut(Key, &[u8]),
) -> io::Result<()> {
    let mut next = Some(first);
    let mut buffer = Box::new(SearchBuffer { args: SearchArgs::default(), items: [0; BUFFER_BYTES] });
    while let Some(from) = next.filter(|next| *next <= last) {
        buffer.args = SearchArgs { key: search_key(tree, from, last), buffer_bytes: BUFFER_BYTES as u64 };
        let arguments: *mut SearchBuffer = &mut *buffer;
        // SAFETY: the arguments are followed by the `buffer_bytes` bytes that the kernel may write.
        unsafe { tree_search_v2(filesystem.as_raw_fd(), arguments.cast()) }?;
        let found = buffer.args.key.item_count;
        let Some(reached) = read_items(&buffer.items, found, &mut on_item) else { break };
        next = reached.next();
    }
    Ok(())
}

fn search_key(tree: u64, from: Key, last: Key) -> SearchKey {
    SearchKey {
        tree,
        min_objectid: from.objectid,
        max_objectid: last.objectid,
        min_offset: from.offset,
        max_offset: last.offset,
        max_transid: u64::MAX,
        min_kind: u32::from(from.kind),
        max_kind: u32::from(last.kind),
        item_count: u32::MAX,
        ..SearchKey::default()
    }
}

/// Reads `count` items, each after a header, and returns the key of the last.
fn read_items(items: &[u8], count: u32, on_item: &mut impl FnMut(Key, &[u8])) -> Option<Key> {
    let (mut rest, mut last) = (items, None);
    for _ in 0..count {
        let (header, behind) = rest.split_at_checked(SEARCH_HEADER_BYTES)?;
        let word =
            |at: usize| u64::from_ne_bytes(header[at..at + size_of::<u64>()].try_into().expect("8 bytes"));
        let half =
            |at: usize| u32::from_ne_bytes(header[at..at + size_of::<u32>()].try_into().expect("4 bytes"));
        let key = Key { objectid: word(8), offset: word(16), kind: u8::try_from(half(24)).ok()? };
        let (item, behind) = behind.split_at_checked(half(28) as usize)?;
        on_item(key, item);
        (rest, last) = (behind, Some(key));
    }
    last
}

/// The 64-bit number at position `index` of an item, counted from 0. All numbers on disk are little-endian.
pub fn item_word(item: &[u8], index: usize) -> io::Result<u64> {
    let bytes = item.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(u64::from_le_bytes).ok_or_else(|| io::Error::other("an item of a btrfs tree is too short"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_follow_one_another() {
        let key = |objectid, kind, offset| Key { objectid, kind, offset };
        let cases = [
            (key(1, 2, 3), Some(key(1, 2, 4))),
            (key(1, 2, u64::MAX), Some(key(1, 3, 0))),
            (key(1, u8::MAX, u64::MAX), Some(key(2, 0, 0))),
            (key(u64::MAX, u8::MAX, u64::MAX), None),
        ];
        for (key, next) in cases {
            assert_eq!(key.next(), next);
            assert!(next.is_none_or(|next| next > key));
        }
    }

    #[test]
    fn items_are_read_behind_their_headers() {
        let header = |objectid, offset, kind: u64, length: u64| [0, objectid, offset, kind | length << 32];
        let words = [&header(7, 8, 9, 8)[..], &[42], &header(10, 11, 12, 0)].concat();
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
        let mut items = vec![];
        let last = read_items(&bytes, 2, &mut |key, item| items.push((key, item.to_vec())));
        let second = Key { objectid: 10, kind: 12, offset: 11 };
        assert_eq!(last, Some(second));
        assert_eq!(items[0], (Key { objectid: 7, kind: 9, offset: 8 }, 42_u64.to_ne_bytes().to_vec()));
        assert_eq!(items[1], (second, vec![]));
        assert_eq!(read_items(&bytes[..24], 1, &mut |_, _| ()), None, "a cut header");
    }
}
