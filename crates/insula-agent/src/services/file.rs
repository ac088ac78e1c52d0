//! `FileService`: passes data between the client's stream and the process that works with the
//! files.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use insula_api::access::{Extra, Refusal};
use insula_api::convert::{file_item, path_of, skip};
use insula_api::{ApiError, v1};
use insula_engine::{EngineError, FileAnswer, FileSession, FileSink, FileSource, VpsHandle};
use insula_files::{Item, Job, MAX_PATH, Target, Totals, WriteOptions};
use insula_types::VpsState;
use tonic::{Request, Response, Status, Streaming};

use crate::services::caller::object;
use crate::services::{Caller, Shared, agent_ends};
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// How many items, and how many bytes of files, go into one message. A message never waits to
/// become full.
const MAX_ITEMS: usize = 256;
const MAX_BYTES: usize = 256 << 10;

impl Shared {
    /// Starts to work with files, and notes it in the audit log.
    pub async fn open_files(
        &self,
        caller: &Caller,
        action: &'static str,
        vps: &str,
        job: Job,
    ) -> Result<FileSession, Status> {
        let handle = caller.find(self.engine.vps(vps), vps)?;
        let session = match files_are_open(caller, &handle) {
            Ok(()) => self.engine.open_files(&handle, job).await,
            Err(error) => Err(error),
        };
        let failure = session.as_ref().err();
        self.engine.note_session(&caller.requester, action, &handle, failure).await.map_err(status)?;
        session.map_err(status)
    }

    /// Turns what comes from the files into messages of several items.
    fn items<T: Send + 'static>(
        &self,
        session: FileSession,
        message: fn(Vec<Item>) -> T,
    ) -> Response<Items<T>> {
        let ended = self.ended();
        let FileSession { mut source, sink } = session;
        Response::new(Box::pin(async_stream::stream! {
            let _sink = sink; // nothing goes in, but its end would be another
            tokio::pin!(ended);
            loop {
                let next = tokio::select! {
                    next = next_items(&mut source) => next,
                    () = &mut ended => Err(agent_ends()),
                };
                match next {
                    Ok((items, is_done)) => {
                        if !items.is_empty() {
                            yield Ok(message(items));
                        }
                        if is_done {
                            break;
                        }
                    }
                    Err(error) => {
                        yield Err(error);
                        break;
                    }
                }
            }
        }))
    }
}

#[tonic::async_trait]
impl v1::file_service_server::FileService for Shared {
    type ListFilesStream = Items<v1::ListFilesResponse>;
    type PullFilesStream = Items<v1::PullFilesResponse>;
    type StartPushStream = Items<v1::StartPushResponse>;

    async fn list_files(&self, request: Request<v1::ListFilesRequest>) -> Answer<Self::ListFilesStream> {
        let caller = Caller::of(&request)?;
        let v1::ListFilesRequest { vps, path, path_bytes } = request.into_inner();
        let path = checked_path(&path, &path_bytes)?;
        let session = self.open_files(&caller, "list-files", &vps, Job::List { path }).await?;
        Ok(self.items(session, list_message))
    }

    async fn pull_files(&self, request: Request<v1::PullFilesRequest>) -> Answer<Self::PullFilesStream> {
        let caller = Caller::of(&request)?;
        let v1::PullFilesRequest { vps, path, path_bytes, recursive } = request.into_inner();
        let path = checked_path(&path, &path_bytes)?;
        let name = base_name(&path);
        let session =
            self.open_files(&caller, "pull-files", &vps, Job::Pull { path, name, recursive }).await?;
        let message =
            |items: Vec<Item>| v1::PullFilesResponse { items: items.into_iter().map(Into::into).collect() };
        Ok(self.items(session, message))
    }

