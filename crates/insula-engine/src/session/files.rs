//! Files of a VPS. A process works with them: inside of the guest where it runs, else with the guest's root as its own. A
//! session owns the two streams to this process, and never resolves a path of the guest itself.
//!
//! Nothing of the guest is waited for without a bound: a stream that takes or gives nothing for [`STUCK`] is given up.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use insula_files::wire::{Decoder, Frame};
use insula_files::{FileError, FileErrorKind, Item, Job, Totals};
use insula_runtime::{Request as MonitorRequest, VpsDirectory};
use insula_storage::Volume;
use insula_types::Reason;
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use crate::model::policy::{Request, admit};
use crate::session::exec::{pipe, read, registered, wait_started};
use crate::vps::link::MonitorLink;
use crate::{Engine, EngineError, VpsHandle};

/// How long files may give or take nothing: a guest can freeze its processes, or mount a file system that never answers.
const STUCK: Duration = Duration::from_secs(60);

/// The number of the one worker of a connection.
const WORKER: u32 = 1;

/// A transfer that runs. It is given up when both halves are dropped.
#[derive(Debug)]
pub struct FileSession {
    /// What goes in.
    pub sink: FileSink,
    /// What comes out.
    pub source: FileSource,
}

/// The way to the files.
#[derive(Debug)]
pub struct FileSink {
    stream: Arc<AsyncFd<OwnedFd>>,
}

/// The way from the files.
#[derive(Debug)]
pub struct FileSource {
    stream: Arc<AsyncFd<OwnedFd>>,
    decoder: Decoder,
    /// What is to be told next.
    failure: Option<EngineError>,
    /// Where the VPS runs: the monitor ends the worker when this is closed.
    _link: Option<Arc<MonitorLink>>,
}

/// What comes from the files.
#[derive(Debug, PartialEq, Eq)]
pub enum FileAnswer {
    /// A piece of what is read.
    Item(Item),
    /// All is done. The last.
    Done(Totals),
}

impl Engine {
    /// Begins to read or write files of a VPS.
    pub async fn open_files(&self, handle: &VpsHandle, job: Job) -> Result<FileSession, EngineError> {
        let state = handle.state();
        admit(Request::Files, handle.name().as_str(), state)?;
        let ((input, sink), (source, output)) = (pipe()?, pipe()?);
        let (sink, source) = (registered(sink)?, registered(source)?);
        let link = match state.is_alive() {
            true => Some(self.work_inside(handle, job, [input, output]).await?),
            false => {
                self.work_outside(handle, job, [input, output]).await?;
                None
            }
        };
        let source = FileSource { stream: source, decoder: Decoder::default(), failure: None, _link: link };
        Ok(FileSession { sink: FileSink { stream: sink }, source })
    }

    async fn work_inside(
        &self,
        handle: &VpsHandle,
        job: Job,
        [input, output]: [OwnedFd; 2],
    ) -> Result<Arc<MonitorLink>, EngineError> {
        let link = MonitorLink::connect(&VpsDirectory::new(&self.settings.run_dir, &handle.id))?;
        link.send(&MonitorRequest::Files { exec: WORKER, job }, &[input.as_fd(), output.as_fd()])?;
        drop((input, output));
        wait_started(&link, |reason, chain| {
            EngineError::new(reason, format!("failed to work with files in the VPS: {}", chain.join(": ")))
        })
        .await
        .map_err(|error| match error.chain().contains("is not understood") {
            true => {
                EngineError::new(Reason::FacilityMissing, "the monitor of the VPS is too old for file access")
                    .hint("restart the VPS, or stop it, and try again")
                    .caused_by(error)
            }
            false => error,
        })?;
        Ok(Arc::new(link))
    }

    /// Beside no operation: one may be about to put another root in the place of this.
    async fn work_outside(
        &self,
        handle: &VpsHandle,
        job: Job,
        streams: [OwnedFd; 2],
    ) -> Result<(), EngineError> {
        if let Some(work) = handle.work() {
            let message = format!("operation {} works on VPS {:?}", work.operation, handle.name().as_str());
            return Err(EngineError::new(Reason::VpsBusy, message)
                .hint("wait until it is done: insula operation list"));
        }
        let (spares, id) = (self.spares.clone(), handle.id);
        let pool = self.pools.of(&handle.spec())?.driver().clone();
        crate::blocking("work with files", move || {
            let root = pool.open(&Volume::Root(id))?;
            spares.run_file_worker((root, pool.owner(id)?), job, streams)
        })
        .await
    }
}

