//! Clients over the network: how they enroll, what they may do, and how they lose their access.

mod browser;
pub mod client;
mod connections;
mod opening;
mod secrets;
mod table;
mod web;

use std::time::Duration;

use insula_api::{Client, ConnectError, Reason, v1};
use insula_testkit::{Command, Image, ScratchHost, eventually};
use insula_types::EnrollmentToken;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustix::process::Signal;
use tokio_stream::StreamExt;
use tonic::Status;
use v1::Role;

use client::{ADDRESS, Keys, Remote, enroll, enroll_with, host, reason, revoke, token};

#[test]
fn a_client_enrolls_once() {
    let host = host().start();
    let token = token(&host, "panel", Role::Billing, "");
    let keys = Keys::new();
    let panel = enroll_with(&host, &token, &keys).unwrap();
    let caller =
        host.block_on(panel.client().access().get_caller(v1::GetCallerRequest {})).unwrap().into_inner();
    assert_eq!((&*caller.name, caller.role()), ("panel", Role::Billing));
    assert!(caller.peer.starts_with("127.0.0.1:"), "{}", caller.peer);

    let again = enroll_with(&host, &token, &keys).unwrap();
    assert_eq!(again.certificate, panel.certificate, "a line that was cut is no loss");
    let thief = enroll_with(&host, &token, &Keys::new()).unwrap_err();
    assert_eq!(reason(&thief), Some(Reason::TokenRefused));

    let audit = v1::ListAuditEntriesRequest { object: "panel".into(), ..Default::default() };
    let audit = host.block_on(host.client().access().list_audit_entries(audit)).unwrap().into_inner().entries;
    let told: Vec<_> =
        audit.iter().map(|entry| (&*entry.requester, &*entry.action, &*entry.result)).collect();
    assert_eq!(told, [("panel", "EnrollClient", "SUCCEEDED"), ("root", "create-access-token", "SUCCEEDED")]);
}

#[test]
fn all_tokens_but_the_right_one_are_refused_alike() {
    let host = host().start();
    let good = token(&host, "panel", Role::Operator, "");
    let parsed: EnrollmentToken = good.parse().unwrap();
    let foreign = EnrollmentToken { secret: [0; 32], ..parsed.clone() };
    let unknown = EnrollmentToken { client: insula_types::ClientId::new(), ..parsed.clone() };
    let revoked = token(&host, "old", Role::Operator, "");
    revoke(&host, "old");
    let expired = v1::CreateAccessTokenRequest {
        name: "late".into(),
        role: Role::Viewer.into(),
        time_to_live: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        ..Default::default()
    };
    let expired =
        host.block_on(host.client().access().create_access_token(expired)).unwrap().into_inner().token;
    let messages: Vec<String> = [foreign.to_string(), unknown.to_string(), revoked, expired]
        .iter()
        .map(|token| {
            let status = enroll_with(&host, token, &Keys::new()).unwrap_err();
            assert_eq!(reason(&status), Some(Reason::TokenRefused));
            assert_eq!(status.code(), tonic::Code::Unauthenticated);
            status.message().to_owned()
        })
        .collect();
    assert!(messages.windows(2).all(|two| two[0] == two[1]), "{messages:?}");
    enroll_with(&host, &good, &Keys::new()).unwrap();
}

#[test]
fn a_retry_gets_the_same_token_also_from_the_next_agent() {
    let mut host = host().start();
    let request = v1::CreateAccessTokenRequest {
        name: "panel".into(),
        role: Role::Billing.into(),
        request_id: "1".into(),
        ..Default::default()
    };
    let ask = |host: &ScratchHost, request: &v1::CreateAccessTokenRequest| {
        host.block_on(host.client().access().create_access_token(request.clone()))
    };
    let first = ask(&host, &request).unwrap().into_inner();
    host.agent_kill();
    host.agent_start();
    assert_eq!(ask(&host, &request).unwrap().into_inner().token, first.token);
    let other = v1::CreateAccessTokenRequest { role: Role::SuperAdmin.into(), ..request.clone() };
    assert_eq!(reason(&ask(&host, &other).unwrap_err()), Some(Reason::RequestIdReused));
    let taken = v1::CreateAccessTokenRequest { request_id: String::new(), ..request };
    assert_eq!(reason(&ask(&host, &taken).unwrap_err()), Some(Reason::ClientExists));
    for (name, role, tenant) in [
        ("root", Role::Viewer, ""),
        ("insulad", Role::Viewer, ""),
        ("a", Role::Tenant, ""),
        ("a", Role::Viewer, "acme"),
    ] {
        let wrong = v1::CreateAccessTokenRequest {
            name: name.into(),
            role: role.into(),
            tenant: tenant.into(),
            ..Default::default()
        };
        assert_eq!(
            reason(&ask(&host, &wrong).unwrap_err()),
            Some(Reason::InvalidArgument),
            "{name} {role:?}"
        );
    }
}

