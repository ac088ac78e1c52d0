//! An agent without VPSes: over a socket, it gives the answers that a test needs. For what happens between the command and an
//! agent; what agents do is tested with a real one.

#![allow(dead_code)] // each test program uses a part

mod access;
mod events;

use futures::Stream;
use insula_api::v1::access_service_server::AccessServiceServer;
use insula_api::v1::attach_console_request::Request as ConsoleRequest;
use insula_api::v1::event_service_server::EventServiceServer;
use insula_api::v1::exec_vps_request::Request as ExecRequest;
use insula_api::v1::exec_vps_response::{Exit, Response as ExecAnswer, exit};
use insula_api::v1::operation_service_server::{OperationService, OperationServiceServer};
use insula_api::v1::vps_service_server::{VpsService, VpsServiceServer};
use insula_api::v1::*;
use insula_api::{ApiError, Reason};
use std::pin::Pin;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The agent. It ends when this is dropped.
pub struct FakeAgent {
    pub directory: tempfile::TempDir,
    /// The ids of the requests to start `flaky`, as they came.
    pub request_ids: RequestIds,
    _runtime: tokio::runtime::Runtime,
}

impl FakeAgent {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let listener = tokio::net::UnixListener::bind(directory.path().join("socket")).expect("a socket");
        let fake = Fake::default();
        let request_ids = fake.request_ids.clone();
        let server = tonic::transport::Server::builder()
            .add_service(VpsServiceServer::new(fake.clone()))
            .add_service(OperationServiceServer::new(fake.clone()))
            .add_service(EventServiceServer::new(fake.clone()))
            .add_service(AccessServiceServer::new(fake))
            .serve_with_incoming(UnixListenerStream::new(listener));
        runtime.spawn(server);
        drop(guard);
        Self { directory, request_ids, _runtime: runtime }
    }

    /// The command, with its arguments.
    pub fn command(&self, typed: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_insula"));
        command
            .args(typed)
            .env_clear()
            .env("TERM", "xterm")
            .env("INSULA_CONFIG_DIR", self.directory.path().join("config"))
            .env("INSULA_SOCKET", self.directory.path().join("socket"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command to its end: exit code, standard output, standard error.
    pub fn run(&self, typed: &[&str]) -> (i32, String, String) {
        answer(self.command(typed).output().expect("the command runs"))
    }
}

/// Exit code, standard output, standard error. A death by signal has no exit code and fails the test.
pub fn answer(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

/// The request as text, for the test to check.
type RequestIds = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Default)]
struct Fake {
    request_ids: RequestIds,
}

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// A VPS whose name is the word of a reason, in lower case and with hyphens, always fails for it.
fn refuse(name: &str) -> Result<(), Status> {
    let word = name.to_uppercase().replace('-', "_");
    match word.parse::<Reason>() {
        Ok(reason) => Err(ApiError::new(reason, format!("failed to look at VPS {name}"))
            .with_causes(["the cause".to_owned()])
            .with_hint("the hint")
            .into()),
        Err(_) => Ok(()),
    }
}

fn vps(name: &str) -> Vps {
    Vps {
        name: name.to_owned(),
        state: VpsState::Ready.into(),
        hostname: "\x1b[31mevil".into(),
        etag: "r7".into(),
        labels: [("kept".to_owned(), "1".to_owned())].into(),
        expire_time: (name == "in-the-trash")
            .then_some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        ..Default::default()
    }
}

/// `steps` steps of an operation; the VPS `failing` fails at the last, `hanging` never reaches it.
fn operation(name: &str, percent: u32) -> Operation {
    use operation::State;
    let state = match (percent, name) {
        (100, "failing") => State::Failed,
        (100, _) => State::Succeeded,
        _ => State::Running,
    };
    let error =
        ApiError::new(Reason::PoolFull, "failed to start VPS failing").with_causes(["no room".into()]);
    Operation {
        id: format!("id-of-{name}"),
        kind: "start-vps".into(),
        target_name: name.into(),
        state: state.into(),
        percent,
        message: format!("step {}", percent / 50),
        error: (state == State::Failed).then(|| (&error).into()),
        ..Default::default()
    }
}

fn stream<T: Send + 'static>() -> (mpsc::Sender<Result<T, Status>>, Response<Answers<T>>) {
    let (sender, receiver) = mpsc::channel(1);
    (sender, Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// Methods that no test asks for.
macro_rules! unasked {
    ($($method:ident: $request:ident -> $response:ident;)*) => {$(
        fn $method<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Answer<$response>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented("no test asks for this")) })
        }
    )*};
}
use unasked;

type ExecAnswers = Answers<StartExecResponse>;
type ConsoleAnswers = Answers<StartConsoleResponse>;

#[tonic::async_trait]
impl VpsService for Fake {
    type ExecVpsStream = Answers<ExecVpsResponse>;
    type AttachConsoleStream = Answers<AttachConsoleResponse>;
    type StartExecStream = Answers<StartExecResponse>;
    type StartConsoleStream = Answers<StartConsoleResponse>;

