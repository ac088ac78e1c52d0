//! Files copied into a VPS and out of it, while it runs and while it is stopped.

use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use insula_testkit::{Command, Image, Process, ScratchHost, eventually};

#[test]
fn files_go_in_and_come_out() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--disk", "300M"]);
    let here = tempfile::tempdir().unwrap();
    for state in ["running", "stopped"] {
        println!("{state}");
        a_tree_goes_in_and_out(&host, here.path(), state);
        single_files_are_where_cp_would_put_them(&host, here.path(), state);
        streams_are_files(&host, state);
        wrong_paths_are_told(&host, here.path());
        a_full_disk_leaves_no_half_file(&host, here.path());
        directories_are_listed(&host);
        if state == "running" {
            inside_it_is_all_as_it_was(&host);
            host.insula_ok(&["stop", "web1"]);
        }
    }
    host.insula_ok(&["start", "web1", "--wait", "ready"]);
    let text = host.sh("web1", "cat /srv/stopped/tree/a/plain; stat -c %u:%g:%a /srv/stopped/tree/a/plain");
    assert_eq!(text, "plain\n1000:1001:640", "what went in while it was stopped belongs to the guest's ids");
}

/// Creates files of every kind that is copied, and of some that are not.
fn make_tree(here: &Path) -> PathBuf {
    let tree = here.join("tree");
    if tree.exists() {
        return tree;
    }
    std::fs::create_dir_all(tree.join("a/deeper")).unwrap();
    std::fs::write(tree.join("a/plain"), "plain\n").unwrap();
    std::fs::set_permissions(tree.join("a/plain"), PermissionsExt::from_mode(0o640)).unwrap();
    chown(tree.join("a/plain"), Some(1000), Some(1001)).unwrap();
    std::fs::write(tree.join("a/new\nline"), vec![1; 400_000]).unwrap();
    std::fs::write(tree.join(std::ffi::OsString::from_vec(b"\xff\xfe".to_vec())), "bytes").unwrap();
    symlink("../../../../../../etc/passwd", tree.join("a/link")).unwrap();
    let sparse = std::fs::File::create(tree.join("sparse")).unwrap();
    sparse.write_all_at(b"end", 900 << 20).unwrap();
    tree
}

fn a_tree_goes_in_and_out(host: &ScratchHost, here: &Path, state: &str) {
    let tree = make_tree(here);
    let target = format!("web1/srv/{state}/");
    host.insula(&["file", "push", "-r", path(&tree), &target]).expect_code(3).expect_complaint(&["srv"]);
    host.insula_ok(&["file", "push", "-r", "-p", path(&tree), &target]);
    let back = here.join(state);
    std::fs::create_dir(&back).unwrap();
    host.insula_ok(&["file", "pull", "-r", &format!("web1/srv/{state}/tree"), path(&back)]);
    let described = |tree: &Path| {
        let line = "find . -printf '%P|%y|%m|%U:%G|%l\\n' | sort; find . -type f -print0 | sort -z | xargs -0 sha256sum";
        Command::new("sh").args(["-c", &format!("cd {} && {line}", path(tree))]).run_ok().text()
    };
    assert_eq!(described(&back.join("tree")), described(&tree));
    let blocks = std::fs::metadata(back.join("tree/sparse")).unwrap().blocks();
    assert!(blocks * 512 < 1 << 20, "900 MiB of nothing take {blocks} blocks");
}

fn single_files_are_where_cp_would_put_them(host: &ScratchHost, here: &Path, state: &str) {
    let file = here.join("tree/a/plain");
    let read = |there: &str| host.insula_ok(&["file", "pull", &format!("web1{there}"), "-"]);
    for (target, there) in [("/opt", "/opt/plain"), ("/opt/", "/opt/plain"), ("/opt/named", "/opt/named")] {
        host.insula_ok(&["file", "push", path(&file), &format!("web1{target}")]);
        assert_eq!(read(there), "plain", "{target}");
    }
    let owned = ["--mode", "4755", "--uid", "7", "--gid", "8"];
    host.command("insula")
        .args(["file", "push", path(&file), &format!("web1/opt/{state}/x/owned"), "-p"])
        .args(owned)
        .run_ok();
    let listed = host.insula_json(&["file", "list", &format!("web1/opt/{state}/x")]);
    let entry = &listed["files"][0];
    assert_eq!((&entry["mode"], &entry["uid"], &entry["gid"]), (&2541.into(), &7.into(), &8.into()));
    host.insula_ok(&["file", "pull", &format!("web1/opt/{state}/x/owned"), path(&here.join("here"))]);
    let metadata = std::fs::metadata(here.join("here")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o755, 7), "nobody becomes somebody else here");
    host.insula_ok(&["file", "pull", "web1/etc/os-release", "web1/etc/hostname", path(here)]);
    assert!(std::fs::read_to_string(here.join("os-release")).unwrap().contains("Debian"), "through its link");
    host.insula(&["file", "push", path(&file), "web1/opt/foreign", "--uid", "70000"])
        .expect_code(2)
        .expect_complaint(&["0 to 65535"]);
}

