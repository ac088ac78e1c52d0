//! Sessions (exec, console, push) for clients that can't send a stream, such as browsers.
//!
//! They work like the methods with two streams. One call opens the session, others bring its input
//! ([`inputs`](super::inputs)). This file only translates between their messages and those of the
//! streaming methods.

use std::pin::Pin;

use futures::{Stream, StreamExt};
use insula_api::{ApiError, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::services::file::{push_job, receive};
use crate::services::inputs::{Content, Kind, Place};
use crate::services::session::{self, ConsoleStep, ExecStep};
use crate::services::{Caller, Shared, file};

type Answer<T> = Result<Response<T>, Status>;
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type ExecInput = v1::send_exec_input_request::Input;
type ConsoleInput = v1::send_console_input_request::Input;

impl Shared {
    /// Runs a program. The stream begins with the session's id, then come the program's output and
    /// exit.
    pub async fn open_exec(
        &self,
        request: Request<v1::StartExecRequest>,
    ) -> Answer<Answers<v1::StartExecResponse>> {
        let caller = Caller::of(&request)?;
        let start = request.into_inner().start.ok_or_else(session::start_first)?;
        let (session, steps) = self.execs.open(&caller)?;
        let steps = ReceiverStream::new(steps).map(|step| Ok(Some(step)));
        let answers = session::exec(&self.engine, &caller, start, steps, self.ended()).await?;
        Ok(Response::new(Box::pin(session.stream(exec_session, answers, exec_output))))
    }

    /// Passes input to a program.
    pub async fn give_exec_input(
        &self,
        request: Request<v1::SendExecInputRequest>,
    ) -> Answer<v1::SendExecInputResponse> {
        let caller = Caller::of(&request)?;
        let content = Content::of(request.get_ref());
        let v1::SendExecInputRequest { session_id, sequence, input } = request.into_inner();
        let (step, kind) = exec_step(input)?;
        let place = Place { session: &session_id, number: sequence, content, kind };
        self.execs.send(&caller, place, step).await?;
        Ok(Response::new(v1::SendExecInputResponse {}))
    }

    /// Connects to a console. The stream begins with the session's id, then comes the console's
    /// output.
    pub async fn open_console(
        &self,
        request: Request<v1::StartConsoleRequest>,
    ) -> Answer<Answers<v1::StartConsoleResponse>> {
        let caller = Caller::of(&request)?;
        let start = request.into_inner().start.ok_or_else(session::start_first)?;
        let (session, steps) = self.consoles.open(&caller)?;
        let steps = ReceiverStream::new(steps).map(|step| Ok(Some(step)));
        let answers = session::console(&self.engine, &caller, start, steps, self.ended()).await?;
        Ok(Response::new(Box::pin(session.stream(console_session, answers, console_output))))
    }

    /// Passes input to a console.
    pub async fn give_console_input(
        &self,
        request: Request<v1::SendConsoleInputRequest>,
    ) -> Answer<v1::SendConsoleInputResponse> {
        let caller = Caller::of(&request)?;
        let content = Content::of(request.get_ref());
        let v1::SendConsoleInputRequest { session_id, sequence, input } = request.into_inner();
        let (step, kind) = console_step(input)?;
        let place = Place { session: &session_id, number: sequence, content, kind };
        self.consoles.send(&caller, place, step).await?;
        Ok(Response::new(v1::SendConsoleInputResponse {}))
    }

    /// Writes files. The stream begins with the session's id and ends with how much was written.
    pub async fn open_push(
        &self,
        request: Request<v1::StartPushRequest>,
    ) -> Answer<Answers<v1::StartPushResponse>> {
        let caller = Caller::of(&request)?;
        let start = request.into_inner().start.ok_or_else(file::start_first)?;
        let (session, parts) = self.pushes.open(&caller)?;
        let (vps, job) = push_job(&caller, self, start)?;
        let files = self.open_files(&caller, "push-files", &vps, job).await?;
        let answer = futures::stream::once(receive(files, pushed(parts), self.ended()));
        Ok(Response::new(Box::pin(session.stream(push_session, answer, push_result))))
    }

    /// Passes files to a push.
    pub async fn give_push_items(
        &self,
        request: Request<v1::SendPushItemsRequest>,
    ) -> Answer<v1::SendPushItemsResponse> {
        let caller = Caller::of(&request)?;
        let message = request.into_inner();
        let kind = if message.last { Kind::End } else { Kind::Data };
        let (session, content) = (message.session_id.clone(), Content::of(&message));
        let place = Place { session: &session, number: message.sequence, content, kind };
        self.pushes.send(&caller, place, message).await?;
        Ok(Response::new(v1::SendPushItemsResponse {}))
    }
}

/// Turns input that comes in separate calls into one stream.
fn pushed(mut parts: mpsc::Receiver<v1::SendPushItemsRequest>) -> Answers<Vec<v1::FileItem>> {
    Box::pin(async_stream::stream! {
        while let Some(v1::SendPushItemsRequest { items, last, .. }) = parts.recv().await {
            yield Ok(items);
            if last {
                return;
            }
        }
        yield Err(Status::cancelled("the session has ended"));
    })
}

/// The first answer of `StartExec`.
fn exec_session(id: String) -> v1::StartExecResponse {
    v1::StartExecResponse { response: Some(v1::start_exec_response::Response::SessionId(id)) }
}

/// One of the later answers of `StartExec`.
fn exec_output(output: v1::ExecVpsResponse) -> v1::StartExecResponse {
    v1::StartExecResponse { response: Some(v1::start_exec_response::Response::Output(output)) }
}

/// Turns input of `SendExecInput` into a step of `ExecVps`.
fn exec_step(input: Option<ExecInput>) -> Result<(ExecStep, Kind), ApiError> {
    Ok(match input.ok_or_else(no_input)? {
        ExecInput::Stdin(bytes) => (ExecStep::Stdin(bytes), Kind::Data),
        ExecInput::StdinEof(end) => (ExecStep::StdinEof(end), Kind::End),
        ExecInput::Resize(size) => (ExecStep::Resize(size), Kind::Control),
        ExecInput::Signal(signal) => (ExecStep::Signal(signal), Kind::Control),
    })
}

/// The first answer of `StartConsole`.
fn console_session(id: String) -> v1::StartConsoleResponse {
    v1::StartConsoleResponse { response: Some(v1::start_console_response::Response::SessionId(id)) }
}

/// One of the later answers of `StartConsole`.
fn console_output(output: v1::AttachConsoleResponse) -> v1::StartConsoleResponse {
    v1::StartConsoleResponse { response: Some(v1::start_console_response::Response::Output(output.output)) }
}

/// Turns input of `SendConsoleInput` into a step of `AttachConsole`.
fn console_step(input: Option<ConsoleInput>) -> Result<(ConsoleStep, Kind), ApiError> {
    Ok(match input.ok_or_else(no_input)? {
        ConsoleInput::Data(bytes) => (ConsoleStep::Input(bytes), Kind::Data),
        ConsoleInput::Resize(size) => (ConsoleStep::Resize(size), Kind::Control),
    })
}

/// The first answer of `StartPush`.
fn push_session(id: String) -> v1::StartPushResponse {
    v1::StartPushResponse { response: Some(v1::start_push_response::Response::SessionId(id)) }
}

/// The last answer of `StartPush`.
fn push_result(result: v1::PushFilesResponse) -> v1::StartPushResponse {
    v1::StartPushResponse { response: Some(v1::start_push_response::Response::Result(result)) }
}

fn no_input() -> ApiError {
    ApiError::invalid_field("input", "there is no input")
}
