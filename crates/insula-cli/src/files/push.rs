//! Files into a VPS.

use insula_api::convert::path_fields;
use insula_api::v1::push_files_request::Start;
use insula_api::v1::{FileItem, FileSkip, PushFilesRequest, file_item};
use insula_files::{
    Entry, EntryKind, FileError, FileErrorKind, Item, MAX_CHUNK, OpenDescriptors, Place, read,
};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::transfer::{Bar, QUEUE, local_failure, warn_of_skip};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::places::FilePlace;

/// How many items go into one request, and how many bytes of files.
const MAX_ITEMS: usize = 256;
const MAX_BYTES: usize = 256 << 10;

/// Files to copy into a VPS.
pub struct Push {
    /// What to copy.
    pub locals: Vec<PathBuf>,
    /// Where to.
    pub place: FilePlace,
    /// Whether directories are copied.
    pub recursive: bool,
    /// Whether directories that are missing are made.
    pub create_dirs: bool,
    /// Permissions that replace those of the files.
    pub mode: Option<u32>,
    /// An owner that replaces that of the files.
    pub uid: Option<u32>,
    /// A group that replaces that of the files.
    pub gid: Option<u32>,
}

/// A message of the reading thread.
enum Said {
    /// This many bytes were sent.
    Bytes(u64),
    /// This item was left out.
    Skip(FileSkip),
}

impl Push {
    /// Copies them.
    pub async fn run(self, context: &Context) -> Outcome {
        let (is_directory, length) = self.look()?;
        let bar = Bar::new(context, &self.place.vps, length);
        let (requests, receiver) = mpsc::channel(QUEUE);
        let (say, mut said) = mpsc::unbounded_channel();
        let start = self.start(is_directory);
        let _ = requests.try_send(PushFilesRequest { start: Some(start), items: vec![] }); // there is room
        let client = context.client().await?;
        // Kept until everything was read: if the stream ended earlier, the agent would take it for complete.
        let sender = Sender { requests: requests.clone(), say, items: vec![], bytes: 0 };
        let reading = tokio::task::spawn_blocking(move || self.read(sender));
        let mut requests = Some(requests);
        let mut files = client.files();
        let call = files.push_files(ReceiverStream::new(receiver));
        tokio::pin!(call, reading);
        let (mut is_read, mut failed) = (false, false);
        loop {
            tokio::select! {
                answer = &mut call => {
                    answer?;
                    break;
                }
                said = said.recv(), if !said.is_closed() || !said.is_empty() => match said {
                    Some(Said::Bytes(bytes)) => bar.add(bytes),
                    Some(Said::Skip(skip)) => failed |= warn_of_skip(context, &skip),
                    None => {}
                },
                result = &mut reading, if !is_read => {
                    is_read = true;
                    match result.map_err(|error| Failure::io("failed to read files", &error.into()))? {
                        Ok(()) => requests = None,
                        // The agent accepts no more: its answer says why.
                        Err(error) if error.kind == FileErrorKind::Gone => {}
                        Err(error) => return Err(local_failure(error)),
                    }
                }
            }
        }
        drop(requests);
        while let Ok(said) = said.try_recv() {
            if let Said::Skip(skip) = said {
                failed |= warn_of_skip(context, &skip);
            }
        }
        if failed { Err(Failure::Exit(1)) } else { Ok(()) }
    }