fn streams_are_files(host: &ScratchHost, state: &str) {
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let there = format!("web1/root/stream-{state}");
    host.command("insula").args(["file", "push", "-", &there]).input(sent.clone()).run_ok();
    let back = host.command("insula").args(["file", "pull", &there, "-"]).run_ok();
    assert!(back.stdout == sent, "{} bytes came back", back.stdout.len());
    host.command("insula").args(["file", "push", "-", "web1/root"]).input("x").run().expect_code(4);
}

fn wrong_paths_are_told(host: &ScratchHost, here: &Path) {
    let file = path(&here.join("tree/a/plain")).to_owned();
    let push = |target: &str| host.insula(&["file", "push", &file, target]);
    push("web1/no/such/file").expect_code(3).expect_complaint(&["/no/such"]);
    push("web1/etc/hostname/").expect_code(4).expect_complaint(&["hostname", "Not a directory"]);
    push("web1/etc/hostname/x").expect_code(4);
    push("web1").expect_code(2).expect_complaint(&["web1/etc/motd"]);
    push("nobody/etc/motd").expect_code(3).expect_complaint(&["nobody"]);
    host.insula(&["file", "push", path(&here.join("tree")), "web1/srv"])
        .expect_code(2)
        .expect_complaint(&["-r"]);
    host.insula(&["file", "push", path(&here.join("none")), "web1/srv"]).expect_code(1);
    let pull = |source: &str| host.insula(&["file", "pull", source, path(&here.join("nothing"))]);
    pull("web1/no/such").expect_code(3).expect_complaint(&["/no/such"]);
    pull("web1/etc").expect_code(4).expect_complaint(&["is a directory"]);
    assert!(!here.join("nothing").exists());
    host.insula(&["file", "list", "web1/no/such"]).expect_code(3);
}

/// The disk has 300 MiB. A file that does not fit is not created at all, and existing ones stay.
fn a_full_disk_leaves_no_half_file(host: &ScratchHost, here: &Path) {
    let big = here.join("big");
    if !big.exists() {
        let fill = format!(
            "openssl rand 400000000 >{0} 2>/dev/null || head -c 400000000 /dev/urandom >{0}",
            path(&big)
        );
        Command::new("sh").args(["-c", &fill]).run_ok();
    }
    host.command("insula").args(["file", "push", "-", "web1/root/victim"]).input("kept").run_ok();
    host.insula(&["file", "push", path(&big), "web1/root/victim"])
        .expect_code(4)
        .expect_complaint(&["victim", "hint:"]);
    assert_eq!(host.insula_ok(&["file", "pull", "web1/root/victim", "-"]), "kept");
    let left = names(host, "/root");
    assert!(left.iter().all(|name| !name.starts_with(".insula")), "{left:?}");
    host.command("insula")
        .args(["file", "push", "-", "web1/root/after"])
        .input("there is room again")
        .run_ok();
}

fn directories_are_listed(host: &ScratchHost) {
    let table = host.insula_ok(&["file", "list", "web1/"]);
    assert!(table.lines().next().unwrap().starts_with("MODE"), "{table}");
    let root = table.lines().find(|line| line.contains(" root ")).unwrap_or_else(|| panic!("{table}"));
    assert!(root.starts_with("drwx"), "{root}");
    assert!(names(host, "/etc/ssh").contains(&"sshd_config".to_owned()));
    assert_eq!(names(host, "/etc/hostname"), ["hostname"]);
    assert!(host.insula_ok(&["file", "list", "web1/etc", "-o", "csv"]).starts_with("mode,"));
}

/// Inside the guest, everything is as it was.
fn inside_it_is_all_as_it_was(host: &ScratchHost) {
    host.insula_ok(&["file", "pull", "web1/proc/version", "-"]);
    let pulled = host.insula_ok(&["file", "pull", "web1/proc/1/comm", "-"]);
    assert_eq!(pulled, "systemd", "its own /proc");
    host.sh("web1", "mkdir -p /mnt/tmp && mount -t tmpfs -o size=1M none /mnt/tmp");
    host.command("insula").args(["file", "push", "-", "web1/mnt/tmp/file"]).input("on its tmpfs").run_ok();
    assert_eq!(host.sh("web1", "cat /mnt/tmp/file; umount /mnt/tmp; ls /mnt/tmp"), "on its tmpfs");
}

