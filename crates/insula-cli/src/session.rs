//! A program inside a VPS, with our terminal or our standard streams.
//!
//! ```text
//! stdin ─────────> task ──┐
//! signals, window ─> loop ─┴─> requests ──> agent ──> program
//! stdout, stderr <── loop <── responses <──┘
//! ```
//!
//! The loop never waits for room in the requests: a program that doesn't read must not keep us from
//! showing what it writes.

use insula_api::v1::exec_vps_request::{Request, Start};
use insula_api::v1::exec_vps_response::{Exit, Response, exit};
use insula_api::v1::{ExecVpsRequest, ExecVpsResponse, TerminalSize};
use std::io;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::output_failure;
use crate::terminal::{RawMode, Signals, read_input, terminal_size};

/// How many requests wait for the agent to take them.
const QUEUE: usize = 8;

/// What to run.
pub struct Program {
    /// A VPS, by name or id.
    pub vps: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// More environment, `KEY=VALUE`.
    pub environment: Vec<String>,
    /// The working directory; if it is empty, the agent chooses.
    pub working_directory: String,
    /// Whether it gets a terminal.
    pub has_terminal: bool,
}

impl Program {
    /// Runs the program to its end. Its exit code becomes ours.
    pub async fn run(self, context: &Context) -> Outcome {
        let signals = Signals::catch().map_err(|error| Failure::io("failed to catch signals", &error))?;
        let has_terminal = self.has_terminal;
        let (requests, receiver) = mpsc::channel(QUEUE);
        // There is room for one.
        let _ = requests.try_send(message(Request::Start(self.into_start())));
        let stream = ReceiverStream::new(receiver);
        let responses = context.client().await?.vps().exec_vps(stream).await?.into_inner();
        let mut session = Session { requests, has_terminal, raw: None };
        session.run(responses, signals).await
    }

    fn into_start(mut self) -> Start {
        const USUAL_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };
        let terminal = self.has_terminal.then(|| terminal_size().unwrap_or(USUAL_SIZE));
        let says_term = self.environment.iter().any(|variable| variable.starts_with("TERM="));
        if let (true, false, Ok(term)) = (self.has_terminal, says_term, std::env::var("TERM")) {
            self.environment.push(format!("TERM={term}"));
        }
        Start {
            vps: self.vps,
            command: self.command,
            environment: self.environment,
            working_directory: self.working_directory,
            terminal,
        }
    }
}

fn message(request: Request) -> ExecVpsRequest {
    ExecVpsRequest { request: Some(request) }
}

struct Session {
    requests: mpsc::Sender<ExecVpsRequest>,
    has_terminal: bool,
    raw: Option<RawMode>,
}

impl Session {
    async fn run(&mut self, mut responses: Streaming<ExecVpsResponse>, mut signals: Signals) -> Outcome {
        loop {
            tokio::select! {
                response = responses.message() => match response?.and_then(|message| message.response) {
                    Some(Response::Exit(exit)) => return exit_outcome(exit),
                    Some(response) => self.take(response).await?,
                    None => return Err(Status::unavailable("the program's exit code was never sent").into()),
                },
                signal = signals.next() => self.signalled(signal)?,
            }
        }
    }

    async fn take(&mut self, response: Response) -> Outcome {
        match response {
            Response::Started(_) => self.begin_input(),
            Response::Stdout(bytes) => write(tokio::io::stdout(), &bytes).await,
            Response::Stderr(bytes) => write(tokio::io::stderr(), &bytes).await,
            Response::Exit(_) => Ok(()), // the caller has handled it
        }
    }

    fn begin_input(&mut self) -> Outcome {
        if self.has_terminal {
            let raw = RawMode::enable();
            self.raw =
                raw.map_err(|error| Failure::io("failed to switch the terminal to raw mode", &error))?;
        }
        tokio::spawn(forward_input(self.requests.clone()));
        Ok(())
    }

    /// With a terminal, the guest's terminal turns keys into signals. A signal from elsewhere is for us.
    fn signalled(&self, kind: SignalKind) -> Outcome {
        let request = match kind {
            _ if kind == SignalKind::window_change() => terminal_size().map(Request::Resize),
            _ if self.has_terminal => return Err(Failure::Exit(signal_exit_code(kind.as_raw_value()))),
            _ => Some(Request::Signal(kind.as_raw_value())),
        };
        let may_send = !matches!(request, Some(Request::Resize(_))) || self.has_terminal;
        if let Some(request) = request.filter(|_| may_send) {
            let requests = self.requests.clone();
            tokio::spawn(async move { requests.send(message(request)).await });
        }
        Ok(())
    }
}

async fn forward_input(requests: mpsc::Sender<ExecVpsRequest>) {
    let mut stdin = tokio::io::stdin();
    loop {
        let bytes = read_input(&mut stdin).await;
        let is_end = bytes.is_empty();
        let request = if is_end { Request::StdinEof(true) } else { Request::Stdin(bytes) };
        if requests.send(message(request)).await.is_err() || is_end {
            return;
        }
    }
}

/// Writes to one of our streams at once.
pub async fn write(mut stream: impl AsyncWrite + Unpin, bytes: &[u8]) -> Outcome {
    let written: io::Result<()> = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    }
    .await;
    written.map_err(|error| output_failure(&error))
}

fn exit_outcome(exit: Exit) -> Outcome {
    let code = match exit.result {
        Some(exit::Result::Code(code)) => u8::try_from(code & 0xff).unwrap_or(u8::MAX),
        Some(exit::Result::Signal(signal)) => signal_exit_code(signal),
        None => return Err(Status::unavailable("the program's exit code was never sent").into()),
    };
    if code == 0 { Ok(()) } else { Err(Failure::Exit(code)) }
}

/// The exit code that a shell gives a program that a signal killed.
pub fn signal_exit_code(signal: i32) -> u8 {
    u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_end_is_ours() {
        let code = |result| exit_outcome(Exit { result }).map_err(|failure| failure.exit_code());
        assert_eq!(code(Some(exit::Result::Code(0))), Ok(()));
        assert_eq!(code(Some(exit::Result::Code(7))), Err(7));
        assert_eq!(code(Some(exit::Result::Code(255))), Err(255));
        assert_eq!(code(Some(exit::Result::Signal(9))), Err(137));
        assert_eq!(code(None), Err(6));
    }
}