impl FileSink {
    /// Passes on a piece of what is to be written. `false` if nobody accepts it any longer. The other half knows why.
    pub async fn send(&mut self, item: Item) -> Result<bool, EngineError> {
        self.write(&Frame::Item(item)).await
    }

    /// Everything has been sent.
    pub async fn finish(mut self) -> Result<(), EngineError> {
        self.write(&Frame::Finish).await.map(drop)
    }

    async fn write(&mut self, frame: &Frame) -> Result<bool, EngineError> {
        let bytes = frame.encode();
        let mut rest = &*bytes;
        while !rest.is_empty() {
            let mut ready = soon(self.stream.writable()).await?.map_err(io_failed)?;
            match rustix::io::write(self.stream.get_ref(), rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(Errno::PIPE) => return Ok(false),
                Err(errno) => return Err(io_failed(errno)),
            }
        }
        Ok(true)
    }
}

impl FileSource {
    /// What comes next, soon: something is to come. May not be cancelled.
    pub async fn next(&mut self) -> Result<FileAnswer, EngineError> {
        loop {
            if let Some(answer) = self.decode()? {
                return Ok(answer);
            }
            let bytes = soon(read(Some(&self.stream))).await??;
            self.decoder.push(&bytes.ok_or_else(ended)?);
        }
    }

    /// What has come already; `None`, too, before an error, which [`Self::next`] tells.
    pub fn ready(&mut self) -> Option<FileAnswer> {
        match self.decoder.next_frame() {
            Ok(Some(Frame::Item(item))) => Some(FileAnswer::Item(item)),
            Ok(Some(Frame::Done(totals))) => Some(FileAnswer::Done(totals)),
            Ok(Some(Frame::Failed(error))) => {
                self.failure = Some(file_error(error));
                None
            }
            Ok(Some(Frame::Finish) | None) | Err(_) => None,
        }
    }

    /// How writing ends, whenever that is. May be cancelled without losing anything.
    pub async fn outcome(&mut self) -> Result<Totals, EngineError> {
        loop {
            if let Some(FileAnswer::Done(totals)) = self.decode()? {
                return Ok(totals);
            }
            let bytes = read(Some(&self.stream)).await?;
            self.decoder.push(&bytes.ok_or_else(ended)?);
        }
    }

    /// How writing ends when everything was sent.
    pub async fn outcome_soon(&mut self) -> Result<Totals, EngineError> {
        soon(self.outcome()).await?
    }

    fn decode(&mut self) -> Result<Option<FileAnswer>, EngineError> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let broken =
            |error| EngineError::internal("failed to read what comes from the files of the VPS", error);
        Ok(match self.decoder.next_frame().map_err(broken)? {
            None => None,
            Some(Frame::Item(item)) => Some(FileAnswer::Item(item)),
            Some(Frame::Done(totals)) => Some(FileAnswer::Done(totals)),
            Some(Frame::Failed(error)) => return Err(file_error(error)),
            Some(Frame::Finish) => return Err(ended()),
        })
    }
}

async fn soon<T>(work: impl Future<Output = T>) -> Result<T, EngineError> {
    tokio::time::timeout(STUCK, work).await.map_err(|_| {
        let message = format!("the file system of the VPS did not answer for {} s", STUCK.as_secs());
        EngineError::new(Reason::FileFailed, message)
            .hint("is the VPS frozen from inside, or does a file system that it mounted not answer?")
    })
}

fn ended() -> EngineError {
    EngineError::new(Reason::FileFailed, "the process that works with the files of the VPS has ended")
        .hint("was the VPS stopped, or is it short of memory?")
}

fn file_error(error: FileError) -> EngineError {
    let (reason, hint) = match error.kind {
        FileErrorKind::NotFound => (Reason::FileNotFound, None),
        FileErrorKind::WrongKind => (Reason::FileWrongKind, None),
        FileErrorKind::NoRoom => {
            (Reason::VpsDiskFull, Some("free some space in the VPS, or give it a larger disk"))
        }
        FileErrorKind::Invalid => (Reason::InvalidArgument, None),
        FileErrorKind::Gone | FileErrorKind::Other => (Reason::FileFailed, None),
    };
    let error = EngineError::new(reason, error.message);
    hint.into_iter().fold(error, EngineError::hint)
}

fn io_failed(error: impl Into<std::io::Error>) -> EngineError {
    EngineError::internal("failed to pass on bytes of files", error.into())
}
