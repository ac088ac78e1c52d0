//! A connection to a monitor that can be waited for. A [`MonitorLink`] owns the descriptor and nothing else: what the
//! monitor says is kept by its caller.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use insula_runtime::protocol::PROTOCOL_VERSION;
use insula_runtime::{ConnectionError, Event, MonitorConnection, Request, Status, VpsDirectory};
use insula_types::Reason;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::EngineError;

/// A connection to a monitor.
#[derive(Debug)]
pub(crate) struct MonitorLink {
    connection: AsyncFd<Registered>,
}

/// Lets a descriptor be waited for. It owns itself, and must not block.
#[allow(deprecated)] // `register` wants an `unsafe` promise that descriptors stay open: ours own theirs
pub(crate) fn watched<T: AsRawFd>(owner: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::new(owner)
}

/// Lets the urgent news of a descriptor be waited for: `POLLPRI`.
#[allow(deprecated)] // as above
pub(crate) fn watched_for_news<T: AsRawFd>(owner: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, Interest::PRIORITY)
}

/// What tokio wants of a descriptor.
#[derive(Debug)]
struct Registered(MonitorConnection);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl MonitorLink {
    pub(crate) fn new(connection: MonitorConnection) -> Result<Self, EngineError> {
        watched(Registered(connection))
            .map(|connection| Self { connection })
            .map_err(|error| EngineError::internal("failed to wait for a monitor", error))
    }

    /// Connects to the monitor of a VPS.
    pub(crate) fn connect(directory: &VpsDirectory) -> Result<Self, EngineError> {
        let connection = MonitorConnection::connect(&directory.socket()).map_err(|error| {
            EngineError::new(Reason::VpsNotRunning, "the VPS has no monitor: it has just ended")
                .caused_by(error)
        })?;
        Self::new(connection)
    }

    /// Asks the monitor what its guest is doing, and which version of the protocol it speaks; from now on it tells changes.
    pub(crate) async fn hello(&self) -> Result<(u32, Status), ConnectionError> {
        self.connection.get_ref().0.send(&Request::Hello { version: PROTOCOL_VERSION }, &[])?;
        loop {
            if let (Event::Hello { version, status }, _) = self.next().await? {
                return Ok((version, status));
            }
        }
    }

    pub(crate) fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), EngineError> {
        let failed = |error| EngineError::internal("failed to ask the VPS's monitor", error);
        self.connection.get_ref().0.send(request, fds).map_err(failed)
    }

    /// Sends what was typed at the console, as fast as the monitor takes it.
    pub(crate) async fn send_console(&self, bytes: &[u8]) -> Result<(), EngineError> {
        let failed = |error| EngineError::internal("failed to write to the console", error);
        for chunk in bytes.chunks(4096) {
            loop {
                let mut ready = self
                    .connection
                    .writable()
                    .await
                    .map_err(|error| EngineError::internal("failed to wait for the console", error))?;
                match self.connection.get_ref().0.send_console(chunk) {
                    Err(ConnectionError::Send(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                    }
                    result => break result.map_err(failed)?,
                }
            }
        }
        Ok(())
    }

    /// The next event, with the descriptors that belong to it. May be cancelled without losing one.
    pub(crate) async fn next(&self) -> Result<(Event, Vec<OwnedFd>), ConnectionError> {
        loop {
            let mut ready = self.connection.readable().await.map_err(ConnectionError::Receive)?;
            match self.connection.get_ref().0.try_receive()? {
                Some(event) => return Ok(event),
                None => ready.clear_ready(),
            }
        }
    }
}

/// A monitor could not be used: it is too old for what was asked, or something is wrong with it.
pub(crate) fn monitor_failed(doing: &str, error: ConnectionError) -> EngineError {
    let what = format!("failed to {doing}");
    match error {
        ConnectionError::TooOld { .. } => EngineError::new(Reason::MonitorTooOld, what)
            .caused_by(error)
            .hint("restart the VPS: it gets a monitor of this version then"),
        error => EngineError::internal(what, error),
    }
}
