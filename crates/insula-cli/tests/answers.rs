//! What the command prints and how it exits, for each answer of an agent.

#![allow(clippy::disallowed_methods)] // the program that is run is the one under test

mod fake;

use fake::{FakeAgent, answer};
use insula_api::Reason;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

#[test]
fn without_an_agent_it_says_how_to_start_one() {
    let (code, out, err) = FakeAgent::start().run(&["list", "--socket", "/nonexistent/socket"]);
    assert_eq!((code, &*out), (6, ""));
    assert!(err.starts_with("error: failed to connect to the agent at /nonexistent/socket\n"), "{err}");
    assert!(err.contains("No such file") && err.contains("hint: start the agent"), "{err}");
}

#[test]
fn a_socket_that_is_closed_to_the_user_is_a_matter_of_permission() {
    let agent = FakeAgent::start();
    let (directory, program) = (agent.directory.path(), agent.directory.path().join("insula"));
    std::fs::copy(env!("CARGO_BIN_EXE_insula"), &program).unwrap(); // the user nobody may have no access to the build directory
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(directory.join("socket"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = std::process::Command::new(program);
    command.args(["list", "--socket"]).arg(directory.join("socket")).uid(65534).gid(65534);
    let (code, _, err) = answer(command.output().expect("run as root: this test becomes another user"));
    assert_eq!(code, 5);
    assert!(err.contains("hint: the agent's socket is for root: use sudo"), "{err}");
}

#[test]
fn every_reason_has_its_exit_code() {
    let agent = FakeAgent::start();
    for reason in Reason::ALL {
        let name = reason.as_str().to_lowercase().replace('_', "-");
        let (code, out, err) = agent.run(&["show", &name]);
        let expected = insula_api::ApiError::new(*reason, "").exit_code();
        assert_eq!((code, &*out), (i32::from(expected), ""), "{name}");
        let lines = format!("error: failed to look at VPS {name}\n  caused by: the cause\nhint: the hint\n");
        assert_eq!(err, lines);
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let agent = FakeAgent::start();
    for (typed, said) in [
        (&["strat", "web1"][..], "'start'"),
        (&["create", "web1"], "--image"),
        (&["create", "web1", "--image", "i", "--memory", "much"], "--memory"),
        (&["start"], "NAME|--all"),
        (&["start", "web1", "--all"], "--all"),
        (&["delete", "--all"], "--all"),
        (&["exec", "web1"], "COMMAND"),
        (&["list", "--state", "asleep"], "creating, stopped"),
        (&["list", "--columns", "nmae"], "expected some of name, id"),
        (&["list", "--label", "env"], "--label"),
        (&["list", "--host", "nowhere"], "insula remote list"),
        (&["list", "--host", "a", "--socket", "b"], "--socket"),
        (&["set", "web1"], "KEY=VALUE"),
        (&["set", "web1", "memory=much"], "much"),
        (&["set", "web1", "memroy=1G"], "delete-protection"),
        (&["suspend", "web1"], "--reason"),
        (&["undelete", "a", "b"], "'b'"),
        (&["events", "--kind", "weather"], "vps_state"),
        (&["access", "token", "create", "panel", "--role", "root"], "super-admin"),
        (&["access", "token", "create", "panel", "--role", "tenant"], "--tenant"),
        (&["audit", "--limit", "0"], "--limit"),
        (&["profile", "apply", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (&["remote", "add", "a b"], "a b"),
        (&["remote", "add", "a", "http://b"], "https://"),
        (&["remote", "add", "a", "b", "--token", "insula1-x"], "not a token"),
        (&["passwd", "web1"], "empty"),
        (&["list", "--timeout", "soon"], "--timeout"),
        (&["image", "build", "/nonexistent.yaml"], "/nonexistent.yaml"),
        (&["create", "web1", "--image", "i", "--ssh-key", "/nonexistent.pub"], "/nonexistent.pub"),
        (&[], "Usage: insula"),
    ] {
        let (code, out, err) = agent.run(typed);
        assert_eq!((code, &*out), (2, ""), "{typed:?}");
        assert!(err.contains(said), "{typed:?}: {err}");
    }
}

#[test]
fn progress_is_a_line_for_each_change() {
    let (code, out, err) = FakeAgent::start().run(&["start", "web1"]);
    assert_eq!((code, &*out), (0, "web1: started\n"));
    assert_eq!(err, "web1: step 0 (0 %)\nweb1: step 1 (50 %)\nweb1: step 2 (100 %)\n");
}

#[test]
fn quiet_and_async_say_what_was_asked_for() {
    let agent = FakeAgent::start();
    assert_eq!(agent.run(&["start", "web1", "--quiet"]), (0, String::new(), String::new()));
    assert_eq!(agent.run(&["start", "web1", "--async"]), (0, "id-of-web1\n".to_owned(), String::new()));
    let (_, out, _) = agent.run(&["start", "web1", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["id"], &json["state"]), (&"id-of-web1".into(), &"STATE_SUCCEEDED".into()));
    let (_, out, _) = agent.run(&["start", "web1", "web2", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["operations"][1]["targetName"], "web2");
}

#[test]
fn an_operation_fails_with_its_error() {
    let (code, _, err) = FakeAgent::start().run(&["operation", "wait", "id-of-failing"]);
    assert_eq!(code, 4);
    assert!(err.ends_with("error: failed to start VPS failing\n  caused by: no room\n"), "{err}");
}

#[test]
fn with_several_each_is_reported_and_the_worst_code_wins() {
    let typed = ["start", "web1", "vps-not-found", "failing", "web2", "--quiet", "-o", "csv"];
    let (code, out, err) = FakeAgent::start().run(&typed);
    assert_eq!(code, 4);
    assert_eq!(out.lines().filter(|line| line.starts_with("id-of-web")).count(), 2, "{out}");
    assert!(err.contains("VPS vps-not-found") && err.contains("VPS failing"), "{err}");

    let (code, out, _) = FakeAgent::start().run(&["pause", "web1", "vps-not-found"]);
    assert_eq!((code, &*out), (3, "web1: paused\n"));
}

#[test]
fn all_means_those_whose_state_allows_it() {
    let agent = FakeAgent::start();
    let (code, out, _) = agent.run(&["pause", "--all"]);
    assert_eq!((code, &*out), (0, "web1: paused\nweb2: paused\n"));
    let (code, out, err) = agent.run(&["start", "--all"]);
    assert_eq!((code, &*out, &*err), (0, "", "There is no VPS in a state that allows this.\n"));
}

#[test]
fn when_the_time_is_over_the_operation_goes_on() {
    let (code, _, err) = FakeAgent::start().run(&["start", "hanging", "--timeout", "200ms"]);
    assert_eq!(code, 1);
    assert!(err.contains("error: not done after 0.2 s\n"), "{err}");
    assert!(
        err.ends_with("start-vps hanging continues; to wait for it: insula operation wait id-of-hanging\n"),
        "{err}"
    );
}

/// Starts a VPS that never becomes ready, and returns the command once it waits.
fn waiting(agent: &FakeAgent) -> (std::process::Child, BufReader<std::process::ChildStderr>) {
    let mut child = agent.command(&["start", "hanging"]).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("50 %") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended early");
    }
    (child, stderr)
}

#[test]
fn ctrl_c_ends_the_waiting_only() {
    let agent = FakeAgent::start();
    let (mut child, mut stderr) = waiting(&agent);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(said, "start-vps hanging continues; to wait for it: insula operation wait id-of-hanging\n");
}

#[test]
fn an_agent_that_dies_while_we_wait_is_unreachable() {
    let agent = FakeAgent::start();
    let (mut child, mut stderr) = waiting(&agent);
    drop(agent);
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(6), "{said}");
    assert!(said.contains("hint: start the agent") && said.contains("continues"), "{said}");
}

#[test]
fn lists_come_in_every_format() {
    let agent = FakeAgent::start();
    let (_, out, _) = agent.run(&["list", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let names: Vec<_> = json["vpses"].as_array().unwrap().iter().map(|vps| &vps["name"]).collect();
    assert_eq!(names, ["web1", "web2"]);
    let (_, out, _) = agent.run(&["list", "-o", "yaml"]);
    assert_eq!(serde_norway::from_str::<serde_json::Value>(&out).unwrap(), json);
    let (_, out, _) = agent.run(&["list", "-o", "csv", "--columns", "name,state,hostname"]);
    assert_eq!(out, "name,state,hostname\nweb1,ready,\u{fffd}[31mevil\nweb2,ready,\u{fffd}[31mevil\n");
    let (_, out, _) = agent.run(&["list", "--columns", "name,state,hostname"]);
    assert_eq!(out.lines().nth(1), Some("web1   ready   \u{fffd}[31mevil"));
    let (code, out, _) = agent.run(&["list", "--state", "stopped", "--columns", "name"]);
    assert_eq!((code, &*out), (0, "NAME\n"));
}

#[test]
fn a_log_that_nobody_looks_at_is_handed_on_as_it_is() {
    let output = FakeAgent::start().command(&["log", "web1"]).output().unwrap();
    assert_eq!(output.stdout, b"[\x1b[32m  OK  \x1b[0m]\r\n\xff");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let agent = FakeAgent::start();
    let mut child = agent.command(&["completion", "bash"]).spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), &*said), (Some(141), ""));
}
