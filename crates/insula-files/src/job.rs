//! The one job of a process that was started to work with the files of a place.

use std::io::{BufWriter, Read, Write};

use serde::{Deserialize, Serialize};

use crate::error::{FileError, FileErrorKind};
use crate::item::{Item, Totals};
use crate::place::Place;
use crate::read::{list, read};
use crate::wire::{Decoder, Frame, read_frame, write_frame};
use crate::write::{Target, TreeWriter, WriteOptions};

/// What to do. Paths are as seen from inside the place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Read files. The output is frames of items.
    Pull {
        /// The path to read.
        path: Vec<u8>,
        /// The first component of the entries' paths.
        name: Vec<u8>,
        /// Whether directories are read with their contents. Links are then sent as links.
        recursive: bool,
    },
    /// Write files. The input is frames of items, followed by [`Frame::Finish`].
    Push {
        /// Where to write.
        target: Target,
        /// How to treat owners and permissions.
        options: WriteOptions,
    },
    /// List a directory. The output is frames of entries.
    List {
        /// The path to list.
        path: Vec<u8>,
    },
}

/// Does the job. The last frame of the output is [`Frame::Done`] or [`Frame::Failed`]. If the input
/// ends before [`Frame::Finish`], nothing is left of the file that was being written.
pub fn serve(place: &Place, job: &Job, input: impl Read, output: impl Write) {
    let mut output = BufWriter::with_capacity(32 << 10, output);
    let result = match job {
        Job::Pull { path, name, recursive } => {
            send_items(&mut output, |sink| read(place, path, name, *recursive, sink))
        }
        Job::List { path } => send_items(&mut output, |sink| list(place, path, sink)),
        Job::Push { target, options } => {
            TreeWriter::open(place, target, options.clone()).and_then(|writer| receive_items(writer, input))
        }
    };
    let last = match result {
        Ok(totals) => Frame::Done(totals),
        Err(error) => Frame::Failed(error),
    };
    // A reader that no longer reads has gone.
    let _ = write_frame(&mut output, &last).and_then(|()| output.flush());
}

fn send_items(
    output: &mut impl Write,
    work: impl FnOnce(&mut dyn FnMut(Item) -> Result<(), FileError>) -> Result<(), FileError>,
) -> Result<Totals, FileError> {
    let mut totals = Totals::default();
    let mut sink = |item: Item| {
        match &item {
            Item::Entry(_) => totals.entries += 1,
            Item::Data { bytes, .. } => totals.bytes += bytes.len() as u64,
            Item::End { .. } | Item::Skipped { .. } => {}
        }
        write_frame(output, &Frame::Item(item)).map_err(gone)
    };
    work(&mut sink).map(|()| totals)
}

fn receive_items(mut writer: TreeWriter<'_>, mut input: impl Read) -> Result<Totals, FileError> {
    let mut decoder = Decoder::default();
    loop {
        match read_frame(&mut input, &mut decoder).map_err(gone)? {
            Some(Frame::Item(item)) => writer.take(item)?,
            Some(Frame::Finish) => return writer.finish(),
            Some(Frame::Done(_) | Frame::Failed(_)) | None => {
                return Err(gone(std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

fn gone(error: std::io::Error) -> FileError {
    FileError::new(FileErrorKind::Gone, format!("the other side of the transfer has gone: {error}"))
}
