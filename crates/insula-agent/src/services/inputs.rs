//! Session input that comes in separate calls, for clients that can't send a stream, such as
//! browsers (gRPC-Web).
//!
//! One call opens a session, and its stream of answers begins with the session's id. Other calls
//! bring the input, one message each, numbered from 1.
//!
//! ```text
//! open ──> session id ──> … answers … ──> end     the stream; the session is there for as long as it is
//!               │  send 1, send 2, …              each waits until the one before has been taken
//! ```
//!
//! * **Owner**: an id is 256 random bits, and works only for the client that opened the session
//!   ([`authorize`]).
//! * **Order**: a message is taken if its number is the next one. The same number with the same
//!   content again is a retry, and does nothing. Everything else is refused.
//! * **Back-pressure**: one message may wait while another is being written. A call is answered
//!   when its own message waits.
//! * **Bounds**: the number of sessions per client, the size of a message, the time without a
//!   message in either direction, and the total time are limited. Input for a guest that reads
//!   nothing waits in the agent's memory.
//!
//! [`authorize`]: insula_api::access::authorize

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use insula_api::access::Object;
use insula_api::{ApiError, Reason};
use insula_types::Requester;
use prost::Message;
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use crate::services::Caller;

/// How many sessions of one kind a client may have at a time.
const MOST_PER_CLIENT: usize = 16;
/// How many calls with input may wait for each other in one session. All but the first are retries
/// of it.
const MOST_CALLS: usize = 4;
/// The maximum size of a message. With the two bounds above, the messages of one client take at
/// most 75 MiB of the agent's memory.
const MOST_BYTES: usize = 256 << 10;
/// How long sessions may last.
const LIFE: Life = Life { idle: Duration::from_secs(60 * 60), longest: Duration::from_secs(24 * 60 * 60) };

/// How long a session may last.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// The longest time without a message in either direction.
    idle: Duration,
    /// The longest time altogether.
    longest: Duration,
}

/// The inputs of all sessions of one kind. Clones share their state.
pub struct Inputs<M> {
    life: Life,
    open: Arc<Mutex<HashMap<String, Arc<Input<M>>>>>,
}

/// The input of one session.
struct Input<M> {
    opened_by: Requester,
    messages: mpsc::Sender<M>,
    sent: tokio::sync::Mutex<Sent>,
    calls: Semaphore,
    active: watch::Sender<Instant>,
}

/// The messages that a session has taken so far.
#[derive(Default)]
struct Sent {
    number: u64,
    digest: [u8; 32],
    has_ended: bool,
}

/// The meaning of a message for the order of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A part of the input.
    Data,
    /// The end of the input: no `Data` follows.
    End,
    /// Something else, such as a resize. It may also follow the end of the input.
    Control,
}

/// The place of a message in a session.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The id of the session.
    pub session: &'a str,
    /// The number of the message, counted from 1.
    pub number: u64,
    /// The digest and length of the whole request.
    pub content: Content,
    /// The meaning of the message for the order.
    pub kind: Kind,
}

/// What is remembered of a message's content.
#[derive(Debug, Clone, Copy)]
pub struct Content {
    /// Tells a retry from another message under the same number.
    digest: [u8; 32],
    /// Its length on the wire, in bytes.
    bytes: usize,
}

impl Content {
    /// Takes the digest of a complete request. The request may be taken apart afterwards, because
    /// it is long and may have to wait.
    pub fn of(request: &impl Message) -> Self {
        let encoded = request.encode_to_vec();
        Self { digest: Sha256::digest(&encoded).into(), bytes: encoded.len() }
    }

    fn check_length(&self) -> Result<(), ApiError> {
        if self.bytes <= MOST_BYTES {
            return Ok(());
        }
        let message = format!("the message has {} bytes; at most {MOST_BYTES} are allowed", self.bytes);
        Err(ApiError::invalid_field("input", message).with_hint("send the input in smaller messages"))
    }
}

/// An open session. It ends when this is dropped.
pub struct Session<M> {
    id: String,
    inputs: Inputs<M>,
    opened_at: Instant,
    active: watch::Sender<Instant>,
}

impl<M> Clone for Inputs<M> {
    fn clone(&self) -> Self {
        Self { life: self.life, open: self.open.clone() }
    }
}

impl<M> Default for Inputs<M> {
    fn default() -> Self {
        Self { life: LIFE, open: Arc::default() }
    }
}

impl<M> fmt::Debug for Inputs<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inputs({})", self.lock().len()) // ids are secrets
    }
}

