//! Requests that change something, and what becomes of them if the connection breaks.

#![allow(clippy::disallowed_methods)] // the program that is run is the one under test

mod fake;

use fake::{FakeAgent, answer};
use std::io::Write as _;
use std::process::Stdio;

#[test]
fn a_request_is_sent_again_with_the_same_id() {
    let agent = FakeAgent::start();
    let (code, out, err) = agent.run(&["start", "flaky"]);
    assert_eq!((code, &*out), (0, "flaky: started\n"), "{err}");
    assert_eq!(err.matches("trying again").count(), 1, "{err}");
    let ids = agent.request_ids.lock().unwrap();
    assert_eq!(ids.len(), 3);
    assert!(ids.iter().all(|id| *id == ids[0] && id.len() == 36), "{ids:?}");
}

#[test]
fn labels_are_changed_as_they_are_when_nobody_else_changes_them() {
    let agent = FakeAgent::start();
    let (code, out, err) = agent.run(&["set", "web1", "label.new=2", "memory="]);
    assert_eq!(code, 0, "{err}");
    let note = "[\"labels\", \"limits.memory_bytes\"] r7 {\"kept\": \"1\", \"new\": \"2\"}";
    assert_eq!(out, format!("web1: changed\n  {note}\n"));
    let ids = agent.request_ids.lock().unwrap();
    assert!(ids.len() == 2 && ids[0] != ids[1], "another request has another id: {ids:?}");
}

#[test]
fn who_names_an_etag_hears_of_the_conflict() {
    let (code, _, err) = FakeAgent::start().run(&["set", "web1", "label.new=2", "--etag", "r6"]);
    assert_eq!(code, 4, "{err}");
}

#[test]
fn a_password_comes_from_standard_input() {
    let agent = FakeAgent::start();
    let with_input = |typed: &[&str], input: &[u8]| {
        let mut child = agent.command(typed).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        answer(child.wait_with_output().unwrap())
    };
    let (code, out, _) = with_input(&["passwd", "web1", "--user", "alice"], b" s3cret \r\n");
    assert_eq!((code, &*out), (0, "web1: password set\n  alice \" s3cret \"\n"));
    for (input, said) in [(&b"a\nb\n"[..], "more than one line"), (b"\n", "empty")] {
        let (code, _, err) = with_input(&["passwd", "web1"], input);
        assert_eq!(code, 2);
        assert!(err.contains(said), "{err}");
    }
}

#[test]
fn what_went_to_the_trash_says_how_it_comes_back() {
    let agent = FakeAgent::start();
    let (code, out, _) = agent.run(&["delete", "web1"]);
    let way_back = "to restore it until 2027-01-15T08:00:00Z: insula undelete web1";
    assert_eq!((code, &*out), (0, &*format!("web1: moved to the trash\n  {way_back}\n")));
    assert_eq!(agent.run(&["delete", "web1", "--quiet"]).1, "");
}

#[test]
fn what_was_cancelled_is_no_failure_and_what_was_not_is_one() {
    let agent = FakeAgent::start();
    let (code, out, _) = agent.run(&["operation", "cancel", "id-of-web1"]);
    assert_eq!((code, &*out), (0, "web1: start-vps was cancelled\n"));
    let (code, _, err) = agent.run(&["operation", "cancel", "id-of-web2"]);
    assert_eq!(code, 4);
    assert!(err.contains("done before it could be cancelled"), "{err}");
    let (code, _, err) = agent.run(&["operation", "cancel", "id-of-failing"]);
    assert_eq!(code, 4);
    assert!(err.contains("no room"), "{err}");
}

#[test]
fn events_go_on_behind_the_last_one_when_the_line_breaks() {
    let agent = FakeAgent::start();
    let (code, out, err) = agent.run(&["events", "--follow", "--columns", "cursor"]);
    let cursors: Vec<_> = out.lines().collect();
    assert_eq!(cursors, ["1", "3", "4", "5"], "{err}");
    assert_eq!(code, 2, "the fake's cursor has expired: {err}");
    assert_eq!(err.matches("trying again").count(), 1, "{err}");
    let (code, out, _) = agent.run(&["events", "-o", "json"]);
    let events = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert!(events.map(|event| event["cursor"].clone()).eq(["1", "2", "3", "4"]));
    assert_eq!(code, 0);
    let (_, out, _) = agent.run(&["events", "--since", "2"]);
    assert_eq!(out.lines().count(), 2);
    assert!(out.contains("\u{fffd}[31mevil     ready, was running") && !out.contains('\x1b'), "{out}");
}

#[test]
fn a_token_is_alone_on_standard_output() {
    let agent = FakeAgent::start();
    let typed = ["access", "token", "create", "panel", "--role", "billing"];
    let (code, out, err) = agent.run(&typed);
    assert_eq!((code, &*out), (0, "insula1-token\n"));
    assert!(err.contains("panel") && err.contains("insula remote add"), "{err}");
    let (_, out, err) = agent.run(&[&typed[..], &["-o", "json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["token"], &*err), (&"insula1-token".into(), ""));
    assert_eq!(json["client"]["role"], "ROLE_BILLING");
}

#[test]
fn a_broken_audit_log_is_a_failure() {
    let agent = FakeAgent::start();
    let (code, out, err) = agent.run(&["audit", "verify"]);
    assert_eq!((code, &*out), (1, "chain: broken\nentries: 9\nhead: abc\n"));
    assert!(err.contains("entry 4"), "{err}");
    let (_, listed, _) = agent.run(&["audit", "-o", "csv", "--columns", "sequence,requester"]);
    assert_eq!(listed, "sequence,requester\n7,panel\n");
    assert_eq!(agent.run(&["audit", "list", "-o", "csv", "--columns", "sequence,requester"]).1, listed);
}

#[test]
fn what_was_typed_counts_more_than_the_environment() {
    let agent = FakeAgent::start();
    let socket = agent.directory.path().join("socket");
    let run = |typed: &[&str]| answer(agent.command(typed).env("INSULA_HOST", "nowhere").output().unwrap());
    assert_eq!(run(&["access", "whoami"]).0, 2);
    let (code, out, _) = run(&["access", "whoami", "--socket", socket.to_str().unwrap()]);
    assert_eq!((code, &*out), (0, "name:   root\nrole:   super-admin\npeer:   unix\n"));
}
