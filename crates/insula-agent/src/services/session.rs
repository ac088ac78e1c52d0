//! Exec and console sessions: a stream from the client, a stream to it, and the guest in between.
//!
//! The client's input comes in its stream or in separate calls ([`inputs`](super::inputs)).
//! Everything else is the same.
//!
//! Input has a task of its own, so that a program that does not read can't hold up its output to
//! the client. The task ends with the stream to the client, and that stream ends when the client is
//! gone.

use futures::{Stream, StreamExt};
use insula_api::{ApiError, v1};
use insula_engine::{ConsoleSession, Engine, ExecInput, ExecOutput, ExecRequest};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::services::{Caller, agent_ends};
use crate::status::status;

pub type ExecStep = v1::exec_vps_request::Request;
pub type ConsoleStep = v1::attach_console_request::Request;
type ExecAnswer = v1::exec_vps_response::Response;

/// Runs a program and connects it with the client. `steps` are the client's input; `None` is a step
/// that only a newer client knows.
pub async fn exec(
    engine: &Engine,
    caller: &Caller,
    start: v1::exec_vps_request::Start,
    steps: impl Stream<Item = Result<Option<ExecStep>, Status>> + Send + Unpin + 'static,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Stream<Item = Result<v1::ExecVpsResponse, Status>> + Send + 'static, Status> {
    let (vps, request) = exec_request(start)?;
    let handle = caller.find(engine.vps(&vps), &vps)?;
    let session = engine.exec(&handle, request).await;
    engine
        .note_session(&caller.requester, "exec-vps", &handle, session.as_ref().err())
        .await
        .map_err(status)?;
    let session = session.map_err(status)?;
    let mut output = session.output;
    let mut feeder = Feeder::spawn(feed_program(session.input, steps));
    Ok(async_stream::stream! {
        tokio::pin!(ended);
        yield Ok(answer(ExecAnswer::Started(true)));
        loop {
            let next = tokio::select! {
                next = output.next() => next.map_err(status),
                error = feeder.failure() => Err(error),
                () = &mut ended => Err(agent_ends()),
            };
            let last = !matches!(next, Ok(ExecOutput::Stdout(_) | ExecOutput::Stderr(_)));
            yield next.map(exec_answer);
            if last {
                break;
            }
        }
    })
}

fn exec_request(start: v1::exec_vps_request::Start) -> Result<(String, ExecRequest), Status> {
    if start.command.first().is_none_or(String::is_empty) {
        return Err(ApiError::invalid_field("start.command", "there is no program to run").into());
    }
    if start.command.iter().chain(&start.environment).any(|text| text.contains('\0')) {
        return Err(ApiError::invalid_field("start", "arguments and environment can't contain NUL").into());
    }
    if let Some(wrong) = start.environment.iter().find(|entry| !entry.contains('=')) {
        return Err(
            ApiError::invalid_field("start.environment", format!("{wrong:?} is not KEY=VALUE")).into()
        );
    }
    let request = ExecRequest {
        command: start.command,
        environment: start.environment,
        directory: Some(start.working_directory).filter(|directory| !directory.is_empty()),
        terminal: start.terminal.as_ref().map(size).transpose()?,
    };
    Ok((start.vps, request))
}

/// Passes on what the client sends, until it ends.
async fn feed_program(
    mut input: ExecInput,
    mut steps: impl Stream<Item = Result<Option<ExecStep>, Status>> + Unpin,
) -> Result<(), Status> {
    while let Some(step) = steps.next().await {
        let Ok(step) = step else { return Ok(()) }; // gone: so will be the stream to it
        match step {
            Some(ExecStep::Stdin(bytes)) => input.write(&bytes).await.map_err(status)?,
            Some(ExecStep::StdinEof(_)) => input.end(),
            Some(ExecStep::Resize(terminal)) => input.resize(size(&terminal)?).map_err(status)?,
            Some(ExecStep::Signal(signal)) => input.signal(signal).map_err(status)?,
            Some(ExecStep::Start(_)) => return Err(start_first()),
            None => {} // of a newer client
        }
    }
    input.end();
    Ok(())
}

/// Connects the client with a console. `steps` are the client's input.
pub async fn console(
    engine: &Engine,
    caller: &Caller,
    start: v1::attach_console_request::Start,
    steps: impl Stream<Item = Result<Option<ConsoleStep>, Status>> + Send + Unpin + 'static,
    ended: impl Future<Output = ()> + Send + 'static,
) -> Result<impl Stream<Item = Result<v1::AttachConsoleResponse, Status>> + Send + 'static, Status> {
    let handle = caller.find(engine.vps(&start.vps), &start.vps)?;
    let session = engine.attach_console(&handle, start.replay).await;
    engine
        .note_session(&caller.requester, "attach-console", &handle, session.as_ref().err())
        .await
        .map_err(status)?;
    let mut session = session.map_err(status)?;
    if let Some(terminal) = &start.terminal {
        session.resize(size(terminal)?).map_err(status)?;
    }
    let mut feeder = Feeder::spawn(feed_console(session.clone(), steps));
    Ok(async_stream::stream! {
        tokio::pin!(ended);
        loop {
            let next = tokio::select! {
                next = session.next() => Ok(next),
                error = feeder.failure() => Err(error),
                () = &mut ended => Err(agent_ends()),
            };
            match next {
                Ok(Some(output)) => yield Ok(v1::AttachConsoleResponse { output }),
                Ok(None) => break, // the VPS has ended
                Err(error) => {
                    yield Err(error);
                    break;
                }
            }
        }
    })
}

