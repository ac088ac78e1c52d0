//! TLS of the server. It speaks version 1.3 and nothing older. Its certificate can be replaced
//! while connections live. Clients show a certificate of this agent's CA, or none.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::pki::{Authority, PkiError, Remote, SERVER_LIFE};

/// The server's certificate. New connections get the newest one.
#[derive(Debug)]
pub struct Identity {
    remote: Arc<Remote>,
    names: Vec<String>,
    newest: RwLock<(Arc<CertifiedKey>, SystemTime)>,
}

impl Identity {
    /// Issues a first certificate, for these host names and IP addresses.
    pub fn new(remote: Arc<Remote>, names: Vec<String>) -> Result<Arc<Self>, PkiError> {
        let first = remote.authority.issue_server(&names)?;
        let newest = RwLock::new((Arc::new(first), SystemTime::now()));
        Ok(Arc::new(Self { remote, names, newest }))
    }

    /// Whether less than a third of the certificate's life is left, or the clock was set back.
    pub fn is_due(&self) -> bool {
        let (_, issued) = *self.newest.read().unwrap_or_else(PoisonError::into_inner);
        issued.elapsed().map_or(true, |age| age > SERVER_LIFE / 3 * 2)
    }

    /// Replaces the certificate. Existing connections keep the old one.
    pub fn renew(&self) -> Result<(), PkiError> {
        let new = self.remote.authority.issue_server(&self.names)?;
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = (Arc::new(new), SystemTime::now());
        tracing::info!(names = self.names.join(", "), "the server has a new certificate");
        Ok(())
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.newest.read().unwrap_or_else(PoisonError::into_inner).0.clone())
    }
}

/// The server's TLS configuration. With `http1`, it also offers HTTP/1.1 for browsers.
pub fn config(identity: Arc<Identity>, http1: bool) -> anyhow::Result<ServerConfig> {
    let verifier = client_verifier(&identity.remote.authority)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    // A resumed session would bring a certificate that nobody checks again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let protocols: &[&[u8]] = if http1 { &[b"h2", b"http/1.1"] } else { &[b"h2"] };
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Accepts clients without a certificate, too. The guard sees to it that they can only enroll.
fn client_verifier(authority: &Authority) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    Ok(builder.allow_unauthenticated().build()?)
}