#[test]
fn another_agent_is_found_out_before_it_hears_the_token() {
    let host = host().start();
    let token: EnrollmentToken = token(&host, "panel", Role::Billing, "").parse().unwrap();
    assert_eq!(token.addresses[0], ADDRESS);
    let error = host.block_on(Client::connect_to_enroll(ADDRESS, [7; 32])).unwrap_err();
    assert!(matches!(error, ConnectError::NotTheAgent { .. }), "{error:?}");
    host.block_on(Client::connect_to_enroll(ADDRESS, token.ca)).unwrap();
}

#[test]
fn without_a_certificate_nothing_is_served_but_enrollment() {
    let host = host().start();
    let pin = token(&host, "panel", Role::Billing, "").parse::<EnrollmentToken>().unwrap().ca;
    let stranger = host.block_on(Client::connect_to_enroll(ADDRESS, pin)).unwrap();
    let refused = [
        host.block_on(stranger.host().get_host(v1::GetHostRequest {})).unwrap_err(),
        host.block_on(stranger.access().get_caller(v1::GetCallerRequest {})).unwrap_err(),
        host.block_on(stranger.access().renew_certificate(v1::RenewCertificateRequest::default()))
            .unwrap_err(),
    ];
    for status in refused {
        assert_eq!(reason(&status), Some(Reason::Unauthenticated), "{status:?}");
    }
    let raw = client::Raw::stranger(&host);
    for path in [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/insula.v1.VpsService/Invented",
        "/",
    ] {
        let status = raw.call(&host, path, vec![]).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated, "{path}: {status:?}");
    }
}

/// A certificate of this agent's CA that the agent does not know of.
fn forged(host: &ScratchHost, params: CertificateParams) -> Remote {
    let pki = host.state_dir().join("pki");
    let read = |name: &str| std::fs::read_to_string(pki.join(name)).unwrap();
    let issuer =
        Issuer::from_ca_cert_pem(&read("ca.pem"), KeyPair::from_pem(&read("ca.key")).unwrap()).unwrap();
    signed_by(host, &issuer, params)
}

fn signed_by(host: &ScratchHost, issuer: &Issuer<'_, KeyPair>, mut params: CertificateParams) -> Remote {
    let keys = Keys::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&keys.pair, issuer).unwrap().pem();
    let ca = std::fs::read_to_string(host.state_dir().join("pki/ca.pem")).unwrap();
    host.block_on(Remote::connect(&ca, &certificate, &keys))
}

#[test]
fn expired_foreign_and_unknown_certificates_are_refused() {
    let host = host().start();
    let call = |remote: &Remote| {
        let call = host.block_on(remote.client().access().get_caller(v1::GetCallerRequest {}));
        call.map(drop).unwrap_err()
    };
    let unknown = call(&forged(&host, CertificateParams::default()));
    assert_eq!(reason(&unknown), Some(Reason::Unauthenticated), "{unknown:?}");

    let mut expired = CertificateParams::default();
    expired.not_after = (std::time::SystemTime::now() - Duration::from_secs(60)).into();
    let expired = call(&forged(&host, expired));
    assert_eq!(insula_api::client::refused_certificate(&expired).as_deref(), Some("CertificateExpired"));

    let mut other = CertificateParams::default();
    other.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let foreign = Issuer::new(other, KeyPair::generate().unwrap());
    let foreign = call(&signed_by(&host, &foreign, CertificateParams::default()));
    let alert = insula_api::client::refused_certificate(&foreign);
    assert!(alert.is_some(), "{foreign:?}");
}

type Events = tonic::Streaming<v1::WatchEventsResponse>;

async fn watch(remote: &Remote) -> Events {
    remote.client().events().watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner()
}

/// A program that runs for a long time inside `web1`.
async fn run_program(remote: &Remote) -> tonic::Streaming<v1::ExecVpsResponse> {
    let command = ["sleep", "1000"].map(str::to_owned).to_vec();
    let start = v1::exec_vps_request::Start { vps: "web1".into(), command, ..Default::default() };
    let start = v1::ExecVpsRequest { request: Some(v1::exec_vps_request::Request::Start(start)) };
    let input = tokio_stream::once(start).chain(tokio_stream::pending());
    let mut output = remote.client().vps().exec_vps(input).await.unwrap().into_inner();
    assert!(output.message().await.unwrap().is_some(), "the program runs");
    output
}

