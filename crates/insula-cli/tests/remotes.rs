//! Remote agents: how the command gets a certificate, renews it, and what it prints if it is not valid.

#![allow(clippy::disallowed_methods)] // the program that is run is the one under test

mod fake;

use fake::answer;
use insula_api::v1::access_service_server::{AccessService, AccessServiceServer};
use insula_api::v1::*;
use insula_api::{ApiError, Reason};
use insula_types::{ClientId, EnrollmentToken};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

const DAY: Duration = Duration::from_secs(86_400);

/// The age of certificates when they are made, of a life of 90 days.
#[derive(Clone, Copy)]
struct Ages {
    enrolled: u32,
    renewed: Option<u32>,
}

const YOUNG: Ages = Ages { enrolled: 0, renewed: Some(0) };

/// An agent that does nothing but make certificates, and a user with a configuration of its own.
struct Agent {
    directory: tempfile::TempDir,
    address: String,
    ca_pin: [u8; 32],
    renewals: Arc<AtomicU32>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Access {
    /// The CA that signs the certificates of clients: the agent's own, or that of another.
    issuer: Arc<Issuer<'static, KeyPair>>,
    ca_pem: String,
    ages: Ages,
    renewals: Arc<AtomicU32>,
}

fn authority(name: &str) -> (rcgen::Certificate, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), Issuer::new(params, key))
}

impl Agent {
    fn start(ages: Ages) -> Self {
        Self::with(ages, |own| own)
    }

    /// An agent that trusts its own CA and gives out certificates of the one that is chosen.
    fn with(ages: Ages, choose: fn(Issuer<'static, KeyPair>) -> Issuer<'static, KeyPair>) -> Self {
        let (ca, issuer) = authority("agent");
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate.pem() + &ca.pem(), key.serialize_pem()))
            .client_ca_root(Certificate::from_pem(ca.pem()))
            .client_auth_optional(true);
        let renewals = Arc::new(AtomicU32::new(0));
        let issuer = Arc::new(choose(issuer));
        let access = Access { issuer, ca_pem: ca.pem(), ages, renewals: renewals.clone() };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder().tls_config(tls).unwrap().add_service(AccessServiceServer::new(access));
        runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let directory = tempfile::tempdir().unwrap();
        Self { directory, address, ca_pin: Sha256::digest(ca.der()).into(), renewals, _runtime: runtime }
    }

    fn token(&self) -> EnrollmentToken {
        EnrollmentToken {
            client: ClientId::new(),
            ca: self.ca_pin,
            secret: [7; 32],
            addresses: vec!["127.0.0.1:1".into(), self.address.clone()],
        }
    }

    fn command(&self, typed: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_insula"));
        command.args(typed).env_clear().env("INSULA_CONFIG_DIR", self.directory.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, typed: &[&str]) -> (i32, String, String) {
        answer(self.command(typed).output().unwrap())
    }

    fn run_with_input(&self, typed: &[&str], input: &str) -> (i32, String, String) {
        let mut child = self.command(typed).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        answer(child.wait_with_output().unwrap())
    }

    /// Adds itself as `vps1`.
    fn add(&self) {
        let (code, _, err) = self.run_with_input(&["remote", "add", "vps1"], &format!("{}\n", self.token()));
        assert_eq!(code, 0, "{err}");
        assert!(err.contains("vps1: added") && err.contains("panel (billing)"), "{err}");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join("remotes/vps1").join(name)
    }
}