    /// Whether the target must be a directory, and how many bytes there are, if that is known.
    fn look(&self) -> Outcome<(bool, Option<u64>)> {
        let is_stdin = |local: &PathBuf| local.as_os_str() == "-";
        if self.locals.iter().any(is_stdin) {
            return match self.locals.len() > 1 || self.recursive || self.place.path.ends_with(b"/") {
                true => Err(Failure::usage(
                    "standard input is a single file: give it a name, such as web1/root/file",
                )),
                false => Ok((false, None)),
            };
        }
        let mut is_directory = self.locals.len() > 1;
        let mut length = Some(0);
        for local in &self.locals {
            let looked = if self.recursive { local.symlink_metadata() } else { local.metadata() };
            let metadata = looked
                .map_err(|error| Failure::io(format!("failed to look at {}", local.display()), &error))?;
            if metadata.is_dir() && !self.recursive {
                return Err(Failure::usage(format!(
                    "{} is a directory: add -r to copy it with everything in it",
                    local.display()
                )));
            }
            is_directory |= metadata.is_dir();
            length = length.filter(|_| metadata.is_file()).map(|length| length + metadata.len());
        }
        Ok((is_directory, length))
    }

    fn start(&self, is_directory: bool) -> Start {
        let (path, path_bytes) = path_fields(&self.place.path);
        Start {
            vps: self.place.vps.clone(),
            path,
            path_bytes,
            is_directory,
            create_directories: self.create_dirs,
            uid: self.uid,
            gid: self.gid,
            mode: self.mode,
        }
    }

    /// Reads everything. It blocks.
    fn read(self, mut sender: Sender) -> Result<(), FileError> {
        for local in &self.locals {
            match local.as_os_str() == "-" {
                true => read_stdin(&mut sender)?,
                false => self.read_tree(local, &mut sender)?,
            }
        }
        sender.flush()
    }

    fn read_tree(&self, local: &Path, sender: &mut Sender) -> Result<(), FileError> {
        let shown = local.as_os_str().as_bytes();
        let path = std::path::absolute(local).map_err(FileError::refused("find", shown))?;
        let opened = std::fs::File::open("/").and_then(|root| Ok((root, OpenDescriptors::open()?)));
        let (root, descriptors) = opened.map_err(FileError::refused("open", b"/"))?;
        let place = Place::new(OwnedFd::from(root), descriptors);
        let name = local.file_name().map_or(&b"."[..], |name| name.as_bytes());
        read(&place, path.as_os_str().as_bytes(), name, self.recursive, &mut |item| sender.send(item))
    }
}

/// The sender from the reading thread to the agent.
struct Sender {
    requests: mpsc::Sender<PushFilesRequest>,
    say: mpsc::UnboundedSender<Said>,
    items: Vec<FileItem>,
    bytes: usize,
}

impl Sender {
    fn send(&mut self, item: Item) -> Result<(), FileError> {
        if let Item::Data { bytes, .. } = &item {
            self.bytes += bytes.len();
        }
        let item = FileItem::from(item);
        if let Some(file_item::Item::Skip(skip)) = &item.item {
            let _ = self.say.send(Said::Skip(skip.clone())); // the receiver may be gone
        }
        self.items.push(item);
        let is_full = self.items.len() >= MAX_ITEMS || self.bytes >= MAX_BYTES;
        if is_full { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), FileError> {
        let items = std::mem::take(&mut self.items);
        let sent = self.requests.blocking_send(PushFilesRequest { start: None, items });
        let _ = self.say.send(Said::Bytes(std::mem::take(&mut self.bytes) as u64)); // the receiver may be gone
        sent.map_err(|_| FileError::new(FileErrorKind::Gone, "the agent accepts no more files"))
    }
}

/// Standard input as a file without a name.
fn read_stdin(sender: &mut Sender) -> Result<(), FileError> {
    sender.send(Item::Entry(Entry {
        path: b".".to_vec(),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        length: 0,
        modified_at_ms: 0,
        target: vec![],
    }))?;
    let mut stdin = std::io::stdin().lock();
    let (mut buffer, mut offset) = (vec![0; MAX_CHUNK], 0);
    loop {
        match stdin.read(&mut buffer).map_err(FileError::refused("read", b"standard input"))? {
            0 => return sender.send(Item::End { length: offset }),
            count => {
                sender.send(Item::Data { offset, bytes: buffer[..count].to_vec() })?;
                offset += count as u64;
            }
        }
    }
}
