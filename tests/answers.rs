//! The same answer in every output format.

use insula_testkit::{Image, ScratchHost};

#[test]
fn lists_and_items_come_in_every_format() {
    let host = ScratchHost::with(Image::Debian12);
    assert_eq!(host.insula_json(&["list"])["vpses"].as_array().unwrap().len(), 0);
    for name in ["web2", "web1"] {
        host.insula_ok(&["create", name, "--image", "debian-12", "--profile", "medium"]);
    }
    assert_eq!(
        host.insula_ok(&["list", "--columns", "name,state", "-o", "csv"]),
        "name,state\nweb1,stopped\nweb2,stopped"
    );
    let table = host.insula_ok(&["list"]);
    assert!(table.starts_with("NAME") && table.lines().count() == 3, "{table}");
    let yaml = host.insula_ok(&["list", "-o", "yaml"]);
    assert!(yaml.contains("state: VPS_STATE_STOPPED") && yaml.contains("name: web1"), "{yaml}");
    let json = host.insula_json(&["list", "--state", "stopped"]);
    let names: Vec<_> = json["vpses"].as_array().unwrap().iter().map(|vps| &vps["name"]).collect();
    assert_eq!(names, ["web1", "web2"]);
    assert_eq!(host.insula_json(&["list", "--state", "ready"])["vpses"].as_array().unwrap().len(), 0);

    let shown = host.insula_json(&["show", "web1"]);
    assert_eq!(shown, host.insula_json(&["show", shown["id"].as_str().unwrap()]), "by name as by id");
    assert_eq!(shown["limits"]["memoryBytes"], "4294967296", "64 bits are text in proto3's JSON");
    assert!(host.insula_ok(&["show", "web1"]).contains("memory:"), "for people");
}

#[test]
fn what_is_begun_can_be_waited_for_later() {
    let host = ScratchHost::with(Image::Debian12);
    let id = host.insula_ok(&["create", "web1", "--image", "debian-12", "--wait", "ready", "--async"]);
    host.insula_ok(&["operation", "wait", &id]);
    let operation = host.insula_json(&["operation", "show", &id]);
    assert_eq!((&operation["state"], &operation["percent"]), (&"STATE_SUCCEEDED".into(), &100.into()));
    assert_eq!((&operation["kind"], &operation["targetName"]), (&"create-vps".into(), &"web1".into()));
    let list = host.insula_json(&["operation", "list", "--limit", "1"]);
    assert_eq!(list["operations"][0]["id"], id.as_str(), "the newest first");
    let on = &host.insula_json(&["version"])["host"]["id"];
    assert_eq!((&operation["host"], &list["operations"][0]["host"]), (on, on));
    assert_eq!(host.insula_ok(&["stop", "--all", "-q"]), "");
    assert_eq!(host.insula_ok(&["start", "--all"]), "web1: started");
    host.insula(&["operation", "show", "01932c07-5a5e-7c31-b6a3-2f6e4f5a9b10"]).expect_code(3);
}

#[test]
fn what_the_host_has_is_listed() {
    let host = ScratchHost::with(Image::Debian12);
    let version = host.insula_ok(&["version"]);
    assert!(version.contains("insula: ") && version.contains("agent: "), "{version}");
    let id = std::fs::read_to_string(host.state_dir().join("host-id")).unwrap();
    assert!(version.contains(&format!("host: {}", id.trim())), "{version}");
    assert_eq!(
        host.insula_ok(&["profile", "list", "--columns", "name", "-o", "csv"]),
        "name\nlarge\nmedium\nsmall\nunlimited"
    );
    let pool = host.insula_json(&["pool", "show", "default"]);
    assert_eq!((&pool["driver"], &pool["path"]), (&"btrfs".into(), &host.pool().to_str().unwrap().into()));
    let network = host.insula_json(&["network", "show", "default"]);
    assert!(network["subnet"].as_str().unwrap().ends_with("/24"), "{network}");
    let image = host.insula_json(&["image", "show", "debian-12"]);
    let fingerprint = image["fingerprint"].as_str().unwrap();
    assert_eq!(fingerprint.len(), 64);
    assert_eq!(
        image,
        host.insula_json(&["image", "show", &fingerprint[..12]]),
        "by the beginning of its fingerprint"
    );
    host.insula_ok(&["image", "alias", "create", "stable", "debian-12"]);
    assert_eq!(host.insula_json(&["image", "show", "stable"])["fingerprint"], fingerprint);
    host.insula_ok(&["image", "alias", "delete", "stable"]);
    host.insula(&["image", "show", "stable"]).expect_code(3);
}
