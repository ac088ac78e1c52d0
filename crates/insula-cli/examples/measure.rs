//! Does one thing after the other through the API, and says how long each took. `scripts/bench` measures with it.
//!
//! Lines come in, `create NAME IMAGE` or `stop NAME`; for each a line of JSON goes out, `{"ms": 1.5}` or
//! `{"error": "…"}`. One connection serves all of them, so that only the agent's work is measured.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use insula_api::v1::{
    CreateVpsRequest, DeleteVpsRequest, ExecVpsRequest, GetVpsRequest, ListVpsesRequest, Operation,
    StartVpsRequest, StopVpsRequest, VpsState, WaitOperationRequest, exec_vps_request, exec_vps_response,
    operation::State,
};
use insula_api::{Client, Endpoint};
use serde_json::json;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build().map(|it| it.block_on(serve())) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&*error),
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

async fn serve() -> Result<(), Error> {
    let socket = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: measure SOCKET")?;
    let client = Client::connect(Endpoint::Unix(socket)).await?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match measure(&client, &words).await {
            Ok(ms) => json!({ "ms": ms }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        writeln!(std::io::stdout(), "{answer}")?;
    }
    Ok(())
}

/// Milliseconds.
async fn measure(client: &Client, words: &[&str]) -> Result<f64, Error> {
    if let ["start" | "boot", name] = words {
        check_stopped(client, name).await?;
    }
    let began = Instant::now();
    perform(client, words).await?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Refuses to start a VPS that is already running: that is quick, and measures nothing.
async fn check_stopped(client: &Client, name: &str) -> Result<(), Error> {
    let request = GetVpsRequest { vps: name.to_owned() };
    match client.vps().get_vps(request).await?.into_inner().vps.map(|vps| vps.state()) {
        Some(VpsState::Stopped) => Ok(()),
        state => Err(format!("it is not stopped, but {state:?}").into()),
    }
}

async fn perform(client: &Client, words: &[&str]) -> Result<(), Error> {
    let mut vpses = client.vps();
    let operation = match words {
        ["list"] => {
            vpses.list_vpses(ListVpsesRequest::default()).await?;
            return Ok(());
        }
        ["exec", name, command @ ..] => return exec(client, name, command).await,
        ["create", name, image] => {
            let (name, image) = (name.to_string(), image.to_string());
            let request = CreateVpsRequest { name, image, ..Default::default() };
            vpses.create_vps(request).await?.into_inner().operation
        }
        ["start", name] => start(client, name, false).await?,
        ["boot", name] => start(client, name, true).await?,
        ["stop", name] => stop(client, name, false).await?,
        ["kill", name] => stop(client, name, true).await?,
        ["delete", name] => {
            let request = DeleteVpsRequest { vps: name.to_string(), now: true, ..Default::default() };
            vpses.delete_vps(request).await?.into_inner().operation
        }
        _ => return Err(format!("unknown: {}", words.join(" ")).into()),
    };
    wait(client, operation).await
}

async fn start(client: &Client, name: &str, wait_ready: bool) -> Result<Option<Operation>, Error> {
    let request = StartVpsRequest { vps: name.to_owned(), wait_ready, ..Default::default() };
    Ok(client.vps().start_vps(request).await?.into_inner().operation)
}

async fn stop(client: &Client, name: &str, force: bool) -> Result<Option<Operation>, Error> {
    let request = StopVpsRequest { vps: name.to_owned(), force, ..Default::default() };
    Ok(client.vps().stop_vps(request).await?.into_inner().operation)
}

/// Waits until the operation has succeeded.
async fn wait(client: &Client, operation: Option<Operation>) -> Result<(), Error> {
    let id = operation.ok_or("an answer without an operation")?.id;
    let request = WaitOperationRequest { id, timeout: None };
    let operation = client.operations().wait_operation(request).await?.into_inner().operation;
    match operation {
        Some(done) if done.state() == State::Succeeded => Ok(()),
        Some(failed) => Err(failed.error.map(|error| error.message).unwrap_or_default().into()),
        None => Err("an answer without an operation".into()),
    }
}

/// Runs a program inside a VPS to its end, which must be a success.
async fn exec(client: &Client, name: &str, command: &[&str]) -> Result<(), Error> {
    use exec_vps_request::{Request, Start};
    let command = command.iter().map(ToString::to_string).collect();
    let start = Start { vps: name.to_owned(), command, ..Default::default() };
    let requests = [Request::Start(start), Request::StdinEof(true)];
    let requests = requests.map(|request| ExecVpsRequest { request: Some(request) });
    let mut responses = client.vps().exec_vps(tokio_stream::iter(requests)).await?.into_inner();
    while let Some(message) = responses.message().await? {
        if let Some(exec_vps_response::Response::Exit(exit)) = message.response {
            return match exit.result {
                Some(exec_vps_response::exit::Result::Code(0)) => Ok(()),
                other => Err(format!("the program ended with {other:?}").into()),
            };
        }
    }
    Err("the program's end was not told".into())
}