    async fn push_files(
        &self,
        request: Request<Streaming<v1::PushFilesRequest>>,
    ) -> Answer<v1::PushFilesResponse> {
        let caller = Caller::of(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap_or_default();
        let start = first.start.ok_or_else(start_first)?;
        let (vps, job) = push_job(&caller, self, start)?;
        let files = self.open_files(&caller, "push-files", &vps, job).await?;
        let items = requests.map(|message| match message? {
            v1::PushFilesRequest { start: None, items } => Ok(items),
            v1::PushFilesRequest { start: Some(_), .. } => Err(start_first()),
        });
        let items = futures::stream::iter([Ok(first.items)]).chain(items);
        Ok(Response::new(receive(files, items, self.ended()).await?))
    }

    async fn start_push(&self, request: Request<v1::StartPushRequest>) -> Answer<Self::StartPushStream> {
        self.open_push(request).await
    }

    async fn send_push_items(
        &self,
        request: Request<v1::SendPushItemsRequest>,
    ) -> Answer<v1::SendPushItemsResponse> {
        self.give_push_items(request).await
    }
}

/// Checks that the caller may work with the files of this VPS in its present state.
fn files_are_open(caller: &Caller, handle: &VpsHandle) -> Result<(), EngineError> {
    if handle.state() != VpsState::Suspended {
        return Ok(());
    }
    let refused = |refusal: Refusal| {
        let error = EngineError::new(refusal.reason, refusal.message);
        refusal.hint.into_iter().fold(error, EngineError::hint)
    };
    caller.may_also(Extra::ReachSuspendedFiles, object(&handle.spec())).map_err(refused)
}

/// Writes what the client sends into the files of a VPS, and returns how much that was.
pub async fn receive(
    files: FileSession,
    items: impl Stream<Item = Result<Vec<v1::FileItem>, Status>> + Send + Unpin + 'static,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<v1::PushFilesResponse, Status> {
    let FileSession { sink, mut source } = files;
    let feeding = feed(sink, items);
    tokio::pin!(feeding, ended);
    let totals = tokio::select! {
        // Until all has been sent, an outcome can only be an error.
        outcome = source.outcome() => outcome.map_err(status)?,
        fed = &mut feeding => {
            fed?;
            source.outcome_soon().await.map_err(status)?
        }
        () = &mut ended => return Err(agent_ends()),
    };
    let Totals { entries, bytes } = totals;
    Ok(v1::PushFilesResponse { entries, size_bytes: bytes })
}

/// Passes on what the client sends, up to its proper end. If the client breaks off, the transfer
/// ends with an error, and the file that had been begun is removed.
async fn feed(
    mut sink: FileSink,
    mut items: impl Stream<Item = Result<Vec<v1::FileItem>, Status>> + Unpin,
) -> Result<(), Status> {
    while let Some(some) = items.next().await {
        for item in some? {
            if !sink.send(file_item(item)?).await.map_err(status)? {
                return Ok(()); // the outcome tells why
            }
        }
    }
    sink.finish().await.map_err(status)
}

/// The next items, and whether they are the last ones.
async fn next_items(source: &mut FileSource) -> Result<(Vec<Item>, bool), Status> {
    let (mut items, mut bytes) = (vec![], 0);
    let mut next = Some(source.next().await.map_err(status)?);
    while let Some(answer) = next {
        match answer {
            FileAnswer::Done(_) => return Ok((items, true)),
            FileAnswer::Item(item) => {
                bytes += if let Item::Data { bytes, .. } = &item { bytes.len() } else { 0 };
                items.push(item);
            }
        }
        let is_full = items.len() >= MAX_ITEMS || bytes >= MAX_BYTES;
        // An error that has already arrived is reported after the items that came before it.
        next = if is_full { None } else { source.ready() };
    }
    Ok((items, false))
}

fn list_message(items: Vec<Item>) -> v1::ListFilesResponse {
    let mut message = v1::ListFilesResponse::default();
    for item in items {
        match item {
            Item::Entry(entry) => message.files.push(entry.into()),
            Item::Skipped { path, why } => message.skips.push(skip(&path, &why)),
            Item::Data { .. } | Item::End { .. } => {}
        }
    }
    message
}

/// The job of a push, and the VPS that it is for.
pub fn push_job(
    caller: &Caller,
    shared: &Shared,
    start: v1::push_files_request::Start,
) -> Result<(String, Job), Status> {
    let path = checked_path(&start.path, &start.path_bytes)?;
    if start.mode.is_some_and(|mode| mode > 0o7777) {
        return Err(ApiError::invalid_field("start.mode", "permissions are 0 to 07777").into());
    }
    let spec = caller.find(shared.engine.vps(&start.vps), &start.vps)?.spec();
    for (field, id) in [("start.uid", start.uid), ("start.gid", start.gid)] {
        if id.is_some_and(|id| id >= spec.placement.ids.length) {
            let rule = format!("ids of this VPS are 0 to {}", spec.placement.ids.length - 1);
            return Err(ApiError::invalid_field(field, rule).into());
        }
    }
    let options = WriteOptions {
        keeps_owner: true,
        uid: start.uid,
        gid: start.gid,
        mode: start.mode,
        mode_mask: 0o7777,
        ids: Some(spec.placement.ids.length),
    };
    let target =
        Target { path, is_directory: start.is_directory, creates_directories: start.create_directories };
    Ok((start.vps, Job::Push { target, options }))
}

fn checked_path(text: &str, bytes: &[u8]) -> Result<Vec<u8>, Status> {
    let path = path_of(text, bytes);
    match path {
        _ if path.is_empty() => Err(ApiError::invalid_field("path", "there is no path").into()),
        _ if path.len() > MAX_PATH => {
            Err(ApiError::invalid_field("path", format!("a path has at most {MAX_PATH} bytes")).into())
        }
        _ if path.contains(&0) => Err(ApiError::invalid_field("path", "a path can't contain NUL").into()),
        path => Ok(path),
    }
}

/// The last component of a path. `.` for the root, and for a path that has none.
fn base_name(path: &[u8]) -> Vec<u8> {
    let name = path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty());
    name.filter(|name| !matches!(*name, b"." | b"..")).unwrap_or(b".").to_vec()
}

/// The error for a client whose first message is not a start.
pub fn start_first() -> Status {
    ApiError::invalid_field("start", "the first message, and only the first, has `start`").into()
}
