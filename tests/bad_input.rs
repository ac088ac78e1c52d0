//! Invalid requests. Each gets a message that says what is wrong and why, the right exit code, and
//! leaves nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use insula_testkit::{Image, ScratchHost};

/// A command, its exit code, and the texts that its message must contain.
type Case<'a> = (&'a [&'a str], i32, &'a [&'a str]);

#[track_caller]
fn check(host: &ScratchHost, cases: &[Case<'_>]) {
    for (arguments, code, texts) in cases {
        host.insula(arguments).expect_code(*code).expect_complaint(texts);
    }
}

#[test]
fn what_can_not_be_made_is_not_made() {
    let host = ScratchHost::with(Image::Debian12);
    host.insula_ok(&["create", "taken", "--image", "debian-12", "--network", "default"]);
    let gateway = host.insula_json(&["network", "show", "default"])["gateway"].as_str().unwrap().to_owned();
    let taken = host.vps("taken").interfaces[0].ip_addresses[0].clone();
    let long = "a".repeat(64);
    names_and_references(&host, &long);
    limits(&host);
    check(
        &host,
        &[
            (&["create", "a", "--image", "debian-12", "--ip", "192.0.2.77"], 2, &["192.0.2.77", "outside"]),
            (&["create", "a", "--image", "debian-12", "--ip", &gateway], 2, &[&gateway]),
            (&["create", "a", "--image", "debian-12", "--ip", &taken], 4, &[&taken, "another VPS", "hint:"]),
            (&["create", "a", "--image", "debian-12", "--ip", "::1"], 2, &["::1"]),
            (&["create", "a", "--image", "debian-12", "--hostname", "a b"], 2, &["host name", "a b"]),
        ],
    );
    keys(&host);
    assert_eq!(host.vpses().len(), 1, "nothing was made");
    assert_eq!(host.insula_json(&["network", "show", "default"])["assignedAddresses"], 1);
}

fn names_and_references(host: &ScratchHost, long: &str) {
    check(
        host,
        &[
            (&["create", "Web", "--image", "debian-12"], 2, &["VPS name", "Web", "a-z"]),
            (&["create", "", "--image", "debian-12"], 2, &["VPS name", "empty"]),
            (&["create", "a_b", "--image", "debian-12"], 2, &["VPS name", "a_b"]),
            (&["create", "web-", "--image", "debian-12"], 2, &["VPS name", "hyphen"]),
            (&["create", "../etc", "--image", "debian-12"], 2, &["VPS name", "../etc"]),
            (&["create", long, "--image", "debian-12"], 2, &["VPS name", "63"]),
            (&["create", "taken", "--image", "debian-12"], 4, &["taken", "already", "hint:"]),
            (&["create", "a", "--image", "debian-99"], 3, &["image", "debian-99", "hint:", "debian-12"]),
            (&["create", "a", "--image", "../x"], 2, &["image", "../x"]),
            (&["create", "a", "--image", "debian-12", "--profile", "huge"], 3, &["profile", "huge", "small"]),
            (&["create", "a", "--image", "debian-12", "--network", "lan"], 3, &["network", "lan", "default"]),
            (&["create", "a"], 2, &["--image"]),
            (&["creat", "a"], 2, &["creat", "create"]),
        ],
    );
}

fn limits(host: &ScratchHost) {
    check(
        host,
        &[
            (&["create", "a", "--image", "debian-12", "--memory", "1k"], 2, &["memory", "at least"]),
            (&["create", "a", "--image", "debian-12", "--memory", "much"], 2, &["--memory", "much"]),
            (&["create", "a", "--image", "debian-12", "--memory", "-1G"], 2, &["--memory", "-1G"]),
            (&["create", "a", "--image", "debian-12", "--memory", "99999999999999G"], 2, &["--memory"]),
            (&["create", "a", "--image", "debian-12", "--disk", "1k"], 2, &["disk", "at least"]),
            (&["create", "a", "--image", "debian-12", "--cpus", "0"], 2, &["cpus", "at least"]),
            (&["create", "a", "--image", "debian-12", "--cpus", "4000000"], 2, &["cpus", "at most"]),
            (&["create", "a", "--image", "debian-12", "--processes", "1"], 2, &["processes", "at least"]),
        ],
    );
}

fn keys(host: &ScratchHost) {
    let private = host.ssh_key().trim_end_matches(".pub").to_owned();
    let nonsense = host.directory().join("nonsense.pub").display().to_string();
    fs::write(&nonsense, "this is no key\n").unwrap();
    check(
        host,
        &[
            (
                &["create", "a", "--image", "debian-12", "--ssh-key", "/no/such.pub"],
                2,
                &["/no/such.pub", "No such file"],
            ),
            (&["create", "a", "--image", "debian-12", "--ssh-key", &private], 2, &["private key"]),
            (&["create", "a", "--image", "debian-12", "--ssh-key", &nonsense], 2, &["public key"]),
        ],
    );
}

#[test]
fn what_does_not_fit_the_state_is_refused() {
    let host = ScratchHost::with(Image::Debian12);
    host.insula_ok(&["create", "web1", "--image", "debian-12"]);
    host.insula_ok(&["snapshot", "create", "web1", "one"]);
    check(
        &host,
        &[
            (&["exec", "web1", "--", "true"], 4, &["web1", "stopped", "hint:", "insula start web1"]),
            (&["console", "web1"], 4, &["web1", "stopped", "hint:"]),
            (&["pause", "web1"], 4, &["web1", "stopped"]),
            (&["snapshot", "create", "web1", "one"], 4, &["one", "already", "hint:"]),
            (&["snapshot", "create", "web1", "../one"], 2, &["../one"]),
            (&["snapshot", "restore", "web1", "two"], 3, &["two", "web1", "hint:"]),
            (&["snapshot", "delete", "web1", "two"], 3, &["two", "web1"]),
        ],
    );
    host.insula_ok(&["stop", "web1"]); // what is so already is no error
    host.insula_ok(&["start", "web1"]);
    host.insula_ok(&["start", "web1"]);
    check(
        &host,
        &[
            (&["delete", "web1"], 4, &["web1", "hint:", "--force"]),
            (&["snapshot", "restore", "web1", "one"], 4, &["web1", "hint:", "stop"]),
            (&["resume", "nobody"], 3, &["nobody"]),
        ],
    );
    host.insula_ok(&["pause", "web1"]);
    check(&host, &[(&["exec", "web1", "--", "true"], 4, &["web1", "paused", "insula resume web1"])]);
    host.insula_ok(&["resume", "web1"]);
    host.sh("web1", "true");
}

#[test]
fn what_is_not_there_is_not_found() {
    let host = ScratchHost::builder().start();
    let id = "01932c07-5a5e-7c31-b6a3-2f6e4f5a9b10";
    for command in ["show", "start", "stop", "restart", "pause", "resume", "delete", "log", "console"] {
        check(&host, &[(&[command, "nobody"], 3, &["nobody"]), (&[command, id], 3, &[id])]);
    }
    check(
        &host,
        &[
            (&["exec", "nobody", "--", "true"], 3, &["nobody"]),
            (&["snapshot", "list", "nobody"], 3, &["nobody"]),
            (&["image", "show", "nothing"], 3, &["nothing"]),
            (&["image", "delete", "nothing"], 3, &["nothing"]),
            (&["profile", "show", "nothing"], 3, &["nothing"]),
            (&["network", "show", "nothing"], 3, &["nothing"]),
            (&["pool", "show", "nothing"], 3, &["nothing"]),
            (&["operation", "wait", id], 3, &[id]),
            (&["image", "build", "/no/such.yaml"], 2, &["/no/such.yaml"]),
            (&["create", "a", "--image", "debian-12"], 3, &["debian-12", "hint:", "insula image build"]),
        ],
    );
    let definition = host.directory().join("wrong.yaml").display().to_string();
    fs::write(&definition, "version: 1\nname: x\npakages: []\n").unwrap();
    check(&host, &[(&["image", "build", &definition], 2, &["pakages"])]);
}

#[test]
fn the_socket_is_for_root() {
    let host = ScratchHost::builder().start();
    // Either the directory keeps the user out, or the socket does.
    for mode in [0o700, 0o711] {
        fs::set_permissions(host.run_dir(), fs::Permissions::from_mode(mode)).unwrap();
        let list = host.command_as_nobody("insula").args(["list"]).run();
        list.expect_code(5).expect_complaint(&["hint:", "sudo"]);
    }
    host.insula(&["--socket", "/no/such.sock", "list"])
        .expect_code(6)
        .expect_complaint(&["/no/such.sock", "hint:"]);
}
