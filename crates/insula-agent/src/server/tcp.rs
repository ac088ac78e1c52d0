//! Connections over the network: accepted, proven by TLS, counted.
//!
//! Who connects has ten seconds to finish TLS, and without a client's certificate a minute altogether. Strangers have
//! places of their own, so that they can't take those of clients.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use insula_engine::Engine;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::pki::fingerprint;
use crate::server::places::{Place, Places};
use crate::server::rate::may_log_stranger;

/// Until when TLS must be done.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long somebody without a certificate may stay: more than it takes to enroll.
const STRANGER_LIFE: Duration = Duration::from_secs(60);
/// How long a connection that is refused, or whose client's access has ended, may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(5);
/// How much is still read from a connection that was refused.
const MAX_UNREAD_BYTES: u64 = 64 << 10;
/// How many connections may be open without having proven to be a client's, altogether and from one address.
const STRANGERS: (usize, usize) = (1024, 256);
/// How long nothing is accepted after the host was out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The peer's address.
    pub address: SocketAddr,
    /// The fingerprint of the certificate it has proven to have.
    pub certificate: Option<Arc<str>>,
}

/// A connection that has finished TLS.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// When this is over, so is the connection.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

/// What the accepting task and those of handshakes share.
#[derive(Clone)]
struct Door {
    engine: Engine,
    acceptor: TlsAcceptor,
    strangers: Arc<Places>,
    clients: Arc<Places>,
    accepted: mpsc::Sender<io::Result<Connection>>,
}

/// Connections as they come. No more are accepted when the stream is dropped.
pub fn incoming(
    engine: Engine,
    listener: TcpListener,
    config: ServerConfig,
) -> ReceiverStream<io::Result<Connection>> {
    let access = &engine.settings().access;
    let clients = Places::new(access.connections, access.connections_per_address);
    let (accepted, connections) = mpsc::channel(16);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let strangers = Places::new(STRANGERS.0, STRANGERS.1);
    tokio::spawn(Door { engine, acceptor, strangers, clients, accepted }.keep_open(listener));
    ReceiverStream::new(connections)
}

impl Door {
    async fn keep_open(self, listener: TcpListener) {
        loop {
            let next = tokio::select! {
                next = listener.accept() => next,
                () = self.accepted.closed() => return,
            };
            match next {
                Ok((stream, address)) => self.admit(stream, address),
                Err(error) => {
                    tracing::warn!("failed to accept a connection: {error}");
                    let _ = timeout(PAUSE, self.accepted.closed()).await; // asked again anyway
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, address: SocketAddr) {
        let Some(place) = self.strangers.take(address.ip()) else {
            return note(address, format_args!("too many connections that have not proven who they are"));
        };
        let door = self.clone();
        tokio::spawn(async move {
            let handshake = door.acceptor.accept(stream).into_fallible();
            match timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => door.let_in(stream, address, place).await,
                Ok(Err((error, stream))) => {
                    note(address, format_args!("no TLS: {error}"));
                    see_out(stream).await;
                }
                Err(_) => note(address, format_args!("no TLS within {HANDSHAKE_TIMEOUT:?}")),
            }
        });
    }

    async fn let_in(&self, stream: TlsStream<TcpStream>, address: SocketAddr, mut place: Place) {
        let (socket, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first).map(fingerprint);
        if let Err(error) = socket.set_nodelay(true) {
            return note(address, format_args!("the connection is gone: {error}"));
        }
        let known = certificate.as_ref().filter(|known| self.engine.requester_of(known, "").is_some());
        let mut end: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(after(STRANGER_LIFE));
        if let Some(known) = known {
            let Some(own) = self.clients.take(address.ip()) else {
                return note(address, format_args!("too many connections of clients"));
            };
            place = own;
            let ended = self.engine.access_ended(known.clone());
            end = Box::pin(async move {
                ended.await;
                after(FAREWELL).await;
            });
        }
        let peer = Peer { address, certificate: certificate.map(Into::into) };
        let connection = Connection { stream, peer, end, _place: place };
        let _ = self.accepted.send(Ok(connection)).await; // the agent ends
    }
}

/// Tells why somebody was not let in, while that is not too often.
fn note(address: SocketAddr, why: std::fmt::Arguments<'_>) {
    if may_log_stranger() {
        tracing::info!(peer = %address, "{why}");
    }
}

/// Closes a connection so that the other end can read why: were something of it still unread here, the kernel would
/// reset the connection, and the alert could be lost.
async fn see_out(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_UNREAD_BYTES), &mut tokio::io::sink()).await
    };
    let _ = timeout(FAREWELL, reading).await; // whatever comes: it is closed
}

/// When so much time is over.
async fn after(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}

impl Connection {
    /// An error when its time is over.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "access has ended")),
            Poll::Pending => Ok(()),
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