impl Access {
    fn issue(&self, request: &str, age: u32) -> Result<String, Status> {
        let mut request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let begin = SystemTime::now() - DAY * age;
        request.params.not_before = begin.into();
        request.params.not_after = (begin + DAY * 90).into();
        request.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(request.signed_by(&self.issuer).unwrap().pem())
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl AccessService for Access {
    async fn enroll_client(&self, request: Request<EnrollClientRequest>) -> Answer<EnrollClientResponse> {
        let request = request.into_inner();
        let secret = request.token.parse::<EnrollmentToken>().map(|token| token.secret);
        if secret != Ok([7; 32]) {
            return Err(ApiError::new(Reason::TokenRefused, "the token is of no use").into());
        }
        let client = AccessClient { name: "panel".into(), role: Role::Billing.into(), ..Default::default() };
        Ok(Response::new(EnrollClientResponse {
            certificate: self.issue(&request.certificate_request, self.ages.enrolled)?,
            ca_certificate: self.ca_pem.clone(),
            client: Some(client),
        }))
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Answer<RenewCertificateResponse> {
        self.renewals.fetch_add(1, Ordering::Relaxed);
        let age = self.ages.renewed.ok_or_else(|| Status::from(ApiError::new(Reason::Internal, "no ink")))?;
        Ok(Response::new(RenewCertificateResponse {
            certificate: self.issue(&request.into_inner().certificate_request, age)?,
            ca_certificate: self.ca_pem.clone(),
        }))
    }

    async fn get_caller(&self, request: Request<GetCallerRequest>) -> Answer<GetCallerResponse> {
        let is_known = request.peer_certs().is_some_and(|certificates| !certificates.is_empty());
        let name = if is_known { "panel" } else { "stranger" }.to_owned();
        Ok(Response::new(GetCallerResponse { name, ..Default::default() }))
    }

    async fn create_access_token(
        &self,
        _: Request<CreateAccessTokenRequest>,
    ) -> Answer<CreateAccessTokenResponse> {
        Err(Status::unimplemented("no test asks for this"))
    }

    async fn list_clients(&self, _: Request<ListClientsRequest>) -> Answer<ListClientsResponse> {
        Err(Status::unimplemented("no test asks for this"))
    }

    async fn revoke_client(&self, _: Request<RevokeClientRequest>) -> Answer<RevokeClientResponse> {
        Err(Status::unimplemented("no test asks for this"))
    }

    async fn list_audit_entries(
        &self,
        _: Request<ListAuditEntriesRequest>,
    ) -> Answer<ListAuditEntriesResponse> {
        Err(Status::unimplemented("no test asks for this"))
    }

    async fn verify_audit_log(&self, _: Request<VerifyAuditLogRequest>) -> Answer<VerifyAuditLogResponse> {
        Err(Status::unimplemented("no test asks for this"))
    }
}

#[test]
fn a_remote_is_used_by_name_by_url_and_by_variable() {
    let agent = Agent::start(YOUNG);
    agent.add();
    let url = format!("https://{}", agent.address);
    for host in ["vps1", &url] {
        let (code, out, err) = agent.run(&["access", "whoami", "--host", host, "-o", "csv"]);
        assert_eq!((code, &*out), (0, "name,role,tenant,peer\npanel,unspecified,,\n"), "{err}");
    }
    let by_variable = agent.command(&["access", "whoami", "-o", "json"]).env("INSULA_HOST", "vps1").output();
    assert!(answer(by_variable.unwrap()).1.contains("\"panel\""));
    let (_, list, _) = agent.run(&["remote", "list", "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&list["remotes"][0]["name"], &list["remotes"][0]["url"]), (&"vps1".into(), &url.into()));
    assert_eq!(agent.run(&["remote", "remove", "vps1"]).0, 0);
    assert_eq!(agent.run(&["remote", "list", "-o", "csv"]).1, "name,url,expires\n");
    let (code, _, err) = agent.run(&["access", "whoami", "--host", "vps1"]);
    assert_eq!(code, 2);
    assert!(err.contains("vps1") && err.contains("hint: list them: insula remote list"), "{err}");
}

#[test]
fn nothing_is_kept_of_an_enrolment_that_fails() {
    let agent = Agent::start(YOUNG);
    let other = EnrollmentToken { ca: [9; 32], ..agent.token() };
    let used = EnrollmentToken { secret: [0; 32], ..agent.token() };
    let nowhere = EnrollmentToken { addresses: vec![], ..agent.token() };
    let away = EnrollmentToken { addresses: vec!["127.0.0.1:1".into()], ..agent.token() };
    for (token, code, said) in [
        (other.to_string(), 5, "failed to verify the identity of the agent"),
        (used.to_string(), 5, "the token is of no use"),
        (nowhere.to_string(), 2, "give its URL"),
        (away.to_string(), 6, "127.0.0.1:1"),
        ("insula1-".to_owned(), 2, "not a token"),
    ] {
        let (actual, out, err) = agent.run_with_input(&["remote", "add", "vps1", "--token", "-"], &token);
        assert_eq!((actual, &*out), (code, ""), "{err}");
        assert!(err.contains(said), "{err}");
    }
    let left = fs::read_dir(agent.directory.path().join("remotes")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn a_name_that_is_taken_does_not_use_up_the_token() {
    let agent = Agent::start(YOUNG);
    agent.add();
    let before = fs::read(agent.file("client.pem")).unwrap();
    let token = agent.token().to_string();
    let (code, _, err) = agent.run(&["remote", "add", "vps1", "--token", &token]);
    assert_eq!(code, 4);
    assert!(err.contains("insula remote remove vps1"), "{err}");
    assert_eq!(fs::read(agent.file("client.pem")).unwrap(), before);
}

#[test]
fn an_old_certificate_is_renewed_once() {
    let agent = Agent::start(Ages { enrolled: 61, renewed: Some(0) });
    agent.add();
    let (certificate, key) = (fs::read(agent.file("client.pem")), fs::read(agent.file("client.key")));
    for _ in 0..2 {
        let (code, _, err) = agent.run(&["access", "whoami", "--host", "vps1"]);
        assert_eq!((code, &*err), (0, ""));
        assert_eq!(agent.renewals.load(Ordering::Relaxed), 1);
    }
    assert_ne!(fs::read(agent.file("client.pem")).unwrap(), certificate.unwrap());
    assert_eq!(fs::read(agent.file("client.key")).unwrap(), key.unwrap());
}

#[test]
fn a_certificate_that_is_not_renewed_is_used_until_its_end() {
    let agent = Agent::start(Ages { enrolled: 89, renewed: None });
    agent.add();
    let (code, out, err) = agent.run(&["access", "whoami", "--host", "vps1"]);
    assert_eq!(code, 0);
    assert!(out.contains("panel") && err.contains("could not be renewed") && err.contains("no ink"), "{err}");

    let agent = Agent::start(Ages { enrolled: 91, renewed: Some(0) });
    agent.add();
    let (code, _, err) = agent.run(&["access", "whoami", "--host", "vps1"]);
    assert_eq!(code, 5);
    assert!(err.contains("has expired") && err.contains("insula access token create"), "{err}");
}

#[test]
fn a_certificate_that_the_agent_refuses_says_what_to_do() {
    let agent = Agent::with(YOUNG, |_| authority("another").1);
    agent.add();
    let (code, _, err) = agent.run(&["access", "whoami", "--host", "vps1"]);
    assert_eq!(code, 5, "{err}");
    assert!(
        err.contains("the agent refused this client's certificate\n  caused by: TLS alert UnknownCA"),
        "{err}"
    );
    assert!(err.contains("hint: enroll again"), "{err}");
}

#[test]
fn an_agent_that_is_away_is_unreachable() {
    let agent = Agent::start(YOUNG);
    agent.add();
    fs::write(agent.file("url"), "https://127.0.0.1:1\n").unwrap();
    let (code, _, err) = agent.run(&["access", "whoami", "--host", "vps1"]);
    assert_eq!(code, 6);
    assert!(err.contains("127.0.0.1:1") && err.contains("hint: check that `insulad` runs there"), "{err}");
}