async fn feed_console(
    session: ConsoleSession,
    mut steps: impl Stream<Item = Result<Option<ConsoleStep>, Status>> + Unpin,
) -> Result<(), Status> {
    while let Some(step) = steps.next().await {
        let Ok(step) = step else { return Ok(()) }; // gone: so will be the stream to it
        match step {
            Some(ConsoleStep::Input(bytes)) => session.write(&bytes).await.map_err(status)?,
            Some(ConsoleStep::Resize(terminal)) => session.resize(size(&terminal)?).map_err(status)?,
            Some(ConsoleStep::Start(_)) => return Err(start_first()),
            None => {} // of a newer client
        }
    }
    Ok(())
}

/// The task that passes on input. It ends when this is dropped.
struct Feeder {
    task: Option<JoinHandle<Result<(), Status>>>,
}

impl Feeder {
    fn spawn(work: impl Future<Output = Result<(), Status>> + Send + 'static) -> Self {
        Self { task: Some(tokio::spawn(work)) }
    }

    /// Completes with the error when something is wrong with the input. Never completes if the
    /// input ends well. May be cancelled.
    async fn failure(&mut self) -> Status {
        if let Some(task) = &mut self.task {
            let result = task.await;
            self.task = None;
            if let Ok(Err(error)) = result {
                return error;
            }
        }
        std::future::pending().await
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn exec_answer(output: ExecOutput) -> v1::ExecVpsResponse {
    use v1::exec_vps_response::{Exit, exit};
    let exit = |result| ExecAnswer::Exit(Exit { result: Some(result) });
    answer(match output {
        ExecOutput::Stdout(bytes) => ExecAnswer::Stdout(bytes),
        ExecOutput::Stderr(bytes) => ExecAnswer::Stderr(bytes),
        ExecOutput::Code(code) => exit(exit::Result::Code(code)),
        ExecOutput::Signal(signal) => exit(exit::Result::Signal(signal)),
    })
}

fn answer(response: ExecAnswer) -> v1::ExecVpsResponse {
    v1::ExecVpsResponse { response: Some(response) }
}

/// The rows and columns of a terminal, checked.
fn size(size: &v1::TerminalSize) -> Result<(u16, u16), Status> {
    match (u16::try_from(size.rows), u16::try_from(size.columns)) {
        (Ok(rows), Ok(columns)) => Ok((rows, columns)),
        _ => Err(ApiError::invalid_field("terminal", "a terminal has at most 65535 rows and columns").into()),
    }
}

/// The error for a client whose first message is not a start.
pub fn start_first() -> Status {
    ApiError::invalid_field("start", "the first message, and only the first, is `start`").into()
}
