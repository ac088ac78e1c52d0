//! Messages with descriptors over a `SOCK_SEQPACKET` socket, unix(7).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};

/// The largest message in bytes. The kernel's default buffer for a socket holds 212,992.
pub const MAX_MESSAGE: usize = 160 << 10;

/// The most descriptors with one message.
pub const MAX_FDS: usize = 4;

/// A connected pair. `flags`: whether the ends block.
pub fn pair(flags: SocketFlags) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags | SocketFlags::CLOEXEC, None)?)
}

/// Sends one message whole or not at all.
pub fn send(socket: BorrowedFd<'_>, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if message.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        return Err(Errno::MSGSIZE.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives one message; `None` when the other end is closed. A message that is too large, or that has lost
/// descriptors on the way, is an error.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let peek = || recv(socket, &mut [0_u8; 0], RecvFlags::PEEK | RecvFlags::TRUNC);
    // An end that closes with messages unread resets the connection: told once, before what it has said itself.
    let (_, length) = match peek() {
        Err(Errno::CONNRESET) => peek()?,
        result => result?,
    };
    if length > MAX_MESSAGE {
        return Err(Errno::MSGSIZE.into());
    }
    let mut message = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut message)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = vec![];
    for received in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = received {
            fds.extend(rights);
        }
    }
    match received.bytes {
        0 => Ok(None),
        bytes if bytes == length => Ok(Some((message, fds))),
        _ => Err(Errno::MSGSIZE.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_keep_their_borders_and_descriptors() {
        let (a, b) = pair(SocketFlags::empty()).unwrap();
        send(a.as_fd(), b"one", &[]).unwrap();
        send(a.as_fd(), &[7; MAX_MESSAGE], &[a.as_fd(), b.as_fd()]).unwrap();
        assert_eq!(receive(b.as_fd()).unwrap().unwrap().0, b"one");
        let (message, fds) = receive(b.as_fd()).unwrap().unwrap();
        assert_eq!((message.len(), fds.len()), (MAX_MESSAGE, 2));
        assert!(send(a.as_fd(), &[0; MAX_MESSAGE + 1], &[]).is_err());
        drop((a, fds));
        assert!(receive(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn the_last_words_are_heard_of_an_end_that_did_not_listen() {
        let (a, b) = pair(SocketFlags::empty()).unwrap();
        send(b.as_fd(), b"unread", &[]).unwrap();
        send(a.as_fd(), b"last words", &[]).unwrap();
        drop(a);
        assert_eq!(receive(b.as_fd()).unwrap().unwrap().0, b"last words");
        assert!(receive(b.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_too_large_is_refused() {
        let (a, b) = pair(SocketFlags::empty()).unwrap();
        rustix::net::send(&a, &[0; MAX_MESSAGE + 1], SendFlags::empty()).unwrap();
        assert!(receive(b.as_fd()).is_err());
    }
}