impl<M> Inputs<M> {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Input<M>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session for the caller. Returns it together with its input.
    pub fn open(&self, caller: &Caller) -> Result<(Session<M>, mpsc::Receiver<M>), ApiError> {
        let mut open = self.lock();
        let own = open.values().filter(|input| input.opened_by.is_same_client(&caller.requester)).count();
        if own >= MOST_PER_CLIENT {
            let message = format!("the client {} has {own} sessions of this kind", caller.requester.name);
            return Err(ApiError::new(Reason::RateLimited, message).with_hint("end one of them first"));
        }
        let (messages, input) = mpsc::channel(1);
        let (id, opened_at) = (new_id(), Instant::now());
        let active = watch::Sender::new(opened_at);
        let way = Input {
            opened_by: caller.requester.clone(),
            messages,
            sent: tokio::sync::Mutex::default(),
            calls: Semaphore::new(MOST_CALLS),
            active: active.clone(),
        };
        open.insert(id.clone(), Arc::new(way));
        Ok((Session { id, inputs: self.clone(), opened_at, active }, input))
    }

    /// Passes a message to its session. This may be cancelled: the message has then been taken, or
    /// not.
    pub async fn send(&self, caller: &Caller, place: Place<'_>, message: M) -> Result<(), Status> {
        let input = self.lock().get(place.session).cloned().ok_or_else(no_session)?;
        caller.reach(Object::Session { opened_by: &input.opened_by }, no_session)?;
        place.content.check_length()?;
        let too_many =
            |_| ApiError::new(Reason::RateLimited, "other calls wait to give input to this session");
        let _call = input.calls.try_acquire().map_err(too_many)?;
        let mut sent = input.sent.lock().await;
        if place.number == sent.number && place.number > 0 && place.content.digest == sent.digest {
            return Ok(()); // a retry
        }
        sent.check(&place)?;
        input.messages.reserve().await.map_err(|_| no_session())?.send(message);
        input.active.send_replace(Instant::now());
        (sent.number, sent.digest) = (place.number, place.content.digest);
        sent.has_ended |= place.kind == Kind::End;
        Ok(())
    }
}

impl Sent {
    /// Checks that this message is the next one.
    fn check(&self, place: &Place<'_>) -> Result<(), ApiError> {
        let refused = |message| Err(ApiError::new(Reason::InputOutOfOrder, message));
        let next = self.number + 1;
        match place.kind {
            _ if place.number != next => {
                refused(format!("message {next} of the session is expected, and this is {}", place.number))
            }
            Kind::Data | Kind::End if self.has_ended => {
                refused("the input of the session has ended".to_owned())
            }
            Kind::Data | Kind::End | Kind::Control => Ok(()),
        }
    }
}

impl<M: Send + 'static> Session<M> {
    /// The stream of the session: its id, then the answers. The session ends when the stream ends
    /// or is dropped.
    pub fn stream<T, A: Send + 'static>(
        self,
        first: fn(String) -> T,
        answers: impl Stream<Item = Result<A, Status>> + Send + 'static,
        following: fn(A) -> T,
    ) -> impl Stream<Item = Result<T, Status>> + Send + 'static
    where
        T: Send + 'static,
    {
        async_stream::stream! {
            let over = over(self.opened_at, self.inputs.life, self.active.subscribe());
            tokio::pin!(answers, over);
            yield Ok(first(self.id.clone()));
            loop {
                let next = tokio::select! {
                    next = answers.next() => next,
                    why = &mut over => Some(Err(Status::deadline_exceeded(why))),
                };
                let Some(next) = next else { break };
                let is_last = next.is_err();
                yield next.map(following);
                self.active.send_replace(Instant::now());
                if is_last {
                    break;
                }
            }
        }
    }
}

impl<M> Drop for Session<M> {
    fn drop(&mut self) {
        self.inputs.lock().remove(&self.id);
    }
}

/// Completes when a session has lasted too long, or when nothing has come or gone for too long.
/// Says which.
async fn over(opened_at: Instant, life: Life, mut active: watch::Receiver<Instant>) -> &'static str {
    loop {
        let (idle, longest) = (*active.borrow_and_update() + life.idle, opened_at + life.longest);
        tokio::select! {
            () = sleep_until(longest) => return "the session has lasted for 24 hours",
            () = sleep_until(idle) => return "the session has been idle for an hour",
            Ok(()) = active.changed() => {}
        }
    }
}

/// A new id of 256 random bits, which nobody can guess.
fn new_id() -> String {
    let mut random = [0; 32];
    // getrandom(2): up to 256 bytes come whole once the kernel's pool is ready, and the call waits
    // for that.
    let length = getrandom(&mut random, GetRandomFlags::empty()).expect("getrandom(2) knows no error here");
    assert_eq!(length, random.len(), "getrandom(2) gives up to 256 bytes whole");
    random.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a String takes everything
        text
    })
}

/// The error for an unknown session. It is the same for one that has ended, and for another
/// client's.
fn no_session() -> Status {
    ApiError::new(Reason::SessionNotFound, "there is no such session").with_hint("open another").into()
}

#[cfg(test)]
mod tests;
