//! VPSes that are cloned from others, and roots that are rebuilt.

use insula_api::v1;
use insula_testkit::{Image, ScratchHost, call, done};
use v1::VpsState;

use super::boot;

#[test]
fn clones_are_machines_of_their_own_and_a_rebuilt_one_stays_itself() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--memory", "300M"]);
    host.sh("web1", "echo mine >/root/file && sync");
    let snapshot =
        v1::CreateSnapshotRequest { vps: "web1".into(), snapshot: "one".into(), ..Default::default() };
    done!(host, snapshots.create_snapshot(snapshot));
    host.sh("web1", "echo later >/root/file && sync");
    clone(&host);
    rebuild(&host);
}

fn clone(host: &ScratchHost) {
    let request = |name: &str, snapshot: &str| v1::CloneVpsRequest {
        vps: "web1".into(),
        name: name.into(),
        snapshot: snapshot.into(),
        ..Default::default()
    };
    done!(host, vps.clone_vps(request("then", "one")));
    done!(host, vps.clone_vps(v1::CloneVpsRequest { start: true, wait_ready: true, ..request("now", "") }));
    let (original, copy) = (host.vps("web1"), host.vps("now"));
    assert_eq!(original.state(), VpsState::Ready, "it ran on");
    assert_eq!((copy.state(), copy.limits), (VpsState::Ready, original.limits));
    assert_eq!(host.sh("now", "cat /root/file; hostname"), "later\nnow");
    let file = |vps: &v1::Vps| host.pool().join("vps").join(&vps.id).join("root/root/file");
    assert_eq!(std::fs::read_to_string(file(&host.vps("then"))).unwrap(), "mine\n");
    let differing: [fn(&ScratchHost, &str) -> String; 4] = [
        |host, vps| host.sh(vps, "cat /etc/machine-id"),
        |host, vps| host.sh(vps, "cat /etc/ssh/ssh_host_ed25519_key.pub"),
        |host, vps| host.vps(vps).interfaces[0].ip_addresses[0].clone(),
        |host, vps| host.vps(vps).id_range_start.to_string(),
    ];
    for own in differing {
        let (one, other) = (own(host, "web1"), own(host, "now"));
        assert!(!one.is_empty() && one != other, "both have {one}");
    }
    let address = copy.interfaces[0].ip_addresses[0].clone();
    assert!(host.sh("now", "ip -4 -brief addr show eth0").contains(&address));
}

fn rebuild(host: &ScratchHost) {
    let before = host.vps("web1");
    let request = v1::RebuildVpsRequest {
        vps: "web1".into(),
        image: "debian-12".into(),
        force: true,
        start: true,
        wait_ready: true,
        ..Default::default()
    };
    done!(host, vps.rebuild_vps(request));
    assert_eq!(host.sh("web1", "ls /root"), "");
    let after = host.vps("web1");
    assert_eq!((&after.id, after.limits, after.own_limits), (&before.id, before.limits, before.own_limits));
    assert_eq!(after.interfaces[0].ip_addresses, before.interfaces[0].ip_addresses);
    let list = v1::ListSnapshotsRequest { vps: "web1".into() };
    let snapshots = call!(host, snapshots.list_snapshots(list)).unwrap().snapshots;
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots[1].name.starts_with("before-rebuild-"), "{snapshots:?}");

    done!(host, vps.stop_vps(v1::StopVpsRequest { vps: "web1".into(), force: true, ..Default::default() }));
    let back = v1::RestoreSnapshotRequest {
        vps: "web1".into(),
        snapshot: snapshots[1].name.clone(),
        ..Default::default()
    };
    done!(host, snapshots.restore_snapshot(back));
    boot(host, "web1");
    assert_eq!(host.sh("web1", "cat /root/file"), "later");
}
