//! The socket: requests to the kernel, and its answers.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use netlink_packet_core::{
    DecodeError, DefaultNla, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla, NlasIterator,
    Parseable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::SocketAddr;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sched::{CloneFlags, setns};

use super::error::{DUMP_ATTEMPTS, NetlinkError};

/// A connection to the kernel's routing netlink. It belongs to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    pub(super) socket: netlink_sys::Socket,
    sequence: Cell<u32>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let socket = netlink_sys::Socket::new(NETLINK_ROUTE)?; // close-on-exec
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?; // so that the message follows the header directly
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(Self { socket, sequence: Cell::new(0) })
        };
        open().map_err(|source| NetlinkError::Socket { what: "open a netlink socket".into(), source })
    }

    /// Opens a socket in another network namespace. A short-lived thread enters it; the caller's thread stays where it is.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self, NetlinkError> {
        let error = |source| NetlinkError::Socket { what: "enter a network namespace".into(), source };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(netns, CloneFlags::CLONE_NEWNET).map_err(|errno| error(errno.into()))?;
                Self::open()
            });
            thread.join().unwrap_or_else(|_| Err(error(io::Error::other("the thread panicked"))))
        })
    }

    /// Requests a change, and waits until the kernel has confirmed it. `what` says what is being done to what, for the error.
    /// `flags` are those of the request besides `NLM_F_REQUEST` and `NLM_F_ACK`.
    pub fn request(
        &self,
        what: fmt::Arguments<'_>,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<(), NetlinkError> {
        self.exchange::<Unread>(what, NLM_F_ACK | flags, message).map(drop)
    }

    /// Requests one object. `None` if the kernel confirms the request without an object.
    pub fn query(
        &self,
        what: fmt::Arguments<'_>,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        Ok(self.exchange::<RouteNetlinkMessage>(what, NLM_F_ACK, message)?.answers.into_iter().next())
    }

    /// Requests all objects. A list that changed while it was being read is read again.
    pub fn dump(
        &self,
        what: fmt::Arguments<'_>,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let dump = self.exchange::<RouteNetlinkMessage>(what, NLM_F_DUMP, message.clone())?;
            if !dump.interrupted {
                return Ok(dump.answers);
            }
        }
        Err(NetlinkError::Unsteady { what: what.to_string() })
    }

    /// Sends a message, and reads all answers to it.
    fn exchange<A: NetlinkDeserializable<Error = DecodeError>>(
        &self,
        what: fmt::Arguments<'_>,
        flags: u16,
        message: RouteNetlinkMessage,
    ) -> Result<Answers<A>, NetlinkError> {
        let socket_error = |source| NetlinkError::Socket { what: what.to_string(), source };
        self.sequence.set(self.sequence.get().wrapping_add(1));
        self.send(flags, message).map_err(socket_error)?;
        let mut answers = Answers { sequence: self.sequence.get(), answers: vec![], interrupted: false };
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(socket_error)?;
            if answers.read(what, &datagram)? {
                return Ok(answers);
            }
        }
    }

    fn send(&self, flags: u16, message: RouteNetlinkMessage) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence.get();
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }
}

/// The answer to a request that the kernel only confirms or refuses. It spares a program that only makes changes the code that
/// parses all objects. In the monitor of a VPS, that code would be half of the program.
struct Unread;

impl NetlinkDeserializable for Unread {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, _: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

/// The kernel's answers to one request.
struct Answers<A> {
    sequence: u32,
    answers: Vec<A>,
    interrupted: bool,
}

impl<A: NetlinkDeserializable<Error = DecodeError>> Answers<A> {
    /// Adds the messages of one datagram. `true` after the last message of the answer.
    fn read(&mut self, what: fmt::Arguments<'_>, mut datagram: &[u8]) -> Result<bool, NetlinkError> {
        while !datagram.is_empty() {
            let message = NetlinkMessage::<A>::deserialize(datagram)
                .map_err(|source| NetlinkError::Answer { what: what.to_string(), source })?;
            let aligned = message.header.length.next_multiple_of(4) as usize;
            datagram = datagram.get(aligned..).unwrap_or_default();
            if message.header.sequence_number != self.sequence {
                continue; // the late answer to a request that failed
            }
            self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => self.answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(refusal(what, message.header.flags, &error));
                }
                NetlinkPayload::Done(done) if done.code < 0 => {
                    let source = io::Error::from_raw_os_error(-done.code);
                    return Err(NetlinkError::Refused { what: what.to_string(), detail: None, source });
                }
                NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(true),
                _ => {}
            }
        }
        Ok(false)
    }
}

/// The kernel's refusal with its message: the attribute `NLMSGERR_ATTR_MSG` after the header of the request.
fn refusal(what: fmt::Arguments<'_>, flags: u16, error: &ErrorMessage) -> NetlinkError {
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const HEADER_LENGTH: usize = 16;
    let attributes = match flags & NLM_F_ACK_TLVS {
        0 => &[],
        _ => error.header.get(HEADER_LENGTH..).unwrap_or_default(),
    };
    let detail = NlasIterator::new(attributes)
        .filter_map(|attribute| DefaultNla::parse(&attribute.ok()?).ok())
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| {
            let mut text = vec![0; attribute.value_len()];
            attribute.emit_value(&mut text);
            String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
        });
    NetlinkError::Refused { what: what.to_string(), detail, source: error.to_io() }
}
