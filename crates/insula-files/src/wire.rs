//! The form of a stream in a pipe: frames of a kind (one byte), a length (four bytes,
//! little-endian), and the content.

use std::io::{self, Read, Write};

use crate::error::FileError;
use crate::item::{Entry, EntryKind, Item, MAX_CHUNK, MAX_PATH, Skip, Totals};

/// The maximum length of a frame: a chunk with its offset, or an entry with two paths.
const MAX_FRAME: usize = MAX_CHUNK + 64;

const HEADER: usize = 5;

/// A frame of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A part of the stream.
    Item(Item),
    /// The stream is complete. If this is missing, the sender has died.
    Finish,
    /// Everything was read or written.
    Done(Totals),
    /// The job failed.
    Failed(FileError),
}

/// The bytes are not a frame.
#[derive(Debug, thiserror::Error)]
#[error("the bytes are not a frame of a stream of files")]
pub struct WireError;

impl From<WireError> for io::Error {
    fn from(error: WireError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl Frame {
    /// The frame as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, payload) = match self {
            Self::Item(Item::Entry(entry)) => (1, encode_entry(entry)),
            Self::Item(Item::Data { offset, bytes }) => (2, [&offset.to_le_bytes(), &**bytes].concat()),
            Self::Item(Item::End { length }) => (3, length.to_le_bytes().to_vec()),
            Self::Item(Item::Skipped { path, why }) => (4, [&*bytes(path), &*json(why)].concat()),
            Self::Finish => (5, vec![]),
            Self::Done(totals) => (6, json(totals)),
            Self::Failed(error) => (7, json(error)),
        };
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX); // the other side refuses that
        [&[kind], &length.to_le_bytes()[..], &payload].concat()
    }

    fn decode(kind: u8, payload: &[u8]) -> Option<Self> {
        let mut rest = payload;
        let rest = &mut rest;
        Some(match kind {
            1 => Self::Item(Item::Entry(decode_entry(rest)?)),
            2 => Self::Item(Item::Data { offset: u64::from_le_bytes(take(rest)?), bytes: rest.to_vec() }),
            3 => Self::Item(Item::End { length: u64::from_le_bytes(take(rest)?) }),
            4 => {
                let path = take_bytes(rest)?;
                Self::Item(Item::Skipped { path, why: serde_json::from_slice::<Skip>(rest).ok()? })
            }
            5 => Self::Finish,
            6 => Self::Done(serde_json::from_slice(rest).ok()?),
            7 => Self::Failed(serde_json::from_slice(rest).ok()?),
            _ => return None,
        })
    }
}

/// Decodes frames from bytes that arrive in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// The offset at which the next frame begins.
    at: usize,
}

impl Decoder {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame. `None` if more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        let bytes = &self.bytes[self.at..];
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else { return Ok(None) };
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > MAX_FRAME {
            return Err(WireError);
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(header[0], payload).ok_or(WireError)?;
        self.at += HEADER + length;
        Ok(Some(frame))
    }
}

/// Reads the next frame. `None` at the end of the input.
pub fn read_frame(from: &mut impl Read, decoder: &mut Decoder) -> io::Result<Option<Frame>> {
    let mut buffer = [0; 64 << 10];
    loop {
        if let Some(frame) = decoder.next_frame()? {
            return Ok(Some(frame));
        }
        match from.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => decoder.push(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes a frame.
pub fn write_frame(to: &mut impl Write, frame: &Frame) -> io::Result<()> {
    to.write_all(&frame.encode())
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default() // plain data: it can't fail
}

/// Encodes bytes after their length, which takes two bytes.
fn bytes(bytes: &[u8]) -> Vec<u8> {
    let cut = &bytes[..bytes.len().min(MAX_PATH)];
    [&u16::try_from(cut.len()).unwrap_or_default().to_le_bytes(), cut].concat()
}

const KINDS: [EntryKind; 6] = [
    EntryKind::File,
    EntryKind::Directory,
    EntryKind::Link,
    EntryKind::Fifo,
    EntryKind::Socket,
    EntryKind::Device,
];

fn encode_entry(entry: &Entry) -> Vec<u8> {
    let kind = KINDS.iter().position(|kind| *kind == entry.kind).unwrap_or_default();
    let numbers = [entry.mode, entry.uid, entry.gid].map(u32::to_le_bytes).concat();
    [
        &[u8::try_from(kind).unwrap_or_default()],
        &*numbers,
        &entry.length.to_le_bytes(),
        &entry.modified_at_ms.to_le_bytes(),
        &bytes(&entry.path),
        &bytes(&entry.target),
    ]
    .concat()
}

fn decode_entry(rest: &mut &[u8]) -> Option<Entry> {
    let [kind] = take(rest)?;
    Some(Entry {
        kind: *KINDS.get(usize::from(kind))?,
        mode: u32::from_le_bytes(take(rest)?),
        uid: u32::from_le_bytes(take(rest)?),
        gid: u32::from_le_bytes(take(rest)?),
        length: u64::from_le_bytes(take(rest)?),
        modified_at_ms: i64::from_le_bytes(take(rest)?),
        path: take_bytes(rest)?,
        target: take_bytes(rest)?,
    })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, others) = rest.split_first_chunk::<N>()?;
    *rest = others;
    Some(*first)
}

fn take_bytes(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::from(u16::from_le_bytes(take(rest)?));
    let (bytes, others) = rest.split_at_checked(length)?;
    *rest = others;
    Some(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FileErrorKind;
    use proptest::prelude::*;

    fn items() -> impl Strategy<Value = Item> {
        let text = || proptest::collection::vec(any::<u8>(), 0..300);
        let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>(), any::<i64>());
        let entry = (text(), text(), 0..KINDS.len(), numbers).prop_map(|(path, target, kind, numbers)| {
            let (mode, uid, gid, length, modified_at_ms) = numbers;
            Item::Entry(Entry { path, target, kind: KINDS[kind], mode, uid, gid, length, modified_at_ms })
        });
        let skips = prop_oneof![
            Just(Skip::TooDeep),
            Just(Skip::Kind(EntryKind::Socket)),
            ".*".prop_map(Skip::Failed),
            Just(Skip::OtherFileSystem)
        ];
        prop_oneof![
            entry,
            (any::<u64>(), text()).prop_map(|(offset, bytes)| Item::Data { offset, bytes }),
            any::<u64>().prop_map(|length| Item::End { length }),
            (text(), skips).prop_map(|(path, why)| Item::Skipped { path, why }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(items in proptest::collection::vec(items(), 0..9), piece in 1_usize..700) {
            let mut frames: Vec<Frame> = items.into_iter().map(Frame::Item).collect();
            frames.push(Frame::Finish);
            frames.push(Frame::Done(Totals { entries: 3, bytes: u64::MAX }));
            frames.push(Frame::Failed(FileError::new(FileErrorKind::NoRoom, "full")));
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            let (mut decoder, mut back) = (Decoder::default(), vec![]);
            for piece in bytes.chunks(piece) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    back.push(frame);
                }
            }
            prop_assert_eq!(back, frames);
        }

        #[test]
        fn garbage_is_refused_and_nothing_breaks(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_at_its_first_bytes() {
        let mut decoder = Decoder::default();
        decoder.push(&[2, 0xff, 0xff, 0xff, 0xff]);
        assert!(decoder.next_frame().is_err());
    }
}