    unasked! {
        start_exec: StartExecRequest -> ExecAnswers;
        send_exec_input: SendExecInputRequest -> SendExecInputResponse;
        start_console: StartConsoleRequest -> ConsoleAnswers;
        send_console_input: SendConsoleInputRequest -> SendConsoleInputResponse;
        create_vps: CreateVpsRequest -> CreateVpsResponse;
        stop_vps: StopVpsRequest -> StopVpsResponse;
        restart_vps: RestartVpsRequest -> RestartVpsResponse;
        resume_vps: ResumeVpsRequest -> ResumeVpsResponse;
        rename_vps: RenameVpsRequest -> RenameVpsResponse;
        undelete_vps: UndeleteVpsRequest -> UndeleteVpsResponse;
        change_vps_ssh_keys: ChangeVpsSshKeysRequest -> ChangeVpsSshKeysResponse;
        clone_vps: CloneVpsRequest -> CloneVpsResponse;
        rebuild_vps: RebuildVpsRequest -> RebuildVpsResponse;
        suspend_vps: SuspendVpsRequest -> SuspendVpsResponse;
        unsuspend_vps: UnsuspendVpsRequest -> UnsuspendVpsResponse;
    }

    async fn get_vps(&self, request: Request<GetVpsRequest>) -> Answer<GetVpsResponse> {
        let name = request.into_inner().vps;
        refuse(&name)?;
        Ok(Response::new(GetVpsResponse { vps: Some(vps(&name)) }))
    }

    async fn list_vpses(&self, request: Request<ListVpsesRequest>) -> Answer<ListVpsesResponse> {
        let request = request.into_inner();
        let (name, next) = match &*request.page_token {
            "" => ("web1", "second"),
            _ => ("web2", ""),
        };
        // The only filters here: `state=WORD`, or several `state!=WORD`.
        let is_wanted = match &*request.filter {
            "" | "state=ready" => true,
            filter => filter.contains("state!=") && !filter.contains("state!=ready"),
        };
        let vpses = if is_wanted { vec![vps(name)] } else { vec![] };
        Ok(Response::new(ListVpsesResponse { vpses, next_page_token: next.to_owned() }))
    }

    async fn pause_vps(&self, request: Request<PauseVpsRequest>) -> Answer<PauseVpsResponse> {
        let name = request.into_inner().vps;
        refuse(&name)?;
        let paused = Operation { kind: "pause-vps".into(), ..operation(&name, 100) };
        Ok(Response::new(PauseVpsResponse { operation: Some(paused) }))
    }

    async fn delete_vps(&self, request: Request<DeleteVpsRequest>) -> Answer<DeleteVpsResponse> {
        let name = request.into_inner().vps;
        let kind = "trash-vps".into();
        let trashed = Operation { kind, target: "in-the-trash".into(), ..operation(&name, 100) };
        Ok(Response::new(DeleteVpsResponse { operation: Some(trashed) }))
    }

    /// Answers with the request, as a note. The first time, another client has changed the VPS.
    async fn update_vps(&self, request: Request<UpdateVpsRequest>) -> Answer<UpdateVpsResponse> {
        let request = request.into_inner();
        let mut ids = self.request_ids.lock().unwrap();
        ids.push(request.request_id);
        if ids.len() == 1 {
            return Err(ApiError::new(Reason::EtagMismatch, "web1 was changed").into());
        }
        let changes = request.changes.unwrap();
        let note = format!("{:?} {} {:?}", request.update_mask.unwrap().paths, request.etag, changes.labels);
        let updated = Operation { kind: "update-vps".into(), notes: vec![note], ..operation("web1", 100) };
        Ok(Response::new(UpdateVpsResponse { operation: Some(updated) }))
    }

    async fn set_vps_password(
        &self,
        request: Request<SetVpsPasswordRequest>,
    ) -> Answer<SetVpsPasswordResponse> {
        let request = request.into_inner();
        let note = format!("{} {:?}", request.user, request.password);
        let kind = "set-vps-password".into();
        let set = Operation { kind, notes: vec![note], ..operation(&request.vps, 100) };
        Ok(Response::new(SetVpsPasswordResponse { operation: Some(set) }))
    }

    async fn start_vps(&self, request: Request<StartVpsRequest>) -> Answer<StartVpsResponse> {
        let StartVpsRequest { vps: name, request_id, .. } = request.into_inner();
        refuse(&name)?;
        if name == "flaky" {
            let mut ids = self.request_ids.lock().unwrap();
            ids.push(request_id);
            if ids.len() < 3 {
                return Err(Status::unavailable("the line is broken"));
            }
        }
        Ok(Response::new(StartVpsResponse { operation: Some(operation(&name, 0)) }))
    }

    async fn get_console_log(&self, _: Request<GetConsoleLogRequest>) -> Answer<GetConsoleLogResponse> {
        Ok(Response::new(GetConsoleLogResponse { log: b"[\x1b[32m  OK  \x1b[0m]\r\n\xff".to_vec() }))
    }

