//! Browsers: gRPC-Web and CORS, where they are switched on.

use std::net::Ipv4Addr;
use std::time::Duration;

use insula_api::v1;
use insula_testkit::ScratchHost;
use prost::Message;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use v1::Role;

use super::client::{Raw, Remote, enroll, host, revoke, tls};

const PATH: &str = "/insula.v1.AccessService/GetCaller";

/// The answer to an HTTP/1.1 request. `None` if the server does not speak it.
fn http(host: &ScratchHost, remote: &Remote, request: &str, body: &[u8]) -> String {
    host.block_on(async {
        let mut line = tls(remote, Ipv4Addr::LOCALHOST.into(), &[]).await;
        let head = request.lines().collect::<Vec<_>>().join("\r\n");
        let head = format!("{head}\r\nHost: vps1\r\nConnection: close\r\n\r\n");
        let mut answer = vec![];
        let exchange = async {
            line.write_all(&[head.as_bytes(), body].concat()).await?;
            line.read_to_end(&mut answer).await
        };
        // A refused client may be cut off without a proper end.
        let _ = tokio::time::timeout(Duration::from_secs(30), exchange).await.expect("an end");
        String::from_utf8_lossy(&answer).to_lowercase()
    })
}

fn preflight(host: &ScratchHost, remote: &Remote, origin: &str) -> String {
    let request = format!(
        "OPTIONS {PATH} HTTP/1.1
Origin: {origin}
Access-Control-Request-Method: POST
Access-Control-Request-Headers: content-type,x-grpc-web
Content-Length: 0"
    );
    http(host, remote, &request, &[])
}

fn call(host: &ScratchHost, remote: &Remote) -> String {
    let request =
        format!("POST {PATH} HTTP/1.1\nContent-Type: application/grpc-web+proto\nContent-Length: 5");
    http(host, remote, &request, &[0, 0, 0, 0, 0]) // a frame with an empty message
}

#[test]
fn off_means_off() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    for answer in [preflight(&host, &panel, "https://panel.example.net"), call(&host, &panel)] {
        assert!(!answer.contains("http/1.1 2") && !answer.contains("access-control"), "{answer}");
    }
}

#[test]
fn scripts_of_the_origins_that_are_named_may_call() {
    let web = json!({ "enabled": true, "allowed_origins": ["https://panel.example.net"] });
    let host = host().setting("grpc_web", web).start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    let answer = preflight(&host, &panel, "https://panel.example.net");
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    assert!(answer.contains("access-control-allow-origin: https://panel.example.net"), "{answer}");
    assert!(answer.contains("access-control-allow-credentials: true"), "{answer}");
    let other = preflight(&host, &panel, "https://evil.example.net");
    assert!(!other.contains("access-control-allow-origin"), "{other}");

    let answer = call(&host, &panel);
    assert!(answer.starts_with("http/1.1 200") && answer.contains("grpc-status:0"), "{answer}");
    assert!(answer.contains("panel"), "{answer}");
    // The other protocol still works.
    host.block_on(panel.client().access().get_caller(v1::GetCallerRequest {})).unwrap();
    revoke(&host, "panel");
    let refused = call(&host, &panel);
    assert!(refused.contains("grpc-status: 16") || refused.contains("grpc-status:16"), "{refused}");
}

/// A page of any origin can make a browser send what a form can, together with the certificate of
/// the browser's user. The answer stays hidden from the page, but the call would have been made.
#[test]
fn what_a_form_can_send_is_no_call() {
    const PATH: &str = "/insula.v1.AccessService/CreateAccessToken";
    let message = |name: &str| {
        let (name, role) = (name.to_owned(), Role::SuperAdmin.into());
        v1::CreateAccessTokenRequest { name, role, ..Default::default() }.encode_to_vec()
    };
    for enabled in [true, false] {
        let host = host().setting("grpc_web", json!({ "enabled": enabled })).start();
        let line = Raw::new(&host, &enroll(&host, "panel", Role::SuperAdmin, ""));
        let form = "application/x-www-form-urlencoded";
        for content_type in [None, Some("text/plain"), Some(form), Some("multipart/form-data; boundary=x")] {
            assert_eq!(line.post(&host, PATH, content_type, &message("evil")), 415, "{content_type:?}");
        }
        assert_eq!(line.post(&host, PATH, Some("application/grpc"), &message("good")), 200);
        let clients = host.insula_ok(&["access", "list"]);
        assert!(clients.contains("good") && !clients.contains("evil"), "{clients}");
    }
}

#[test]
fn a_deadline_ends_a_call_that_was_not_answered() {
    let host = host().setting("grpc_web", json!({ "enabled": true })).start();
    let panel = enroll(&host, "panel", Role::SuperAdmin, "");
    // The first message never comes. Clients for gRPC have timers of their own; this one waits for
    // the server's answer.
    let request = "POST /insula.v1.VpsService/ExecVps HTTP/1.1
Content-Type: application/grpc-web+proto
Grpc-Timeout: 300m
Content-Length: 5";
    let answer = http(&host, &panel, request, &[]);
    assert!(answer.contains("grpc-status: 4") || answer.contains("grpc-status:4"), "{answer}");
}
