//! The command on another machine, and what it does when the connection breaks.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use insula_testkit::{Command, Image, Outcome, PATIENCE, ScratchHost, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The command as typed on another machine: with a configuration, and without the host's socket.
fn elsewhere(host: &ScratchHost, typed: &[&str]) -> Command {
    let command = host.command("insula").args(typed).env("INSULA_SOCKET", "/nonexistent");
    command.env("INSULA_CONFIG_DIR", host.directory().join("config"))
}

fn run(host: &ScratchHost, typed: &[&str]) -> Outcome {
    elsewhere(host, typed).run()
}

#[test]
fn a_tenant_reaches_its_own_from_elsewhere() {
    let host =
        ScratchHost::builder().image(Image::Debian12).setting("listen", json!("127.0.0.1:8443")).start();
    host.insula_ok(&["create", "web1", "--image", "debian-12", "--tenant", "acme"]);
    host.insula_ok(&["create", "web2", "--image", "debian-12"]);
    let token = ["access", "token", "create", "acme-admin", "--role", "tenant", "--tenant", "acme"];
    let token = host.insula_ok(&token);
    elsewhere(&host, &["remote", "add", "vps1"]).input(token.clone()).run_ok();
    let key = host.directory().join("config/remotes/vps1/client.key");
    assert_eq!(std::fs::metadata(key).unwrap().mode() & 0o777, 0o600);

    let list = run(&host, &["list", "--host", "vps1", "-o", "json"]).expect_code(0).json();
    let names: Vec<_> = list["vpses"].as_array().unwrap().iter().map(|vps| &vps["name"]).collect();
    assert_eq!(names, ["web1"]);
    run(&host, &["start", "web1", "--host", "vps1", "--wait", "ready"]).expect_code(0);
    let by_url = ["exec", "web1", "--host", "https://127.0.0.1:8443", "--", "hostname"];
    assert_eq!(run(&host, &by_url).expect_code(0).text(), "web1");
    run(&host, &["show", "web2", "--host", "vps1"]).expect_code(3);
    run(&host, &["set", "web1", "memory=1G", "--host", "vps1"]).expect_code(5).expect_complaint(&["tenant"]);

    elsewhere(&host, &["remote", "add", "again"])
        .input(token)
        .run()
        .expect_code(5)
        .expect_complaint(&["hint:"]);
    host.insula_ok(&["access", "revoke", "acme-admin"]);
    let refused = run(&host, &["list", "--host", "vps1"]).expect_code(5);
    refused.expect_complaint(&["hint:", "insula remote add"]);
}

/// The connections to the agent's socket by their inodes, including those that it has not accepted
/// yet.
fn connections(host: &ScratchHost) -> BTreeSet<String> {
    let socket = host.socket().display().to_string();
    let table = std::fs::read_to_string("/proc/thread-self/net/unix").unwrap();
    let of_agent = table.lines().filter(|line| line.ends_with(&socket));
    of_agent.filter_map(|line| line.split_whitespace().nth(6).map(str::to_owned)).collect()
}

#[test]
fn a_request_that_the_agent_never_read_is_sent_again() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    host.agent().process().signal(Signal::STOP);
    let before = connections(&host);
    let [out, err] = ["out", "err"].map(|name| host.directory().join(name));
    let mut start = host.command("insula").args(["start", "web1"]).spawn_with(
        Stdio::null(),
        File::create(&out).unwrap().into(),
        File::create(&err).unwrap().into(),
    );
    eventually("the command has connected", || (!connections(&host).is_subset(&before)).then_some(()));
    host.agent_kill();
    host.agent_start();
    let status = start.wait(PATIENCE).expect("the command ends");
    let (out, err) = (std::fs::read_to_string(out).unwrap(), std::fs::read_to_string(err).unwrap());
    assert!(status.success(), "{out}{err}");
    assert_eq!(out, "web1: started\n");
}

/// The cursors in events as JSON lines.
fn cursors(lines: &str) -> Vec<u64> {
    let cursor = |line: &str| serde_json::from_str::<Value>(line).unwrap()["cursor"].as_str()?.parse().ok();
    lines.lines().map(|line| cursor(line).expect("a cursor")).collect()
}

#[test]
fn who_follows_events_misses_none_when_the_agent_dies() {
    let mut host = ScratchHost::with(Image::Debian12);
    let out = host.directory().join("events");
    let follow = ["events", "--follow", "--since", "0", "-o", "json"];
    let mut follow = host.command("insula").args(follow).spawn_with(
        Stdio::null(),
        File::create(&out).unwrap().into(),
        Stdio::null(),
    );
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    host.agent_kill();
    host.agent_start();
    host.insula_ok(&["start", "web1"]);
    host.insula_ok(&["delete", "web1", "--force", "--now"]);
    let all = cursors(&host.insula_ok(&["events", "-o", "json"]));
    let seen = eventually("the last event is seen", || {
        let seen = std::fs::read_to_string(&out).unwrap();
        let whole = &seen[..seen.rfind('\n').map_or(0, |end| end + 1)];
        let seen = cursors(whole);
        (seen.last() >= all.last()).then_some(seen)
    });
    assert_eq!(seen[..all.len()], all);
    follow.signal(Signal::INT);
    assert_eq!(follow.wait(PATIENCE).expect("Ctrl-C ends it").code(), Some(130));
}
