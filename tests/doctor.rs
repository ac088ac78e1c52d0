//! What `insula doctor` finds on a host, and what it repairs.

use insula_testkit::{Command, Image, Outcome, ScratchHost, binary};
use serde_json::Value;

fn finding<'a>(answer: &'a Value, check: &str) -> &'a Value {
    let checks = answer["checks"].as_array().unwrap();
    checks.iter().find(|finding| finding["name"] == check).unwrap_or_else(|| panic!("no {check}: {answer}"))
}

#[test]
fn a_host_is_looked_at_with_an_agent_and_without() {
    let mut host = ScratchHost::with(Image::Debian12);
    let look = |host: &ScratchHost| host.insula(&["doctor", "-o", "json"]);
    let answer = look(&host).json();
    assert_eq!(
        finding(&answer, "pool-quotas")["found"],
        host.insula_json(&["pool", "list"])["pools"][0]["quota"]
    );
    for check in ["kernel", "nft", "cgroups", "controllers", "seccomp"] {
        assert_ne!(finding(&answer, check)["state"], "missing", "VPSes run here: {answer}");
    }
    let table = host.insula(&["doctor"]).text();
    assert!(table.contains("CHECK") && table.contains("kernel.pty.max"), "{table}");
    assert!(host.insula(&["doctor", "-o", "csv"]).text().starts_with("check,state,found,what\n"));
    a_foreign_firewall_is_found(&host);
    host.command_as_nobody("insula")
        .args(["doctor", "--fix"])
        .run()
        .expect_code(5)
        .expect_complaint(&["root", "sudo"]);
    host.agent_stop();
    let answer = look(&host).json();
    assert_eq!(finding(&answer, "pool-quotas")["found"], "no agent answers");
}

/// Sets up a firewall like Docker's. This test lives in a network namespace of its own.
fn a_foreign_firewall_is_found(host: &ScratchHost) {
    let nft = |line: &str| Command::new("nft").args([line]).run_ok();
    let state = || {
        let outcome = host.insula(&["doctor", "-o", "json"]);
        (outcome.code, finding(&outcome.json(), "forwarding")["state"].as_str().unwrap().to_owned())
    };
    assert_eq!(state(), (0, "ok".to_owned()), "the agent's own rules are in nobody's way");
    nft(
        "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }",
    );
    assert_eq!(state(), (1, "missing".to_owned()));
    nft("add rule ip filter FORWARD iifname insbr0 accept");
    assert_eq!(state(), (0, "ok".to_owned()));
    nft("delete table ip filter");
}

/// The kernel's numbers are those of the whole machine. In a mount namespace of its own, the test
/// puts others in their place.
#[test]
fn numbers_that_are_too_low_are_raised_and_none_is_lowered() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().to_str().unwrap();
    let insula = binary("insula").display().to_string();
    let run = |line: &str| -> Outcome {
        let places = format!(
            "mount --bind {directory}/sys /proc/sys && mount --bind {directory}/etc /etc/sysctl.d && {line}"
        );
        let program = ["--mount", "--net", "--propagation", "private", "sh", "-c", &places];
        Command::new("unshare").args(program).env("INSULA_SOCKET", "/nowhere").run()
    };
    let doctor = |arguments: &str| run(&format!("{insula} doctor {arguments} -o json"));
    for name in ["sys/kernel/seccomp", "etc"] {
        std::fs::create_dir_all(scratch.path().join(name)).unwrap();
    }
    std::fs::write(scratch.path().join("sys/kernel/seccomp/actions_avail"), "kill_process allow").unwrap();
    let number = |key: &str| scratch.path().join("sys").join(key.replace('.', "/"));
    let high = ["kernel.pid_max", "net.ipv4.neigh.default.gc_thresh3"];
    let names = ["fs.file-max", "user.max_user_namespaces", "net.ipv4.ip_forward", "kernel.pty.max"];
    for (name, value) in
        high.iter().map(|name| (name, "99999999")).chain(names.iter().map(|name| (name, "0")))
    {
        std::fs::create_dir_all(number(name).parent().unwrap()).unwrap();
        std::fs::write(number(name), value).unwrap();
    }
    let sick = doctor("").expect_code(1).json();
    assert_eq!(finding(&sick, "user-namespaces")["state"], "missing");
    assert_eq!(finding(&sick, "kernel.pty.max")["state"], "costs");
    assert_eq!(finding(&sick, "vm.max_map_count")["state"], "ok", "a kernel without it bounds nothing");
    let fixed = doctor("--fix").expect_code(0);
    assert!(fixed.stderr.contains("kernel.pty.max: raised from 0 to 65536"), "{fixed}");
    assert_eq!(fixed.json()["raised"].as_array().unwrap().len(), names.len());
    let file = || std::fs::read_to_string(scratch.path().join("etc/60-insula.conf")).unwrap();
    let first = file();
    for name in names {
        assert_ne!(std::fs::read_to_string(number(name)).unwrap(), "0");
        assert!(first.contains(&format!("-{name} = ")), "{first}");
    }
    for name in high {
        assert_eq!(std::fs::read_to_string(number(name)).unwrap(), "99999999", "nothing is lowered");
        assert!(!first.contains(name), "{first}");
    }
    let again = doctor("--fix").expect_code(0);
    assert!(again.stderr.contains("nothing to fix"), "{again}");
    assert_eq!(file(), first);
    // What was raised by hand since then stays, in the file as in the kernel.
    std::fs::write(scratch.path().join("etc/60-insula.conf"), first.replace("65536", "70000")).unwrap();
    std::fs::write(number("kernel.pty.max"), "5").unwrap();
    doctor("--fix").expect_code(0);
    assert!(file().contains("-kernel.pty.max = 70000\n"), "{}", file());
}
