//! Connections that only occupy places, callers that send too many requests, and calls that take
//! too long.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use insula_api::{Reason, v1};
use insula_testkit::ScratchHost;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tonic::{Code, Request};
use tonic_types::StatusExt;
use v1::Role;

use super::client::{ADDRESS, Remote, dial, enroll, host, reason, revoke, tls, token};

/// How long an answer may take on a busy machine. Other callers must not make it longer.
const SOON: Duration = Duration::from_secs(5);

#[track_caller]
fn assert_served(host: &ScratchHost, remote: &Remote) {
    let begin = Instant::now();
    host.block_on(remote.client().access().get_caller(v1::GetCallerRequest {})).unwrap();
    assert!(begin.elapsed() < SOON, "an answer took {:?}", begin.elapsed());
}

#[test]
fn who_connects_and_says_nothing_disturbs_nobody_and_is_cut_off() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    let (silent, begin) = (IpAddr::from([127, 0, 0, 9]), Instant::now());
    let mut lines: Vec<_> = (0..400).map(|_| host.block_on(dial(silent, ADDRESS.parse().unwrap()))).collect();
    assert_served(&host, &panel);
    enroll(&host, "next", Role::Viewer, "");
    host.block_on(async {
        for line in &mut lines {
            let mut byte = [0];
            let end = timeout(Duration::from_secs(30), line.read(&mut byte)).await.expect("an end");
            assert!(matches!(end, Ok(0) | Err(_)), "nothing is said to it");
        }
    });
    assert!(begin.elapsed() > SOON, "there is time for a slow handshake");
    assert_served(&host, &panel);
}

#[test]
fn a_thousand_idle_clients_disturb_nobody() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    let lines: Vec<_> = (0..1000)
        .map(|number| {
            let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number);
            host.block_on(tls(&panel, from.into(), &["h2"]))
        })
        .collect();
    assert_served(&host, &panel);
    let next = enroll(&host, "next", Role::Viewer, "");
    assert_served(&host, &next);
    drop(lines);
}

#[test]
fn the_connections_of_a_revoked_client_are_closed() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    let mut line = host.block_on(tls(&panel, Ipv4Addr::LOCALHOST.into(), &["h2"]));
    revoke(&host, "panel");
    let end = host.block_on(async { timeout(Duration::from_secs(30), line.read_to_end(&mut vec![])).await });
    drop(end.expect("an end, whatever was said before"));
}

#[test]
fn one_address_has_no_more_than_its_share_of_connections() {
    let host = host().setting("access", json!({ "connections_per_address": 3 })).start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    let from = |last| IpAddr::from([127, 0, 0, last]);
    let read = |mut line: tokio_rustls::client::TlsStream<tokio::net::TcpStream>| {
        host.block_on(async { timeout(SOON, line.read(&mut [0; 64])).await }).expect("an end or a greeting")
    };
    let _three: Vec<_> = (0..3).map(|_| host.block_on(tls(&panel, from(9), &["h2"]))).collect();
    assert!(
        matches!(read(host.block_on(tls(&panel, from(9), &["h2"]))), Ok(0) | Err(_)),
        "a fourth is closed"
    );
    assert!(matches!(read(host.block_on(tls(&panel, from(8), &["h2"]))), Ok(1..)), "others are greeted");
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let host = host().setting("access", json!({ "requests_per_second": 5 })).start();
    let (eager, calm) = (enroll(&host, "eager", Role::Viewer, ""), enroll(&host, "calm", Role::Viewer, ""));
    let ask = || host.block_on(eager.client().access().get_caller(v1::GetCallerRequest {}));
    let refused = (0..1000).find_map(|_| ask().err()).expect("a limit");
    assert_eq!((refused.code(), reason(&refused)), (Code::ResourceExhausted, Some(Reason::RateLimited)));
    let wait = refused.get_details_retry_info().and_then(|info| info.retry_delay).expect("a time");
    assert!(wait <= Duration::from_millis(200), "{wait:?}");
    assert_served(&host, &calm);
    let root = (0..100).map(|_| host.block_on(host.client().access().get_caller(v1::GetCallerRequest {})));
    assert!(root.into_iter().all(|answer| answer.is_ok()), "root has no limit");
}

#[test]
fn strangers_have_a_small_limit_of_their_own() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    let pin = token(&host, "next", Role::Viewer, "").parse::<insula_types::EnrollmentToken>().unwrap().ca;
    let stranger = host.block_on(insula_api::Client::connect_to_enroll(ADDRESS, pin)).unwrap();
    let ask = || {
        let request = v1::EnrollClientRequest { token: "insula1-guess".into(), ..Default::default() };
        host.block_on(stranger.access().enroll_client(request)).unwrap_err()
    };
    let reasons: Vec<_> = (0..30).map(|_| reason(&ask())).collect();
    assert!(reasons.contains(&Some(Reason::TokenRefused)) && reasons.contains(&Some(Reason::RateLimited)));
    assert_served(&host, &panel);
}

#[test]
fn a_deadline_ends_a_stream_too() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::Viewer, "");
    for client in [panel.client().clone(), host.client()] {
        let mut watch = Request::new(v1::WatchEventsRequest::default());
        watch.set_timeout(Duration::from_secs(2));
        let mut events = host.block_on(client.events().watch_events(watch)).unwrap().into_inner();
        let end = host.block_on(async {
            loop {
                if let Err(end) = events.message().await {
                    break end;
                }
            }
        });
        assert_eq!(end.code(), Code::DeadlineExceeded, "{end:?}");
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let host = host().start();
    let panel = enroll(&host, "panel", Role::SuperAdmin, "");
    let long = v1::BuildImageRequest { definition: "#".repeat(5 << 20), ..Default::default() };
    let refused = host.block_on(panel.client().images().build_image(long)).unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused:?}");
    let mut headers = Request::new(v1::GetCallerRequest {});
    headers.metadata_mut().insert("x-long", "x".repeat(60 << 10).parse().unwrap());
    assert!(host.block_on(panel.client().access().get_caller(headers)).is_err());
    assert_served(&host, &panel);
}
