//! The connections to a monitor. One that does not read what it is sent is dropped: nobody holds the guest up.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{SocketFlags, accept_with, sockopt::socket_peercred};
use rustix::process::getuid;

use crate::protocol::{CONSOLE_PACKET, Event};
use crate::seqpacket;

/// The most connections at once.
const MAX_CLIENTS: usize = 64;

/// One connection.
#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    is_subscribed: bool,
    is_viewer: bool,
    is_lost: bool,
}

/// All connections, by numbers that are never used again.
#[derive(Debug, Default)]
pub(super) struct Clients {
    clients: BTreeMap<u32, Client>,
    last: u32,
}

impl Clients {
    /// Takes a connection in, whose socket does not block.
    pub fn add(&mut self, socket: OwnedFd) -> u32 {
        self.last += 1;
        let client = Client { socket, is_subscribed: false, is_viewer: false, is_lost: false };
        self.clients.insert(self.last, client);
        self.last
    }

    /// Accepts a connection of root's; `None` if there is none, or it is refused.
    pub fn accept(&mut self, listener: &OwnedFd) -> Option<u32> {
        let socket = accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK).ok()?;
        let is_ours = socket_peercred(&socket).is_ok_and(|peer| peer.uid == getuid());
        (is_ours && self.clients.len() < MAX_CLIENTS).then(|| self.add(socket))
    }

    /// The socket of a connection.
    pub fn socket(&self, client: u32) -> Option<BorrowedFd<'_>> {
        self.clients.get(&client).map(|client| client.socket.as_fd())
    }

    /// Tells it changes of the phase from now on.
    pub fn subscribe(&mut self, client: u32) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.is_subscribed = true;
        }
    }

    /// Shows it the console from now on.
    pub fn view(&mut self, client: u32) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.is_viewer = true;
        }
    }

    /// The next message of a connection; `None` if there is none now. The end is an error.
    pub fn receive(&self, client: u32) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
        let socket = self.socket(client).ok_or(io::ErrorKind::NotConnected)?;
        match seqpacket::receive(socket) {
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result,
        }
    }

    /// Sends an event to one.
    pub fn send(&mut self, client: u32, event: &Event, fds: &[BorrowedFd<'_>]) {
        if let (Some(client), Ok(message)) = (self.clients.get_mut(&client), serde_json::to_vec(event)) {
            client.send(&message, fds);
        }
    }

    /// Sends an event to all that want to know.
    pub fn broadcast(&mut self, event: &Event) {
        let Ok(message) = serde_json::to_vec(event) else { return };
        let subscribed = self.clients.values_mut().filter(|client| client.is_subscribed);
        subscribed.for_each(|client| client.send(&message, &[]));
    }

    /// Sends bytes of the console to one.
    pub fn send_console(&mut self, client: u32, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.send(&[&[CONSOLE_PACKET], bytes].concat(), &[]);
        }
    }

    /// Shows bytes of the console to all viewers.
    pub fn show(&mut self, bytes: &[u8]) {
        if self.clients.values().any(|client| client.is_viewer) {
            let packet = [&[CONSOLE_PACKET], bytes].concat();
            let viewers = self.clients.values_mut().filter(|client| client.is_viewer);
            viewers.for_each(|client| client.send(&packet, &[]));
        }
    }

    /// Gives a connection up.
    pub fn lose(&mut self, client: u32) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.is_lost = true;
        }
    }

    /// Drops the connections that are lost, and returns their numbers.
    pub fn drop_lost(&mut self) -> Vec<u32> {
        let lost =
            self.clients.iter().filter(|(_, client)| client.is_lost).map(|(&number, _)| number).collect();
        self.clients.retain(|_, client| !client.is_lost);
        lost
    }
}

impl Client {
    fn send(&mut self, message: &[u8], fds: &[BorrowedFd<'_>]) {
        // A full buffer: it reads too slowly. Anything else: it has gone.
        self.is_lost |= seqpacket::send(self.socket.as_fd(), message, fds).is_err();
    }
}