/// Waits for the next event about a change of access.
async fn access_event(events: &mut Events) -> v1::AccessEvent {
    loop {
        let event = events.message().await.unwrap().expect("it goes on").event;
        if let Some(v1::event::Payload::Access(access)) = event.and_then(|event| event.payload) {
            return access;
        }
    }
}

#[test]
fn a_revocation_is_known_at_once_and_everywhere() {
    let host = host().image(Image::Debian12).start();
    host.insula_ok(&["create", "web1", "--image", "debian-12", "--wait", "ready"]);
    let admin = enroll(&host, "admin", Role::SuperAdmin, "");
    let other = enroll(&host, "other", Role::Viewer, "");
    let events = host.block_on(watch(&admin));
    let mut output = host.block_on(run_program(&admin));
    let mut others = host.block_on(watch(&other));
    revoke(&host, "admin");

    let refused = |status: Status| assert_eq!(reason(&status), Some(Reason::Unauthenticated), "{status:?}");
    host.block_on(async {
        refused(events.filter_map(Result::err).next().await.expect("it ends with an error"));
        refused(output.message().await.unwrap_err());
        let again = Remote::connect(&admin.ca, &admin.certificate, &admin.keys).await;
        for connection in [&admin, &again] {
            let call = connection.client().access().get_caller(v1::GetCallerRequest {}).await;
            refused(call.unwrap_err());
        }
        let heard = access_event(&mut others).await;
        assert_eq!((heard.change(), &*heard.client), (v1::access_event::Change::Revoked, "admin"));
    });
    enroll(&host, "admin", Role::SuperAdmin, ""); // the name is free again
}

#[test]
fn certificates_are_renewed_by_their_holders() {
    let host = host().start();
    let first = enroll(&host, "panel", Role::Billing, "");
    let keys = Keys::new();
    let request = || v1::RenewCertificateRequest { certificate_request: keys.request() };
    let renew = || host.block_on(first.client().access().renew_certificate(request())).unwrap().into_inner();
    let renewed = renew();
    assert_ne!(renewed.certificate, first.certificate);
    assert_eq!(renew().certificate, renewed.certificate, "a retry");
    for (certificate, keys) in [(&renewed.certificate, &keys), (&first.certificate, &first.keys)] {
        let remote = host.block_on(Remote::connect(&first.ca, certificate, keys));
        host.block_on(remote.client().access().get_caller(v1::GetCallerRequest {})).unwrap();
    }
    let root = host.block_on(host.client().access().renew_certificate(request())).unwrap_err();
    assert_eq!(reason(&root), Some(Reason::ClientNotFound), "root has none");
    let none = v1::RenewCertificateRequest { certificate_request: "none".into() };
    let none = host.block_on(first.client().access().renew_certificate(none)).unwrap_err();
    assert_eq!(reason(&none), Some(Reason::InvalidArgument));
}

#[test]
fn the_server_gets_a_new_certificate_while_connections_live() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    let mut events = host
        .block_on(panel.client().events().watch_events(v1::WatchEventsRequest::default()))
        .unwrap()
        .into_inner();
    assert!(host.block_on(events.message()).unwrap().is_some());
    let shown = || host.block_on(client::server_certificate(&panel));
    let before = shown();
    assert_eq!(shown(), before);
    host.agent().process().signal(Signal::HUP);
    eventually("a new certificate", || (shown() != before).then_some(()));
    // The old connection has not noticed it.
    token(&host, "next", Role::Viewer, "");
    assert!(host.block_on(events.message()).unwrap().is_some());
}

#[test]
fn older_tls_and_none_at_all_are_refused() {
    let host = host().start();
    let script = "import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.maximum_version = getattr(ssl.TLSVersion, sys.argv[1])
try:
    with socket.create_connection(('127.0.0.1', 8443)) as line, context.wrap_socket(line) as tls:
        print(tls.version())
except ssl.SSLError as error:
    print(error.reason)";
    let python = |version| Command::new("python3").args(["-c", script, version]).run_ok().text();
    assert_eq!(python("TLSv1_3"), "TLSv1.3");
    assert_eq!(python("TLSv1_2"), "TLSV1_ALERT_PROTOCOL_VERSION");
    let plain = tonic::transport::Endpoint::from_static("http://127.0.0.1:8443");
    let plain =
        host.block_on(async { plain.connect().await.map(v1::host_service_client::HostServiceClient::new) });
    if let Ok(mut plain) = plain {
        assert!(host.block_on(plain.get_host(v1::GetHostRequest {})).is_err(), "it is not HTTP");
    }
}
