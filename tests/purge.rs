//! `scripts/quickstart --purge` removes what Insula has made on a host, and nothing else.

use std::fs;
use std::path::PathBuf;

use insula_testkit::{Command, Image, Outcome, QUICK_INIT, ScratchHost, Traces, binary, project_file};
use serde_json::Value;

const CREATE: [&str; 5] = ["--image", "debian-12", "--start", "--wait", "ready"];

/// A host with a running VPS. Its settings are written as the script reads them.
fn host_with_a_vps(name: &str) -> ScratchHost {
    let mut host = ScratchHost::builder().image(Image::Debian12).prepare();
    let settings: Value = serde_json::from_slice(&fs::read(config(&host)).unwrap()).unwrap();
    fs::write(config(&host), one_key_a_line(&settings)).unwrap();
    host.agent_start();
    host.replace_init(QUICK_INIT);
    host.insula_ok(&[&["create", name], &CREATE[..]].concat());
    host
}

fn config(host: &ScratchHost) -> PathBuf {
    host.directory().join("agent.yaml")
}

/// The settings as YAML, with mappings at most two deep.
fn one_key_a_line(settings: &Value) -> String {
    let line = |(key, value): (&String, &Value)| match value {
        Value::Object(inner) => {
            let inner = inner.iter().map(|(key, value)| format!("  {key}: {value} # a comment\n"));
            format!("{key}:\n{}", inner.collect::<String>())
        }
        value => format!("{key}: {value}\n"),
    };
    settings.as_object().unwrap().iter().map(line).collect()
}

/// Leaves what the script keeps in a state directory that it has made itself.
fn mark_as_made_by_quickstart(host: &ScratchHost) {
    let own = host.state_dir().join("quickstart");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("forwarding"), "0\n").unwrap();
    fs::write(own.join("id_ed25519"), "a key\n").unwrap();
}

fn quickstart_purge(host: &ScratchHost) -> Command {
    Command::new(project_file("scripts/quickstart"))
        .args(["--purge"])
        .env("INSULA_CONFIG", config(host))
        .env("INSULA_BINARIES", binary("insulad").parent().unwrap())
}

fn purge(host: &ScratchHost) -> Outcome {
    quickstart_purge(host).run()
}

/// A file that is not Insula's stops the removal of its directory, and of nothing else. Without it, all is gone.
fn assert_purged(host: &ScratchHost, said: &str) {
    let foreign = host.state_dir().join("notes");
    fs::write(&foreign, "mine").unwrap();
    let outcome = purge(host).expect_code(1).expect_complaint(&["notes", "not the agent's", "hint:"]);
    assert!(outcome.text().contains(said), "{outcome}");
    assert_eq!(host.traces(), Traces::default());
    assert_eq!(fs::read_to_string(&foreign).unwrap(), "mine");
    assert_eq!(fs::read_dir(host.state_dir()).unwrap().count(), 1, "only the foreign file is left");
    fs::remove_file(foreign).unwrap();
    purge(host).expect_code(0);
    assert!(!host.state_dir().exists() && !host.run_dir().exists());
    assert!(config(host).exists(), "it is the administrator's");
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n", "as before the agent");
}

#[test]
fn an_agent_takes_down_what_it_made() {
    let host = host_with_a_vps("web1");
    mark_as_made_by_quickstart(&host);
    assert_purged(&host, "the agent has taken them down");
}

#[test]
fn what_a_damaged_database_has_forgotten_is_found_by_its_names() {
    let mut host = host_with_a_vps("web1");
    mark_as_made_by_quickstart(&host);
    host.agent_kill();
    for name in ["insula.db", "insula.db-wal"] {
        fs::write(host.state_dir().join(name), "this is not a database".repeat(1000)).unwrap();
    }
    assert_purged(&host, "removing them one by one");
}

#[test]
fn an_agent_that_is_older_than_the_script_loses_only_the_demo() {
    let host = host_with_a_vps("demo");
    host.insula_ok(&[&["create", "web1"], &CREATE[..]].concat());
    let outcome = purge(&host).expect_code(0);
    assert!(outcome.text().contains("are kept"), "{outcome}");
    let left = host.vpses();
    assert_eq!(left.iter().map(|vps| &*vps.name).collect::<Vec<_>>(), ["web1"]);
    assert!(host.sh("web1", "cat /proc/1/comm").contains("init"));
}

#[test]
fn settings_that_the_script_can_not_read_stop_it() {
    let host = ScratchHost::builder().prepare();
    // If they did not, it would find the state of an agent that is older than the script, and keep it.
    fs::create_dir(host.state_dir()).unwrap();
    fs::write(host.state_dir().join("insula.db"), "").unwrap();
    for settings in ["{\"cgroup_root\": \"other\"}", "network: {bridge: other}", "\"cgroup_root\": other"] {
        fs::write(config(&host), settings).unwrap();
        let purge = quickstart_purge(&host).env("INSULA_STATE_DIR", host.state_dir());
        let outcome = purge.env("INSULA_RUN_DIR", host.run_dir()).run();
        outcome.expect_code(1).expect_complaint(&["braces or quoted keys", "hint:"]);
    }
    fs::remove_dir_all(host.state_dir()).unwrap();
}
