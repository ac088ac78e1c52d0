//! The terminal of the person at the command.

use insula_api::v1::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::future::poll_fn;
use std::io::{self, IsTerminal as _};
use std::task::Poll;
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Standard input is a terminal in raw mode, which passes on every key, until this is dropped.
pub struct RawMode {
    saved: Termios,
}

impl RawMode {
    /// Switches to raw mode; `None` if standard input is not a terminal.
    pub fn enable() -> io::Result<Option<Self>> {
        if !io::stdin().is_terminal() {
            return Ok(None);
        }
        let saved = tcgetattr(io::stdin())?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Self { saved }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.saved);
    }
}

/// The size of the terminal, of standard output or else of standard input.
pub fn terminal_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    let known = size.ws_row > 0 && size.ws_col > 0;
    known.then(|| TerminalSize { rows: size.ws_row.into(), columns: size.ws_col.into() })
}

/// The signals that a session handles. They don't end the process until this is dropped.
pub struct Signals {
    signals: Vec<(SignalKind, Signal)>,
}

impl Signals {
    /// Catches the signals that would end the process, and changes of the window size.
    pub fn catch() -> io::Result<Self> {
        let kinds = [
            SignalKind::hangup(),
            SignalKind::interrupt(),
            SignalKind::quit(),
            SignalKind::terminate(),
            SignalKind::window_change(),
        ];
        let signals = kinds.into_iter().map(|kind| Ok((kind, signal(kind)?))).collect::<io::Result<_>>()?;
        Ok(Self { signals })
    }

    /// The next signal.
    pub async fn next(&mut self) -> SignalKind {
        poll_fn(|context| {
            let mut is_ready = |signal: &mut Signal| signal.poll_recv(context).is_ready();
            let ready = self.signals.iter_mut().find_map(|(kind, signal)| is_ready(signal).then_some(*kind));
            ready.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The next bytes of standard input; empty at its end, and if it can't be read.
pub async fn read_input(input: &mut tokio::io::Stdin) -> Vec<u8> {
    let mut bytes = vec![0; 16 << 10];
    let length = input.read(&mut bytes).await.unwrap_or(0);
    bytes.truncate(length);
    bytes
}
