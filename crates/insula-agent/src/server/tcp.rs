//! Connections over the network: accepted, proven by TLS, counted.
//!
//! A client has ten seconds to finish TLS. Without a certificate it has a minute altogether.
//! Strangers have places of their own, so that they can't take those of clients.

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

/// How long TLS may take to be set up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client without a certificate may stay connected, which is more than it takes to
/// enroll.
const STRANGER_LIFE: Duration = Duration::from_secs(60);
/// How long a connection that is refused, or whose client's access has ended, may take to be told
/// so.
const FAREWELL: Duration = Duration::from_secs(5);
/// How many bytes are read from a client that has been refused.
const MAX_UNREAD_BYTES: u64 = 64 << 10;
/// The places for clients that have not proven who they are: altogether, and from one address.
const STRANGERS: (usize, usize) = (1024, 256);
/// How long to accept nothing after the host ran out of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(200);

/// The other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address of the other end.
    pub address: SocketAddr,
    /// The fingerprint of the certificate that the other end has proven to have.
    pub certificate: Option<Arc<str>>,
}

/// A connection on which TLS has been set up.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    /// Completes when the connection must end.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Place,
}

/// What the task that accepts connections shares with the tasks of handshakes.
#[derive(Clone)]
struct Door {
    engine: Engine,
    acceptor: TlsAcceptor,
    strangers: Arc<Places>,
    clients: Arc<Places>,
    accepted: mpsc::Sender<io::Result<Connection>>,
}

/// A stream of connections as they arrive. When it is dropped, no more are accepted.
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
            return note(address, format_args!("too many connections that have not authenticated"));
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

/// Logs why a stranger was refused, unless there were too many such lines.
fn note(address: SocketAddr, why: std::fmt::Arguments<'_>) {
    if may_log_stranger() {
        tracing::info!(peer = %address, "{why}");
    }
}

/// Closes a connection so that the other end can read why. If something were still unread here, the
/// kernel would reset the connection, and the alert could be lost.
async fn see_out(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_UNREAD_BYTES), &mut tokio::io::sink()).await
    };
    let _ = timeout(FAREWELL, reading).await; // whatever comes: it is closed
}

/// Completes after this time.
async fn after(time: Duration) {
    let _ = timeout(time, std::future::pending::<()>()).await;
}

impl Connection {
    /// Returns an error once the connection's time is over.
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
