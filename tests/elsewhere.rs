//! A machine whose agent gets the id of another host. It says which host its VPSes belong to, and
//! their guests run on.

use insula_testkit::{Image, ScratchHost};

#[test]
fn an_agent_leaves_vpses_of_another_host_alone_and_says_so() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.insula_ok(&["create", "web1", "--image", "debian-12", "--wait", "ready"]);
    let before = host.insula_json(&["show", "web1"]);
    let file = host.state_dir().join("host-id");
    let own = std::fs::read_to_string(&file).unwrap();
    assert_eq!((&before["host"], &before["epoch"]), (&own.trim().into(), &"1".into()));

    host.agent_stop();
    std::fs::write(&file, "0193a1b2-c3d4-7e5f-8a9b-0123456789ab\n").unwrap();
    host.agent_start();
    assert_eq!(
        host.insula_ok(&["list", "--columns", "name,state", "-o", "csv"]),
        "name,state\nweb1,elsewhere"
    );
    let shown = host.insula_ok(&["show", "web1"]);
    assert!(shown.contains(own.trim()), "{shown}");
    for refused in [&["stop", "web1"][..], &["exec", "web1", "--", "true"], &["delete", "web1", "--force"]] {
        host.insula(refused).expect_code(4).expect_complaint(&["lives on another host", "insula show web1"]);
    }
    let pid = before["initPid"].as_u64().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}/cgroup")).exists(), "its guest runs on");

    host.agent_stop();
    std::fs::write(&file, &own).unwrap();
    host.agent_start();
    let after = host.insula_json(&["show", "web1"]);
    assert_eq!((&after["state"], &after["initPid"]), (&"VPS_STATE_READY".into(), &before["initPid"]));
    host.insula_ok(&["exec", "web1", "--", "true"]);
}
