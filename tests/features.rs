//! Features: what a guest can do with each and can't without it. `docs/features.md` says what each
//! is for.

use std::fs;

use insula_api::v1;
use insula_testkit::hostile::{CALLS, Verdict};
use insula_testkit::{Image, ScratchHost, eventually};
use insula_types::IdRange;

/// A feature, and a line of shell that works in a guest with the feature and in no other. Each line
/// removes what it has made.
const OPENED: [(&str, &str); 5] = [
    (
        "fuse",
        "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none /mnt \
         && grep -q ' /mnt fuse ' /proc/mounts && umount -l /mnt",
    ),
    ("tun", "ip tuntap add dev tun0 mode tun && ip link set tun0 up && ip link del tun0"),
    (
        "privileged-sysctls",
        "echo 1 >/proc/sys/kernel/shm_rmid_forced && grep -q 1 /proc/sys/kernel/shm_rmid_forced",
    ),
    ("device:loop-control", "exec 3</dev/loop-control"),
    ("nesting", "unshare --user --map-root-user --pid --fork --mount-proc true"),
];

/// Abilities that a guest with any feature lacks as much as one without.
const CLOSED: [&str; 6] = [
    "mknod /root/disk b 254 0",
    "echo 1 >/proc/sys/kernel/sysrq",
    "echo 1 >/proc/sys/user/max_net_namespaces",
    "echo 1 >/proc/sys/vm/drop_caches",
    "exec 3</dev/btrfs-control",
    "date -s 2001-01-01",
];

#[test]
fn a_feature_opens_what_it_says_to_its_guest_and_to_no_other() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("plain", Image::Debian12, &[]);
    let features: Vec<&str> = OPENED.iter().flat_map(|(feature, _)| ["--feature", feature]).collect();
    host.create_ready("open", Image::Debian12, &[&features[..], &["--feature", "keyring"]].concat());
    let sysctl = || fs::read_to_string("/proc/sys/kernel/shm_rmid_forced").unwrap();
    let before = sysctl();
    for (feature, line) in OPENED {
        let run = |vps: &str| host.insula(&["exec", vps, "--no-tty", "--", "sh", "-c", line]);
        let outcome = run("plain");
        assert_ne!(outcome.code, 0, "without {feature}: {outcome}");
        run("open").expect_code(0);
    }
    for line in CLOSED {
        let outcome = host.insula(&["exec", "open", "--no-tty", "--", "sh", "-c", line]);
        assert_ne!(outcome.code, 0, "with all features: {outcome}");
    }
    assert_eq!(sysctl(), before, "the host's own");
    assert!(matches!(keys(&host, "plain"), Some(Verdict::Refused(_))));
    assert!(matches!(keys(&host, "open"), Some(Verdict::Succeeded(_))));
    host.sh("open", "cat /proc/keys");
    no_node_is_the_hosts(&host);
    nodes_are_made_again_at_the_guests_own_reboot(&host);
}

/// Whether the guest can use keyrings.
fn keys(host: &ScratchHost, vps: &str) -> Option<Verdict> {
    let attempt = CALLS.iter().find(|attempt| attempt.name == "keys").unwrap();
    let argv = attempt.argv();
    let exec = ["exec", vps, "--no-tty", "--"].into_iter().chain(argv.iter().map(String::as_str));
    Verdict::parse(&host.insula_ok(&exec.collect::<Vec<_>>()))
}

/// The guest's nodes for devices of the host belong to its root, which may pass them on. The host
/// sees nothing of that, and the guest sees no path of the host.
fn no_node_is_the_hosts(host: &ScratchHost) {
    let before = fs::metadata("/dev/loop-control").unwrap();
    assert_eq!(host.sh("open", "stat -c '%u:%g %a' /dev/fuse /dev/net/tun"), "0:0 666\n0:0 666");
    assert_eq!(host.sh("open", "stat -c '%u:%g %a' /dev/loop-control"), "0:0 660");
    host.sh("open", "chown 1000:1000 /dev/loop-control && chmod 600 /dev/loop-control");
    let after = fs::metadata("/dev/loop-control").unwrap();
    assert_eq!(before.permissions(), after.permissions());
    let seen = host.sh("open", "cat /proc/self/mountinfo");
    assert!(!seen.contains("insula-test"), "nothing of the host's shows: {seen}");
}

fn nodes_are_made_again_at_the_guests_own_reboot(host: &ScratchHost) {
    host.insula(&["exec", "open", "--no-tty", "--", "systemctl", "reboot"]);
    eventually("the guest has rebooted", || {
        let vps = host.vps("open");
        (vps.boots == 2 && vps.state() == v1::VpsState::Ready).then_some(())
    });
    assert_eq!(host.sh("open", "stat -c '%u:%g %a' /dev/loop-control"), "0:0 660");
    for (_, line) in OPENED {
        host.sh("open", line);
    }
}