    async fn exec_vps(&self, request: Request<Streaming<ExecVpsRequest>>) -> Answer<Self::ExecVpsStream> {
        let mut requests = request.into_inner();
        let Some(ExecRequest::Start(start)) = next_exec(&mut requests).await else {
            return Err(Status::invalid_argument("start first"));
        };
        refuse(&start.vps)?;
        let (answers, response) = stream();
        tokio::spawn(async move { run_program(start, requests, answers).await });
        Ok(response)
    }

    async fn attach_console(
        &self,
        request: Request<Streaming<AttachConsoleRequest>>,
    ) -> Answer<Self::AttachConsoleStream> {
        let mut requests = request.into_inner();
        let (answers, response) = stream();
        tokio::spawn(async move {
            while let Ok(Some(message)) = requests.message().await {
                let output = match message.request {
                    Some(ConsoleRequest::Start(start)) => format!("replay {}\r\n", start.replay).into_bytes(),
                    Some(ConsoleRequest::Input(bytes)) if bytes == b"poweroff" => return,
                    Some(ConsoleRequest::Input(bytes)) => bytes,
                    Some(ConsoleRequest::Resize(size)) => {
                        format!("{}x{}", size.columns, size.rows).into_bytes()
                    }
                    None => continue,
                };
                let _ = answers.send(Ok(AttachConsoleResponse { output })).await; // the command may be gone
            }
        });
        Ok(response)
    }
}

async fn next_exec(requests: &mut Streaming<ExecVpsRequest>) -> Option<ExecRequest> {
    requests.message().await.ok().flatten().and_then(|message| message.request)
}

/// `echo` says on both streams what it was started with and exits with 7; `cat` echoes its input; `wait` waits for a
/// signal and dies of it.
async fn run_program(
    start: exec_vps_request::Start,
    mut requests: Streaming<ExecVpsRequest>,
    answers: mpsc::Sender<Result<ExecVpsResponse, Status>>,
) {
    let send = async |answer| {
        let _ = answers.send(Ok(ExecVpsResponse { response: Some(answer) })).await; // the command may be gone
    };
    let end = |result| ExecAnswer::Exit(Exit { result: Some(result) });
    send(ExecAnswer::Started(true)).await;
    if start.command[0] == "echo" {
        let what = format!("{:?} {:?} {}\n", start.command, start.environment, start.working_directory);
        send(ExecAnswer::Stdout(what.into_bytes())).await;
        send(ExecAnswer::Stderr(b"complaint\n".to_vec())).await;
        return send(end(exit::Result::Code(7))).await;
    }
    if start.command[0] == "wait" {
        send(ExecAnswer::Stdout(b"waiting\n".to_vec())).await;
    }
    while let Some(request) = next_exec(&mut requests).await {
        match request {
            ExecRequest::Stdin(bytes) => send(ExecAnswer::Stdout(bytes)).await,
            ExecRequest::StdinEof(_) if start.command[0] == "cat" => {
                return send(end(exit::Result::Code(0))).await;
            }
            ExecRequest::Signal(signal) => return send(end(exit::Result::Signal(signal))).await,
            ExecRequest::Resize(size) => {
                send(ExecAnswer::Stdout(format!("{}x{}", size.columns, size.rows).into_bytes())).await;
            }
            _ => {}
        }
    }
}

#[tonic::async_trait]
impl OperationService for Fake {
    type WatchOperationStream = Answers<WatchOperationResponse>;

    unasked! {
        list_operations: ListOperationsRequest -> ListOperationsResponse;
        wait_operation: WaitOperationRequest -> WaitOperationResponse;
    }

    /// A cancelled operation on `web1` is rolled back; any other is done before.
    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Answer<CancelOperationResponse> {
        let id = request.into_inner().id;
        let done = operation(id.trim_start_matches("id-of-"), 100);
        let cancelled = Operation {
            state: operation::State::Failed.into(),
            error: Some((&ApiError::new(Reason::Cancelled, "cancelled by root")).into()),
            ..done.clone()
        };
        let operation = Some(if id == "id-of-web1" { cancelled } else { done });
        Ok(Response::new(CancelOperationResponse { operation }))
    }

    async fn get_operation(&self, request: Request<GetOperationRequest>) -> Answer<GetOperationResponse> {
        let id = request.into_inner().id;
        Ok(Response::new(GetOperationResponse {
            operation: Some(operation(id.trim_start_matches("id-of-"), 0)),
        }))
    }

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Answer<Self::WatchOperationStream> {
        let name = request.into_inner().id.trim_start_matches("id-of-").to_owned();
        let (answers, response) = stream();
        tokio::spawn(async move {
            for percent in [0, 50, 50, 100] {
                if percent == 100 && name == "hanging" {
                    return answers.closed().await;
                }
                let operation = Some(operation(&name, percent));
                let _ = answers.send(Ok(WatchOperationResponse { operation })).await; // the command may be gone
            }
        });
        Ok(response)
    }
}
