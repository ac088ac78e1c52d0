//! Files out of a VPS.

use insula_api::convert::{file_item, path_fields};
use insula_api::v1::{self, FileItem, PullFilesRequest, PullFilesResponse};
use insula_files::{FileError, FileErrorKind, Item, OpenDescriptors, TreeWriter, WriteOptions};
use rustix::fs::{Mode, OFlags, open};
use std::io::IsTerminal as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::transfer::{Bar, QUEUE, local_failure, warn_of_skip};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::print;
use crate::places::FilePlace;
use crate::text::strip_escapes;

/// Files to copy out of VPSes.
pub struct Pull {
    /// What to copy.
    pub places: Vec<FilePlace>,
    /// Where to.
    pub local: PathBuf,
    /// Whether directories are copied.
    pub recursive: bool,
    /// Whether directories that are missing are made.
    pub create_dirs: bool,
}

impl Pull {
    /// Copies them.
    pub async fn run(self, context: &Context) -> Outcome {
        let is_stdout = self.local.as_os_str() == "-";
        if is_stdout && (self.places.len() > 1 || self.recursive) {
            return Err(Failure::usage("standard output is for one file"));
        }
        let target = match is_stdout {
            true => None,
            false => Some(self.target()?),
        };
        let mut failed = false;
        for place in &self.places {
            let mut stream = self.request(context, place).await?;
            // A request that the agent refuses leaves nothing here.
            let first = stream.message().await?.unwrap_or_default();
            let length = match first.items.first().and_then(|item| item.item.as_ref()) {
                Some(v1::file_item::Item::Entry(entry)) if entry.r#type() == v1::FileType::Regular => {
                    Some(entry.size_bytes)
                }
                _ => None,
            };
            let bar = Bar::new(context, &place.vps, length);
            let transfer = Transfer { context, bar, first: Some(first), stream };
            failed |= match &target {
                Some(target) => transfer.write_files(target.clone()).await?,
                None => transfer.print_file().await?,
            };
        }
        if failed { Err(Failure::Exit(1)) } else { Ok(()) }
    }

    async fn request(&self, context: &Context, place: &FilePlace) -> Outcome<Streaming<PullFilesResponse>> {
        let (path, path_bytes) = path_fields(&place.path);
        let request =
            PullFilesRequest { vps: place.vps.clone(), path, path_bytes, recursive: self.recursive };
        Ok(context.client().await?.files().pull_files(request).await?.into_inner())
    }

    fn target(&self) -> Outcome<LocalTarget> {
        let must_be_directory =
            self.recursive || self.places.len() > 1 || self.local.as_os_str().as_bytes().ends_with(b"/");
        let make = |directory: &Path| match self.create_dirs {
            true => std::fs::create_dir_all(directory)
                .map_err(|error| Failure::io(format!("failed to make {}", directory.display()), &error)),
            false => Ok(()),
        };
        if must_be_directory || self.local.is_dir() {
            make(&self.local)?;
            return match self.local.is_dir() {
                true => Ok(LocalTarget { directory: self.local.clone(), name: None }),
                false => Err(Failure::Error(insula_api::ApiError::new(
                    insula_api::Reason::Internal,
                    format!("{} is not a directory to put files into", self.local.display()),
                ))),
            };
        }
        let parent = self.local.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        make(&directory)?;
        let name = self.local.file_name().map(|name| name.as_bytes().to_vec());
        Ok(LocalTarget { directory, name })
    }
}

/// A directory here, and the name of the one file in it.
#[derive(Clone)]
struct LocalTarget {
    directory: PathBuf,
    name: Option<Vec<u8>>,
}

struct Transfer<'a> {
    context: &'a Context,
    bar: Bar,
    first: Option<PullFilesResponse>,
    stream: Streaming<PullFilesResponse>,
}

impl Transfer<'_> {
    /// Receives the next items. Prints which files are left out, and returns whether one is missing.
    async fn next(&mut self) -> Outcome<Option<(Vec<FileItem>, bool)>> {
        let message = match self.first.take() {
            Some(first) => Some(first),
            None => self.stream.message().await?,
        };
        let Some(message) = message else { return Ok(None) };
        let mut failed = false;
        for item in &message.items {
            match &item.item {
                Some(v1::file_item::Item::Data(data)) => self.bar.add(data.data.len() as u64),
                Some(v1::file_item::Item::Skip(skip)) => failed |= warn_of_skip(self.context, skip),
                _ => {}
            }
        }
        Ok(Some((message.items, failed)))
    }

    async fn write_files(mut self, target: LocalTarget) -> Outcome<bool> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writing = tokio::task::spawn_blocking(move || write(&target, receiver));
        let mut failed = false;
        let received: Outcome = loop {
            match self.next().await {
                Ok(Some((items, has_failed))) => {
                    failed |= has_failed;
                    if sender.send(Some(items)).await.is_err() {
                        break Ok(()); // the writer's error says why
                    }
                }
                Ok(None) => {
                    let _ = sender.send(None).await; // the writer's error says why
                    break Ok(());
                }
                Err(failure) => break Err(failure),
            }
        };
        drop(sender);
        let written = writing.await.map_err(|error| Failure::io("failed to write files", &error.into()))?;
        received?;
        written.map(|()| failed).map_err(local_failure)
    }

    async fn print_file(mut self) -> Outcome<bool> {
        let (mut failed, mut at, is_terminal) = (false, 0, std::io::stdout().is_terminal());
        while let Some((items, has_failed)) = self.next().await? {
            failed |= has_failed;
            for item in items {
                match file_item(item)? {
                    Item::Data { offset, bytes } => {
                        print_hole(offset.saturating_sub(at))?;
                        at = offset + bytes.len() as u64;
                        match is_terminal {
                            true => print(strip_escapes(&bytes).as_bytes())?,
                            false => print(&bytes)?,
                        }
                    }
                    Item::End { length } => print_hole(length.saturating_sub(at))?,
                    Item::Entry(_) | Item::Skipped { .. } => {}
                }
            }
        }
        Ok(failed)
    }
}

fn print_hole(length: u64) -> Outcome {
    const ZEROES: [u8; 16 << 10] = [0; 16 << 10];
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(ZEROES.len()).min(ZEROES.len());
        print(&ZEROES[..part])?;
        left -= part as u64;
    }
    Ok(())
}

/// Writes all items until `None` comes. It blocks.
fn write(target: &LocalTarget, mut items: mpsc::Receiver<Option<Vec<FileItem>>>) -> Result<(), FileError> {
    let shown = target.directory.as_os_str().as_bytes();
    let descriptors = OpenDescriptors::open().map_err(FileError::refused("open", b"/proc/self/fd"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = open(&target.directory, flags, Mode::empty())
        .map_err(FileError::refused("open the directory", shown))?;
    let options = WriteOptions {
        keeps_owner: rustix::process::geteuid().is_root(),
        uid: None,
        gid: None,
        mode: None,
        // A guest must not choose set-user-ID programs for this machine.
        mode_mask: 0o777,
        ids: None,
    };
    let mut writer = TreeWriter::in_directory(&descriptors, base, target.name.clone(), options);
    while let Some(message) = items.blocking_recv() {
        let Some(message) = message else { return writer.finish().map(drop) };
        for item in message {
            let item =
                file_item(item).map_err(|error| FileError::new(FileErrorKind::Invalid, error.message()))?;
            writer.take(item)?;
        }
    }
    Ok(()) // the stream broke off, which the caller reports; the writer removes what is incomplete
}