#[test]
fn features_are_the_profiles_or_the_vpses_own() {
    let host = ScratchHost::with(Image::Debian12);
    profile(&host, "tunnels", &["tun", "keyring"]);
    let create = |name: &str, arguments: &[&str]| {
        let create = ["create", name, "--image", "debian-12", "--profile", "tunnels"];
        host.insula_ok(&[&create, arguments].concat());
    };
    create("of-profile", &[]);
    create("own", &["--feature", "fuse"]);
    create("none", &["--feature", "none"]);
    let features = |name: &str| {
        let vps = host.vps(name);
        (vps.features, vps.own_features.map(|own| own.features))
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(features("of-profile"), (words(&["tun", "keyring"]), None));
    assert_eq!(features("own"), (words(&["fuse"]), Some(words(&["fuse"]))));
    assert_eq!(features("none"), (vec![], Some(vec![])));
    host.insula_ok(&["set", "own", "features="]);
    assert_eq!(features("own"), (words(&["tun", "keyring"]), None));
    host.insula_ok(&["set", "own", "features=none"]);
    host.insula_ok(&["set", "of-profile", "profile=small"]);
    assert_eq!((features("own").0, features("of-profile").0), (vec![], vec![]));
    host.insula_ok(&["set", "none", "features=nesting,device:/dev/loop-control"]);
    let shown = host.insula_json(&["show", "none"]);
    assert_eq!(shown["features"], serde_json::json!(["nesting", "device:loop-control"]));
    assert_eq!(shown["ownFeatures"]["features"], shown["features"]);
    let table = host.insula_ok(&["list", "--columns", "name,features,own-features"]);
    assert!(table.contains("nesting device:loop-control") && table.contains("none"), "{table}");
    host.insula_ok(&["clone", "none", "copy"]);
    assert_eq!(host.vps("copy").features, host.vps("none").features);
    wrong_features_are_refused(&host);
}

fn profile(host: &ScratchHost, name: &str, features: &[&str]) {
    let file = host.directory().join(format!("{name}.yaml"));
    let text = serde_json::json!({ "name": name, "features": features, "networks": ["default"] });
    fs::write(&file, text.to_string()).unwrap();
    host.insula_ok(&["profile", "apply", &file.display().to_string()]);
    let shown = host.insula_json(&["profile", "show", name]);
    assert_eq!(shown["features"], serde_json::json!(features));
}

fn wrong_features_are_refused(host: &ScratchHost) {
    let create = ["create", "a", "--image", "debian-12"];
    let before = host.vps("own");
    let both = ["--feature", "nesting", "--feature", "migratable"];
    for (arguments, code, said) in [
        (
            &[&create[..], &both].concat()[..],
            2,
            &["nesting", "migratable", "can't be combined", "nested"][..],
        ),
        (&[&create[..], &["--feature", "nestng"]].concat(), 2, &["nestng", "nesting"]),
        (&[&create[..], &["--feature", "device:../x"]].concat(), 2, &["../x", "/dev"]),
        (&[&create[..], &["--feature", "device:no-such"]].concat(), 4, &["/dev/no-such", "hint:"]),
        (&["set", "own", "features=migratable,nesting"], 2, &["can't be combined"]),
        (&["set", "own", "features=device:no-such"], 4, &["/dev/no-such"]),
        (&["set", "own", "features=fuze"], 2, &["fuze"]),
    ] {
        host.insula(arguments).expect_code(code).expect_complaint(said);
    }
    assert_eq!(host.vps("own"), before, "nothing was changed");
    assert!(host.vpses().iter().all(|vps| vps.name != "a"));
    let file = host.directory().join("both.yaml");
    fs::write(&file, "name: both\nfeatures: [nesting, migratable]\nnetworks: [default]\n").unwrap();
    let apply = host.insula(&["profile", "apply", &file.display().to_string()]);
    apply.expect_code(2).expect_complaint(&["can't be combined"]);
}

#[test]
fn nesting_comes_with_ids_at_the_next_start() {
    let host = ScratchHost::with(Image::Debian12);
    for name in ["web1", "web2"] {
        host.create_ready(name, Image::Debian12, &[]);
    }
    host.sh("web1", "echo kept >/root/file && chown 1000:65534 /root/file");
    let told = host.insula_ok(&["set", "web1", "features=nesting"]);
    assert!(told.contains("the features take effect at the next start"), "{told}");
    let ids = |name: &str| {
        let vps = host.vps(name);
        IdRange { start: vps.id_range_start, length: vps.id_range_length }
    };
    let before = ids("web1");
    assert_eq!(before.length, IdRange::DEFAULT_LENGTH, "it runs with what it has");
    host.insula_ok(&["restart", "web1", "--wait", "ready"]);
    let after = ids("web1");
    assert_eq!(after.length, 8 * IdRange::DEFAULT_LENGTH);
    assert!(!after.overlaps(&ids("web2")) && !after.overlaps(&before));
    assert_eq!(host.sh("web1", "cat /root/file; stat -c %u:%g /root/file"), "kept\n1000:65534");
    let map = host.sh("web1", "cat /proc/self/uid_map");
    assert_eq!(map.split_whitespace().last(), Some("524288"));
    host.sh("web1", "touch /root/far && chown 524287 /root/far && unshare --map-users=0,65536,65536 --map-root-user true || unshare --user true");
    host.create_ready("web3", Image::Debian12, &["--feature", "nesting"]);
    assert!(!ids("web3").overlaps(&after) && ids("web3").length == after.length);
    // Without the feature the VPS keeps its ids, because files may belong to them.
    host.insula_ok(&["set", "web1", "features="]);
    host.insula_ok(&["restart", "web1", "--wait", "ready"]);
    assert_eq!((ids("web1"), &*host.sh("web1", "stat -c %u /root/far")), (after, "524287"));
}

#[test]
fn a_migratable_guest_boots_and_nests_nothing() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--feature", "migratable"]);
    for kind in ["--uts", "--ipc", "--user", "--pid"] {
        let outcome = host.insula(&["exec", "web1", "--no-tty", "--", "unshare", kind, "true"]);
        outcome.expect_code(1).expect_complaint(&["Operation not permitted"]);
    }
    host.sh("web1", "unshare --mount --net --cgroup true");
    assert_eq!(host.sh("web1", "systemctl is-system-running --wait"), "running");
    let shared = host.sh("web1", "grep -c ' shared:' /proc/self/mountinfo || true");
    assert_eq!(shared, "0", "all mounts are private");
    assert_eq!(host.vps("web1").state(), v1::VpsState::Ready);
}
