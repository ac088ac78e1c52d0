//! TLS 1.3 with an agent. Only the agent's own CA can vouch for it.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest as _, Sha256};
use std::error::Error;
use std::sync::Arc;
use tonic::transport::Uri;

use super::error::ConnectError;

/// Why TLS can't be set up. Which agent it was for is not known here.
pub struct SetupError {
    what: &'static str,
    source: Box<dyn Error + Send + Sync>,
}

impl SetupError {
    fn new(what: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { what, source: source.into() }
    }

    /// Adds the agent's address to the error.
    pub fn at(self, address: &str) -> ConnectError {
        ConnectError::Credentials { what: self.what, address: address.to_owned(), source: self.source }
    }
}

const ADDRESS: &str = "the address";

/// The parts of an agent's address.
#[derive(Clone)]
pub struct Address {
    /// A host name, or an IP address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The name that the agent's certificate must be valid for.
    pub server_name: ServerName<'static>,
}

impl Address {
    /// Parses `HOST:PORT`.
    pub fn parse(authority: &str) -> Result<Self, SetupError> {
        let wrong = |rule: &str| SetupError::new(ADDRESS, format!("invalid address {authority:?}: {rule}"));
        let parsed: tonic::codegen::http::uri::Authority =
            authority.parse().map_err(|_| wrong("it must be HOST:PORT"))?;
        let port = parsed.port_u16().ok_or_else(|| wrong("it has no port"))?;
        let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name =
            ServerName::try_from(host.clone()).map_err(|error| SetupError::new(ADDRESS, error))?;
        Ok(Self { host, port, server_name })
    }
}

/// The transport of gRPC, with TLS left to the connector. Requests say `https` nevertheless.
pub fn transport(authority: &str) -> Result<tonic::transport::Endpoint, SetupError> {
    let origin: Uri =
        format!("https://{authority}").parse().map_err(|error| SetupError::new(ADDRESS, error))?;
    let transport = tonic::transport::Endpoint::from_shared(format!("http://{authority}"));
    Ok(transport.map_err(|error| SetupError::new(ADDRESS, error))?.origin(origin))
}

/// The TLS configuration of a client that has a certificate.
pub fn config(ca_pem: &str, certificate_pem: &str, key_pem: &str) -> Result<ClientConfig, SetupError> {
    const CERTIFICATE: &str = "our certificate";
    let certificates = |what, pem: &str| -> Result<Vec<_>, _> {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        all.map_err(|error| SetupError::new(what, error))
    };
    let verifier =
        verifier(certificates("its CA", ca_pem)?).map_err(|error| SetupError::new("its CA", error))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes());
    let key = key.map_err(|error| SetupError::new("our private key", error))?;
    let mut config = builder()
        .dangerous() // the verifier is the usual one, with a provider of our choice
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certificates(CERTIFICATE, certificate_pem)?, key)
        .map_err(|error| SetupError::new(CERTIFICATE, error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// The TLS configuration for enrolling, when only the SHA-256 of the agent's CA certificate is
/// known.
pub fn config_to_enroll(pin: [u8; 32]) -> ClientConfig {
    let mut config = builder()
        .dangerous() // the verifier is the usual one, once it has found the CA
        .with_custom_certificate_verifier(Arc::new(PinnedAuthority { pin }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has cipher suites of TLS 1.3")
}

/// Checks that a server's certificate was issued by one of these CAs, for its name and for use by
/// servers.
fn verifier(
    authorities: Vec<CertificateDer<'static>>,
) -> Result<Arc<WebPkiServerVerifier>, Box<dyn Error + Send + Sync>> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    Ok(WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()?)
}

/// Checks that a server's certificate was issued by the CA whose certificate has this SHA-256. The
/// server sends the CA certificate, too.
#[derive(Debug)]
struct PinnedAuthority {
    pin: [u8; 32],
}

impl ServerCertVerifier for PinnedAuthority {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates.iter().find(|der| <[u8; 32]>::from(Sha256::digest(der)) == self.pin);
        let authority = authority.ok_or(CertificateError::UnknownIssuer)?;
        let verifier = verifier(vec![authority.clone().into_owned()])
            .map_err(|_| rustls::Error::from(CertificateError::BadEncoding))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not supported".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Finds the error of TLS in the sources of another error.
pub fn find_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    std::iter::successors(Some(error), |error| (*error).source()).find_map(|error| {
        // An io::Error is transparent: its source is not the error that it holds, but the source of
        // that.
        let held = error.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        let held = held.and_then(|held| held.downcast_ref());
        held.or_else(|| error.downcast_ref())
    })
}
