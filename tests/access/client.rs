//! Clients over the network, for the tests of access.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use insula_api::{ApiError, Client, Endpoint, Reason, v1};
use insula_testkit::{Builder, ScratchHost};
use insula_types::EnrollmentToken;
use prost::bytes::{Buf, BufMut};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::client::GrpcService;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};
use tonic::{Request, Status};

/// The address at which the agents of these tests listen, each in a network of its own.
pub const ADDRESS: &str = "127.0.0.1:8443";

/// A host whose agent listens on the network.
pub fn host() -> Builder {
    ScratchHost::builder().setting("listen", json!(ADDRESS))
}

/// A client's key pair.
#[derive(Debug)]
pub struct Keys {
    pub pair: KeyPair,
}

impl Keys {
    pub fn new() -> Self {
        Self { pair: KeyPair::generate().unwrap() }
    }

    /// A certificate signing request, in PEM.
    pub fn request(&self) -> String {
        CertificateParams::default().serialize_request(&self.pair).unwrap().pem().unwrap()
    }
}

/// A client with a certificate, and its connection.
#[derive(Debug)]
pub struct Remote {
    client: Client,
    pub ca: String,
    pub certificate: String,
    pub keys: Keys,
}

impl Remote {
    pub async fn connect(ca: &str, certificate: &str, keys: &Keys) -> Self {
        let endpoint = Endpoint::Remote {
            authority: ADDRESS.into(),
            ca_pem: ca.into(),
            certificate_pem: certificate.into(),
            key_pem: keys.pair.serialize_pem(),
        };
        let client = Client::connect(endpoint).await.expect("with TLS 1.3 refusals come later");
        let keys = Keys { pair: KeyPair::from_pem(&keys.pair.serialize_pem()).unwrap() };
        Self { client, ca: ca.into(), certificate: certificate.into(), keys }
    }

    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// Has root create a token for a new client.
#[track_caller]
pub fn token(host: &ScratchHost, name: &str, role: v1::Role, tenant: &str) -> String {
    let request = v1::CreateAccessTokenRequest {
        name: name.into(),
        role: role.into(),
        tenant: tenant.into(),
        ..Default::default()
    };
    host.block_on(host.client().access().create_access_token(request)).unwrap().into_inner().token
}

/// Enrolls with a token.
pub fn enroll_with(host: &ScratchHost, token: &str, keys: &Keys) -> Result<Remote, Status> {
    let parsed: EnrollmentToken = token.parse().unwrap();
    host.block_on(async {
        let stranger = Client::connect_to_enroll(ADDRESS, parsed.ca).await.expect("a connection");
        let request = v1::EnrollClientRequest { token: token.into(), certificate_request: keys.request() };
        let answer = stranger.access().enroll_client(request).await?.into_inner();
        Ok(Remote::connect(&answer.ca_certificate, &answer.certificate, keys).await)
    })
}

/// Enrolls a new client.
#[track_caller]
pub fn enroll(host: &ScratchHost, name: &str, role: v1::Role, tenant: &str) -> Remote {
    enroll_with(host, &token(host, name, role, tenant), &Keys::new()).unwrap()
}

/// Revokes a client's access.
#[track_caller]
pub fn revoke(host: &ScratchHost, client: &str) {
    let request = v1::RevokeClientRequest { client: client.into(), ..Default::default() };
    host.block_on(host.client().access().revoke_client(request)).unwrap();
}

/// The reason that a call was refused with.
pub fn reason(status: &Status) -> Option<Reason> {
    ApiError::from(status).reason()
}

/// A connection with tonic's own TLS, over which any method is called with any bytes.
#[derive(Debug, Clone)]
pub struct Raw {
    channel: Channel,
}

impl Raw {
    pub fn new(host: &ScratchHost, remote: &Remote) -> Self {
        let identity = Identity::from_pem(&remote.certificate, remote.keys.pair.serialize_pem());
        Self::with(host, |tls| tls.identity(identity))
    }

    /// Connects without a certificate.
    pub fn stranger(host: &ScratchHost) -> Self {
        Self::with(host, |tls| tls)
    }

    fn with(host: &ScratchHost, prove: impl FnOnce(ClientTlsConfig) -> ClientTlsConfig) -> Self {
        let ca = std::fs::read_to_string(host.state_dir().join("pki/ca.pem")).unwrap();
        let tls = prove(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)));
        let endpoint = Channel::from_shared(format!("https://{ADDRESS}")).unwrap().tls_config(tls).unwrap();
        Self { channel: host.block_on(endpoint.connect()).unwrap() }
    }

    /// Posts a message to a method as a page can make a browser do it: with this content type, or
    /// with none. Returns the HTTP status.
    pub fn post(
        &self,
        host: &ScratchHost,
        path: &str,
        content_type: Option<&str>,
        message: &[u8],
    ) -> http::StatusCode {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = String::from_utf8([&[0], &length[..], message].concat()).unwrap(); // which is a body already
        let request = http::Request::post(format!("https://{ADDRESS}{path}"));
        let typed =
            |request: http::request::Builder, shown| request.header(http::header::CONTENT_TYPE, shown);
        let request =
            content_type.into_iter().fold(request, typed).body(tonic::body::Body::new(body)).unwrap();
        let mut channel = self.channel.clone();
        host.block_on(async {
            std::future::poll_fn(|cx| GrpcService::poll_ready(&mut channel, cx)).await.unwrap();
            GrpcService::call(&mut channel, request).await.unwrap().status()
        })
    }

    /// Calls a method of any kind with one message. Returns the first answer, if there is one.
    pub fn call(&self, host: &ScratchHost, path: &str, message: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
        self.call_within(host, path, message, Duration::from_secs(30))
    }

    /// The same call with another deadline.
    pub fn call_within(
        &self,
        host: &ScratchHost,
        path: &str,
        message: Vec<u8>,
        deadline: Duration,
    ) -> Result<Option<Vec<u8>>, Status> {
        host.block_on(async {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone());
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let mut request = Request::new(tokio_stream::once(message));
            request.set_timeout(deadline);
            let path = path.parse().unwrap();
            grpc.streaming(request, path, Bytes).await?.into_inner().message().await
        })
    }
}

/// A codec that passes messages as they are.
#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(source.copy_to_bytes(source.remaining()).to_vec()))
    }
}

/// A TLS connection of this client from this address of the host, with these protocols (ALPN).
pub async fn tls(remote: &Remote, from: IpAddr, protocols: &[&str]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(remote.ca.as_bytes()).unwrap()).unwrap();
    let certificate = CertificateDer::from_pem_slice(remote.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(remote.keys.pair.serialize_pem().as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let config = config.with_root_certificates(roots).with_client_auth_cert(vec![certificate], key);
    let mut config = config.unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let address: SocketAddr = ADDRESS.parse().unwrap();
    let stream = dial(from, address).await;
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap()
}

/// A TCP connection from this address of the host.
pub async fn dial(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// The certificate that the server shows to new connections.
pub async fn server_certificate(remote: &Remote) -> Vec<u8> {
    let stream = tls(remote, Ipv4Addr::LOCALHOST.into(), &["h2"]).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}
