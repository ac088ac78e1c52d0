//! Connections from a client to an agent.
//!
//! A client on the agent's host uses a unix socket. From elsewhere it uses TLS 1.3, with a
//! certificate on both sides. A client without a certificate enrolls first: its token says which CA
//! the agent must have.

mod error;
mod line;
mod tls;

use hyper_util::rt::TokioIo;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::transport::Uri;

use crate::v1::access_service_client::AccessServiceClient;
use crate::v1::event_service_client::EventServiceClient;
use crate::v1::file_service_client::FileServiceClient;
use crate::v1::host_service_client::HostServiceClient;
use crate::v1::image_service_client::ImageServiceClient;
use crate::v1::network_service_client::NetworkServiceClient;
use crate::v1::operation_service_client::OperationServiceClient;
use crate::v1::profile_service_client::ProfileServiceClient;
use crate::v1::snapshot_service_client::SnapshotServiceClient;
use crate::v1::storage_service_client::StorageServiceClient;
use crate::v1::usage_service_client::UsageServiceClient;
use crate::v1::vps_service_client::VpsServiceClient;

pub use error::ConnectError;
pub use line::{Line, refused_certificate};
use line::{Noted, Refusal};

/// The path of an agent's socket by default.
pub const DEFAULT_SOCKET: &str = "/run/insula/insulad.sock";

/// The port of an agent by default, where a URL names none.
pub const DEFAULT_PORT: u16 = 8443;

/// The longest message that a client accepts. More than 10,000 VPSes fit on one page.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How long setting up a connection may take, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection that carries a call is probed, and how long the answer to a probe may
/// take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The address of an agent, and how client and agent prove who they are.
#[derive(Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket of this host, by its path.
    Unix(PathBuf),
    /// TLS over TCP.
    Remote {
        /// `HOST:PORT`, as in a URL.
        authority: String,
        /// The certificate of the agent's CA, in PEM.
        ca_pem: String,
        /// The client's own certificate, in PEM.
        certificate_pem: String,
        /// The private key of the client's certificate, in PEM.
        key_pem: String,
    },
}

impl fmt::Debug for Endpoint {
    /// Leaves the private key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => f.debug_tuple("Unix").field(socket).finish(),
            Self::Remote { authority, .. } => f.debug_tuple("Remote").field(authority).finish(),
        }
    }
}

/// A connection to an agent. It reconnects by itself, and clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    line: Line,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident;)*) => {
        impl Client {$(
            $(#[$doc])*
            pub fn $name(&self) -> $client<Line> {
                $client::new(self.line.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
            }
        )*}
    };
}

services! {
    /// The service for VPSes.
    vps: VpsServiceClient;
    /// The service for snapshots.
    snapshots: SnapshotServiceClient;
    /// The service for images.
    images: ImageServiceClient;
    /// The service for profiles.
    profiles: ProfileServiceClient;
    /// The service for networks.
    networks: NetworkServiceClient;
    /// The service for storage pools.
    storage: StorageServiceClient;
    /// The service for operations.
    operations: OperationServiceClient;
    /// The service for events.
    events: EventServiceClient;
    /// The service for files inside VPSes.
    files: FileServiceClient;
    /// The service for the usage of VPSes.
    usage: UsageServiceClient;
    /// The service for clients, tokens and the audit log.
    access: AccessServiceClient;
    /// The service for the host.
    host: HostServiceClient;
}

impl Client {
    /// Connects at once, without retries.
    pub async fn connect(endpoint: Endpoint) -> Result<Self, ConnectError> {
        match endpoint {
            Endpoint::Unix(socket) => Self::connect_to_socket(socket).await,
            Endpoint::Remote { authority, ca_pem, certificate_pem, key_pem } => {
                let config = tls::config(&ca_pem, &certificate_pem, &key_pem);
                let config = config.map_err(|error| error.at(&authority))?;
                Self::connect_by_tls(&authority, config).await
            }
        }
    }

    /// Connects without a certificate, only to enroll and so to get one. `pin` is the SHA-256 of
    /// the CA certificate, in DER, that the agent must have.
    pub async fn connect_to_enroll(authority: &str, pin: [u8; 32]) -> Result<Self, ConnectError> {
        Self::connect_by_tls(authority, tls::config_to_enroll(pin)).await
    }

    async fn connect_to_socket(socket: PathBuf) -> Result<Self, ConnectError> {
        let address = socket.display().to_string();
        // The URI is never resolved: it only becomes the `:authority` of requests.
        let transport = tonic::transport::Endpoint::from_static("http://localhost");
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let channel = transport.connect_with_connector(connector).await;
        let channel = channel.map_err(|error| connect_error(address, &error))?;
        Ok(Self { line: Line::new(channel, Refusal::default()) })
    }

    async fn connect_by_tls(authority: &str, config: rustls::ClientConfig) -> Result<Self, ConnectError> {
        let address = tls::Address::parse(authority).map_err(|error| error.at(authority))?;
        let connector = TlsConnector::from(Arc::new(config));
        let refusal = Refusal::default();
        let noted = refusal.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let (address, connector, noted) = (address.clone(), connector.clone(), noted.clone());
            async move {
                let stream = TcpStream::connect((&*address.host, address.port)).await?;
                stream.set_nodelay(true)?;
                let stream = connector.connect(address.server_name, stream).await?;
                Ok::<_, io::Error>(TokioIo::new(Noted::new(stream, noted)))
            }
        });
        let transport = tls::transport(authority).map_err(|error| error.at(authority))?;
        let transport = transport
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let channel = transport.connect_with_connector(connect).await;
        let channel = channel.map_err(|error| connect_error(authority.to_owned(), &error))?;
        Ok(Self { line: Line::new(channel, refusal) })
    }
}

/// Finds the cause in an error of the transport, which wraps that of the socket or of TLS several
/// times.
fn connect_error(address: String, error: &tonic::transport::Error) -> ConnectError {
    if let Some(source) = tls::find_error(error) {
        return ConnectError::NotTheAgent { address, source: source.clone() };
    }
    let of_socket = std::iter::successors(error.source(), |error| (*error).source())
        .find_map(|error| error.downcast_ref::<io::Error>());
    let source = of_socket.map_or_else(
        || io::Error::other(error.to_string()),
        |error| match error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(error.kind(), error.to_string()),
        },
    );
    ConnectError::Unreachable { address, source }
}