fn names(host: &ScratchHost, directory: &str) -> Vec<String> {
    let listed = host.insula_json(&["file", "list", &format!("web1{directory}")]);
    let files = listed["files"].as_array().unwrap();
    files.iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// When the client, the guest or the agent dies in the middle, nothing is left of the transfer.
#[test]
fn an_interrupted_transfer_leaves_nothing() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &[]);
    begin_push(&host).kill();
    assert_nothing_is_left(&host);
    let _client = begin_push(&host);
    host.insula_ok(&["stop", "web1"]);
    assert_nothing_is_left(&host);
    begin_push(&host).kill();
    assert_nothing_is_left(&host);
    for state in ["stopped", "running"] {
        if state == "running" {
            host.insula_ok(&["start", "web1"]);
        }
        let _client = begin_push(&host);
        host.agent_kill();
        eventually("the end of the transfer", || (workers(&host) == 0).then_some(()));
        host.agent_start();
        assert_nothing_is_left(&host);
    }
}

/// Starts a transfer that stays in its middle: a part has arrived, and more would come.
fn begin_push(host: &ScratchHost) -> Process {
    let command = host.command("insula").args(["file", "push", "-", "web1/root/half"]);
    let mut push = command.spawn_with(Stdio::piped(), Stdio::null(), Stdio::null());
    let stdin = push.child().stdin.as_mut().unwrap();
    // More than the buffers on the way can hold.
    stdin.write_all(&vec![7; 4 << 20]).unwrap();
    assert_eq!(workers(host), 1);
    push
}

#[track_caller]
fn assert_nothing_is_left(host: &ScratchHost) {
    eventually("the end of the transfer", || (workers(host) == 0).then_some(()));
    let left = names(host, "/root");
    assert!(!left.iter().any(|name| name.contains("half") || name.contains("insula")), "{left:?}");
}

/// How many processes work with files of the host's VPSes, in a guest's cgroup or in the root of
/// one.
fn workers(host: &ScratchHost) -> usize {
    let slot = host.cgroup_root();
    let is_worker = |process: &Path| {
        let read = |file| std::fs::read_to_string(process.join(file)).unwrap_or_default();
        let root = std::fs::read_link(process.join("root")).unwrap_or_default();
        read("comm") == "insula-files\n" && (read("cgroup").contains(&slot) || path(&root).contains(&slot))
    };
    std::fs::read_dir("/proc").unwrap().filter(|entry| is_worker(&entry.as_ref().unwrap().path())).count()
}

/// Keys are added and removed while the VPS runs, while it is stopped, and again when it is
/// rebuilt.
#[test]
fn keys_let_in_and_no_more() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &[]);
    let address = host.vps("web1").interfaces[0].ip_addresses[0].clone();
    let key = host.ssh_key();
    host.ssh(&address, "true").expect_code(255);
    host.insula_ok(&["ssh-key", "add", "web1", &key]);
    assert_eq!(host.ssh(&address, "id -u").expect_code(0).text(), "0");
    host.insula_ok(&["ssh-key", "add", "web1", &key]);
    assert_eq!(host.insula_json(&["ssh-key", "list", "web1"])["sshKeys"].as_array().unwrap().len(), 1);
    assert_eq!(host.sh("web1", "wc -l </root/.ssh/authorized_keys"), "1");
    host.sh("web1", "echo '# mine' >>/root/.ssh/authorized_keys");
    let comment = std::fs::read_to_string(&key).unwrap().trim().split(' ').nth(2).unwrap().to_owned();
    host.insula_ok(&["ssh-key", "remove", "web1", &comment]);
    host.ssh(&address, "true").expect_code(255);
    assert_eq!(host.sh("web1", "cat /root/.ssh/authorized_keys"), "# mine");
    host.insula(&["ssh-key", "remove", "web1", &comment]).expect_code(2).expect_complaint(&[&comment]);
    host.insula_ok(&["stop", "web1"]);
    host.insula_ok(&["ssh-key", "add", "web1", &key]);
    host.insula_ok(&["rebuild", "web1", "--image", "debian-12", "--wait", "ready"]);
    assert_eq!(host.ssh(&address, "id -u").expect_code(0).text(), "0", "the new root has it, too");
    let private = key.trim_end_matches(".pub");
    host.insula(&["ssh-key", "add", "web1", private]).expect_code(2).expect_complaint(&["private"]);
}
