//! The agent's connection to a monitor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::protocol::{CONSOLE_PACKET, Event, MAX_CONSOLE_BYTES, Request};
use crate::seqpacket;

/// Why a message to or from a monitor failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No monitor listens there.
    #[error("failed to connect to the monitor at {path}")]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// A message could not be sent.
    #[error("failed to send a request to the monitor")]
    Send(#[source] io::Error),
    /// A message could not be received.
    #[error("failed to receive an event from the monitor")]
    Receive(#[source] io::Error),
    /// A message is not understood.
    #[error("the monitor's event is not understood")]
    Message(#[source] serde_json::Error),
    /// The monitor has ended or closed the connection.
    #[error("the monitor has closed the connection")]
    Closed,
    /// No event came in time.
    #[error("no event came from the monitor in time")]
    TimedOut,
    /// The monitor is too old for the request.
    #[error(
        "the monitor is of an older version ({version}) that does not know what is asked for (version {needed})"
    )]
    TooOld {
        /// The monitor's version of the protocol.
        version: u32,
        /// The version that is needed.
        needed: u32,
    },
}

/// A connection to a monitor. It does not block: wait until [`AsFd::as_fd`] is readable, then call
/// [`try_receive`](Self::try_receive) until it returns `None`.
///
/// Dropping it hangs up the programs that were run on it ([`Request::Exec`]), and nothing else.
#[derive(Debug)]
pub struct MonitorConnection {
    socket: OwnedFd,
}

impl MonitorConnection {
    /// Connects to the monitor's socket: [`VpsDirectory::socket`](crate::VpsDirectory::socket).
    pub fn connect(path: &Path) -> Result<Self, ConnectionError> {
        let connect = || -> io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
            connect(&socket, &SocketAddrUnix::new(path)?)?;
            Ok(socket)
        };
        connect()
            .map(Self::from_socket)
            .map_err(|source| ConnectionError::Connect { path: path.to_owned(), source })
    }

    /// A connection over a socket that does not block.
    pub(crate) fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Sends a request, and the descriptors that belong to it.
    pub fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), ConnectionError> {
        let message = serde_json::to_vec(request).map_err(|error| ConnectionError::Send(error.into()))?;
        self.send_packet(&message, fds)
    }

    /// Sends what was typed at the console.
    pub fn send_console(&self, bytes: &[u8]) -> Result<(), ConnectionError> {
        bytes.chunks(MAX_CONSOLE_BYTES).try_for_each(|bytes| {
            let packet = [&[CONSOLE_PACKET], bytes].concat();
            self.send_packet(&packet, &[])
        })
    }

    fn send_packet(&self, packet: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), ConnectionError> {
        match seqpacket::send(self.socket.as_fd(), packet, fds) {
            Err(error) if error.raw_os_error() == Some(Errno::PIPE.raw_os_error()) => {
                Err(ConnectionError::Closed)
            }
            result => result.map_err(ConnectionError::Send),
        }
    }

    /// The next event with its descriptors; `None` if there is none now.
    pub fn try_receive(&self) -> Result<Option<(Event, Vec<OwnedFd>)>, ConnectionError> {
        match seqpacket::receive(self.socket.as_fd()) {
            Ok(Some((packet, fds))) => parse(packet).map(|event| Some((event, fds))),
            Ok(None) => Err(ConnectionError::Closed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(ConnectionError::Receive(error)),
        }
    }

    /// Waits for the next event.
    pub fn receive(&self, deadline: Instant) -> Result<(Event, Vec<OwnedFd>), ConnectionError> {
        loop {
            if let Some(event) = self.try_receive()? {
                return Ok(event);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) => return Err(ConnectionError::TimedOut),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(ConnectionError::Receive(errno.into())),
            }
        }
    }
}

fn parse(packet: Vec<u8>) -> Result<Event, ConnectionError> {
    match packet.split_first() {
        Some((&CONSOLE_PACKET, bytes)) => Ok(Event::Console(bytes.to_vec())),
        _ => serde_json::from_slice(&packet).map_err(ConnectionError::Message),
    }
}

impl AsFd for MonitorConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
