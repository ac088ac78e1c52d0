//! The way to an agent.
//!
//! On its host by a unix socket, from elsewhere by TLS 1.3 with a certificate on both sides. Who has none yet enrolls:
//! the token says which CA the agent must have.

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

pub use line::{Line, refused_certificate};
use line::{Noted, Refusal};

/// Where an agent's socket is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/insula/insulad.sock";

/// The port of an agent in a URL that names none.
pub const DEFAULT_PORT: u16 = 8443;

/// The longest message that is accepted: more than 10,000 VPSes on one page.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// How long a connection may take until it is there, names and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a connection that carries a call is asked whether it lives, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Where an agent listens, and how it knows us.
#[derive(Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket of this host.
    Unix(PathBuf),
    /// TLS over TCP.
    Remote {
        /// `HOST:PORT`, as in a URL.
        authority: String,
        /// The agent's CA, in PEM.
        ca_pem: String,
        /// Our certificate, in PEM.
        certificate_pem: String,
        /// Its private key, in PEM.
        key_pem: String,
    },
}

impl fmt::Debug for Endpoint {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(socket) => f.debug_tuple("Unix").field(socket).finish(),
            Self::Remote { authority, .. } => f.debug_tuple("Remote").field(authority).finish(),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there, or not for us.
    #[error("failed to connect to the agent at {address}")]
    Unreachable {
        /// Where.
        address: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Who answers there can't show that it is the agent.
    #[error("failed to verify the identity of the agent at {address}")]
    NotTheAgent {
        /// Where.
        address: String,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
    /// What we have to show, or to check the agent with, can't be used.
    #[error("failed to use {what} for the agent at {address}")]
    Credentials {
        /// The address, the CA, our certificate, or its key.
        what: &'static str,
        /// Of which agent.
        address: String,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl ConnectError {
    /// Whether there may be an agent that this user may not talk to.
    pub fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// A connection to an agent. It reconnects by itself; copies share it.
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
    /// VPSes.
    vps: VpsServiceClient;
    /// Snapshots.
    snapshots: SnapshotServiceClient;
    /// Images.
    images: ImageServiceClient;
    /// Profiles.
    profiles: ProfileServiceClient;
    /// Networks.
    networks: NetworkServiceClient;
    /// Pools.
    storage: StorageServiceClient;
    /// Operations.
    operations: OperationServiceClient;
    /// Events.
    events: EventServiceClient;
    /// Files of VPSes.
    files: FileServiceClient;
    /// What VPSes use.
    usage: UsageServiceClient;
    /// Clients, tokens, and the audit log.
    access: AccessServiceClient;
    /// The host.
    host: HostServiceClient;
}

impl Client {
    /// Connects, once, at once.
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

    /// Connects without a certificate, only to get one: `pin` is the SHA-256 of the CA certificate that the agent must
    /// have, in DER.
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

/// The cause of the transport's error, which wraps that of the socket or of TLS several times.
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
