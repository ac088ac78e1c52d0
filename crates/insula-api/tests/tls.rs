//! The client against servers that are the agent, and against servers that only claim to be.

use insula_api::client::refused_certificate;
use insula_api::v1::host_service_server::{HostService, HostServiceServer};
use insula_api::v1::{GetHostRequest, GetHostResponse};
use insula_api::{ApiError, Client, ConnectError, Endpoint, Reason};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::CertificateError;
use sha2::{Digest as _, Sha256};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

struct Host;

#[tonic::async_trait]
impl HostService for Host {
    async fn get_host(&self, _: Request<GetHostRequest>) -> Result<Response<GetHostResponse>, Status> {
        Ok(Response::new(GetHostResponse::default()))
    }
}

/// A CA such as an agent has.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
    }

    fn pin(&self) -> [u8; 32] {
        Sha256::digest(self.certificate.der()).into()
    }

    /// Issues a certificate and its key, in PEM.
    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose, years: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020 + years, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// Runs a server with a certificate for `name`, and returns its address.
    async fn serve(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> String {
        let (certificate, key) = self.issue(name, usage, 100);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate + &self.certificate.pem(), key))
            .client_ca_root(Certificate::from_pem(self.certificate.pem()))
            .client_auth_optional(true);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = listener.local_addr().unwrap().to_string();
        let server = Server::builder().tls_config(tls).unwrap().add_service(HostServiceServer::new(Host));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        authority
    }

    /// The endpoint for a client that trusts this CA and has a certificate of `issuer`.
    fn endpoint(&self, authority: &str, issuer: &Authority, years: i32) -> Endpoint {
        let (certificate_pem, key_pem) = issuer.issue("client", ExtendedKeyUsagePurpose::ClientAuth, years);
        let ca_pem = self.certificate.pem();
        Endpoint::Remote { authority: authority.to_owned(), ca_pem, certificate_pem, key_pem }
    }
}

const SERVER: ExtendedKeyUsagePurpose = ExtendedKeyUsagePurpose::ServerAuth;

async fn call(client: Client) -> Result<(), Status> {
    client.host().get_host(GetHostRequest {}).await.map(|_| ())
}

#[tokio::test]
async fn both_sides_know_each_other() {
    let authority = Authority::new();
    let address = authority.serve("127.0.0.1", SERVER).await;
    let client = Client::connect(authority.endpoint(&address, &authority, 100)).await.unwrap();
    call(client).await.unwrap();
    call(Client::connect_to_enroll(&address, authority.pin()).await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn who_is_not_the_agent_gets_no_call() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let elsewhere = foreign.serve("127.0.0.1", SERVER).await;
    let misnamed = authority.serve("other.example", SERVER).await;
    let client = authority.serve("127.0.0.1", ExtendedKeyUsagePurpose::ClientAuth).await;
    for address in [&elsewhere, &misnamed, &client] {
        let known = Client::connect(authority.endpoint(address, &authority, 100)).await.unwrap_err();
        let pinned = Client::connect_to_enroll(address, authority.pin()).await.unwrap_err();
        for error in [known, pinned] {
            let ConnectError::NotTheAgent { source, .. } = &error else { panic!("{error:?}") };
            let rustls::Error::InvalidCertificate(why) = source else { panic!("{source:?}") };
            match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    assert_eq!(address, &elsewhere)
                }
                CertificateError::NotValidForNameContext { .. } => assert_eq!(address, &misnamed),
                CertificateError::InvalidPurposeContext { .. } => assert_eq!(address, &client),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_refused_certificate_is_told_from_a_lost_connection() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let address = authority.serve("127.0.0.1", SERVER).await;
    // The foreign CA has the same name, but another key.
    for (issuer, years, alert) in [(&authority, 1, "CertificateExpired"), (&foreign, 100, "DecryptError")] {
        let client = Client::connect(authority.endpoint(&address, issuer, years)).await.unwrap();
        for _ in 0..3 {
            let status = call(client.clone()).await.unwrap_err();
            assert_eq!(ApiError::from(&status).reason(), Some(Reason::Unauthenticated), "{status:?}");
            assert_eq!(refused_certificate(&status).as_deref(), Some(alert));
        }
    }
}

#[tokio::test]
async fn an_address_or_a_certificate_that_is_none_is_named() {
    let authority = Authority::new();
    for address in ["example.org", "[::1", "a b:1", ":1"] {
        let error = Client::connect_to_enroll(address, [0; 32]).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Credentials { what: "the address", .. }),
            "{address}: {error:?}"
        );
    }
    let Endpoint::Remote { authority, ca_pem, key_pem, .. } = authority.endpoint("a:1", &authority, 1) else {
        unreachable!("a remote one")
    };
    let endpoint = Endpoint::Remote { authority, ca_pem, certificate_pem: "none".into(), key_pem };
    assert!(!format!("{endpoint:?}").contains("PRIVATE"));
    let error = Client::connect(endpoint).await.unwrap_err();
    assert!(matches!(error, ConnectError::Credentials { what: "our certificate", .. }), "{error:?}");
}
