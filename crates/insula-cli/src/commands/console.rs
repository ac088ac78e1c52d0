//! `insula console`

use insula_api::v1::attach_console_request::{Request, Start};
use insula_api::v1::{AttachConsoleRequest, AttachConsoleResponse};
use tokio::signal::unix::SignalKind;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::context::Context;
use crate::detach::DetachKey;
use crate::failure::{Failure, Outcome};
use crate::session::{signal_exit_code, write};
use crate::terminal::{RawMode, Signals, read_input, terminal_size};
use crate::text::printable;

/// The arguments of `insula console`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula console web1

Shows the latest output first. To detach, type ctrl-a q; to send a ctrl-a, type it twice. Several viewers may be \
attached at the same time.")]
pub struct Console {
    /// VPS, by name or id
    name: String,
}

impl Console {
    /// Connects, until the key or the agent ends it.
    pub async fn run(self, context: &Context) -> Outcome {
        let signals = Signals::catch().map_err(|error| Failure::io("failed to catch signals", &error))?;
        let name = printable(&self.name);
        let (requests, receiver) = mpsc::channel(8);
        let start = Start { vps: self.name, replay: true, terminal: terminal_size() };
        // There is room for one.
        let _ = requests.try_send(message(Request::Start(start)));
        let stream = ReceiverStream::new(receiver);
        let output = context.client().await?.vps().attach_console(stream).await?.into_inner();
        context.note_at_terminal(&format!("Connected to the console of {name}. To leave: ctrl-a q"));
        let raw = RawMode::enable()
            .map_err(|error| Failure::io("failed to switch the terminal to raw mode", &error))?;
        let end = converse(output, signals, requests).await;
        drop(raw);
        let how = if matches!(end, Ok(End::Left)) { "Left" } else { "The agent has closed" };
        context.note_at_terminal(&format!("\n{how} the console of {name}."));
        end.map(|_| ())
    }
}

fn message(request: Request) -> AttachConsoleRequest {
    AttachConsoleRequest { request: Some(request) }
}

/// How a connection ended.
enum End {
    /// By the key.
    Left,
    /// By the agent.
    Closed,
}

async fn converse(
    mut output: Streaming<AttachConsoleResponse>,
    mut signals: Signals,
    requests: mpsc::Sender<AttachConsoleRequest>,
) -> Outcome<End> {
    let mut input = tokio::spawn(forward_input(requests.clone()));
    let mut has_input = true;
    loop {
        tokio::select! {
            response = output.message() => match response? {
                Some(response) => write(tokio::io::stdout(), &response.output).await?,
                None => return Ok(End::Closed),
            },
            ended = &mut input, if has_input => match ended {
                Ok(InputEnd::Key) => return Ok(End::Left),
                _ => has_input = false, // a viewer that only watches has nothing to type
            },
            signal = signals.next() => match terminal_size() {
                _ if signal != SignalKind::window_change() => {
                    return Err(Failure::Exit(signal_exit_code(signal.as_raw_value())));
                }
                Some(size) => {
                    let requests = requests.clone();
                    tokio::spawn(async move { requests.send(message(Request::Resize(size))).await });
                }
                None => {}
            },
        }
    }
}

/// Why no more input is sent.
enum InputEnd {
    /// The key was typed.
    Key,
    /// Standard input has ended, or the agent takes no more.
    Closed,
}

async fn forward_input(requests: mpsc::Sender<AttachConsoleRequest>) -> InputEnd {
    let mut stdin = tokio::io::stdin();
    let mut key = DetachKey::default();
    loop {
        let typed = read_input(&mut stdin).await;
        if typed.is_empty() {
            return InputEnd::Closed;
        }
        let (handed_on, leaves) = key.filter(&typed);
        if !handed_on.is_empty() && requests.send(message(Request::Input(handed_on))).await.is_err() {
            return InputEnd::Closed;
        }
        if leaves {
            return InputEnd::Key;
        }
    }
}
