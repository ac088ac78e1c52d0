//! Limits hold from a guest's first instruction.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use insula_testkit::{Image, Process, ScratchHost, eventually};

#[test]
fn memory_is_limited() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--memory", "256M"]);
    // tail(1) keeps a line that never ends, until the kernel kills it.
    host.insula(&["exec", "web1", "--", "tail", "/dev/zero"]).expect_code(137);
    assert_eq!(host.sh("web1", "cat /proc/1/comm"), "systemd", "the guest has survived it");
    assert!(host.usage("web1").memory_bytes <= 256 << 20);
}

#[test]
fn processes_are_limited() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--processes", "100"]);
    let line = "for i in $(seq 150); do sleep 600 >/dev/null 2>&1 & done";
    host.insula(&["exec", "web1", "--", "sh", "-c", line]).expect_code(2).expect_complaint(&["fork"]);
    let left = host.usage("web1").processes;
    assert!((95..=100).contains(&left), "{left} processes, when the shell has ended");
    host.insula_ok(&["stop", "--force", "web1"]);
}

#[test]
fn cpu_time_is_limited() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--cpus", "0.5"]);
    let used = || host.usage("web1").cpu_ns;
    let (started, before) = (Instant::now(), used());
    host.insula(&["exec", "web1", "--", "timeout", "3", "sh", "-c", "while :; do :; done"]).expect_code(124);
    let (milliseconds, used_ns) = (started.elapsed().as_millis(), u128::from(used() - before));
    let share = used_ns / 10_000 / milliseconds;
    // The period of the limit is a tenth of a second, and one more may have begun.
    assert!((5..=56).contains(&share), "{share} % of a CPU in {milliseconds} ms");
}

#[test]
fn the_disk_is_limited() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &["--disk", "200M"]);
    let fill = "dd if=/dev/zero of=/root/fill bs=64k; sync";
    let outcome = host.insula(&["exec", "web1", "--", "sh", "-c", fill]);
    assert!(
        outcome.stderr.contains("quota exceeded") || outcome.stderr.contains("No space left"),
        "{outcome}"
    );
    let bytes: u64 = host.sh("web1", "stat -c %s /root/fill").parse().unwrap();
    assert!((150 << 20..=200 << 20).contains(&bytes), "{bytes} bytes fitted into 200 MiB");
    // The classic way around btrfs's quotas.
    host.insula(&["exec", "web1", "--", "sh", "-c", "echo more >/root/more && sync /root/more"]);
    assert!(host.usage("web1").disk_bytes <= 201 << 20);
}

#[test]
fn who_takes_much_of_a_full_host_steps_back() {
    let mut host = ScratchHost::with(Image::Debian12);
    host.create_ready("modest", Image::Debian12, &[]);
    host.create_ready("greedy", Image::Debian12, &["--cpu-weight", "200"]);
    let [modest, greedy] = ["modest", "greedy"].map(|name| host.vps(name).id);
    let mut load = fill_cpus(&host, "greedy");
    await_weight(&host, &greedy, 2);
    await_weight(&host, &modest, 100); // its boot may have taken much
    host.insula_ok(&["set", "greedy", "cpu-weight=400"]);
    await_weight(&host, &greedy, 4);

    load.kill();
    await_weight(&host, &greedy, 400);

    host.agent_kill();
    let (file, _) = weight_file(&host, &greedy);
    std::fs::write(file, "2").expect("what a dead agent leaves");
    host.agent_start();
    await_weight(&host, &greedy, 400);

    let _load = fill_cpus(&host, "greedy");
    await_weight(&host, &greedy, 4);
    host.agent_stop();
    assert_eq!(weight(&host, &greedy), 400, "when an agent ends, nobody looks after that any more");
}

/// Programs in a VPS that want more CPU time than the host has, until their client is gone.
fn fill_cpus(host: &ScratchHost, vps: &str) -> Process {
    let line = "for i in $(seq $(($(nproc) * 2))); do while :; do :; done & done; read end; kill 0";
    let exec = host.command("insula").args(["exec", "--no-tty", vps, "--", "sh", "-c", line]);
    exec.spawn_with(Stdio::piped(), Stdio::null(), Stdio::null())
}

fn await_weight(host: &ScratchHost, id: &str, wanted: u32) {
    eventually(&format!("a weight of {wanted}"), || (weight(host, id) == wanted).then_some(()));
}

/// The weight that the kernel gives a VPS, in terms of cgroup2, where the default is 100.
fn weight(host: &ScratchHost, id: &str) -> u32 {
    let (file, usual) = weight_file(host, id);
    let text = std::fs::read_to_string(file).expect("a weight");
    (text.trim().parse::<u32>().expect("a number") * 100).div_ceil(usual)
}

/// The file with the weight, and the default in its terms.
fn weight_file(host: &ScratchHost, id: &str) -> (PathBuf, u32) {
    let groups: Vec<_> = host.groups().into_iter().filter(|group| group.ends_with(id)).collect();
    let find = |name, usual| {
        let mut files = groups.iter().map(|group| group.join(name));
        files.find(|file| file.exists()).map(|file| (file, usual))
    };
    find("cpu.shares", 1024).or_else(|| find("cpu.weight", 100)).expect("a controller of CPU time")
}
