//! The memory and disk space of Insula itself. The targets are for release builds, which
//! `scripts/bench` measures; this test is the alarm.

use std::fs;

use insula_testkit::{Image, ScratchHost};

#[test]
fn an_agent_and_a_monitor_are_small() {
    let host = ScratchHost::with(Image::Debian12);
    host.create_ready("web1", Image::Debian12, &[]);
    let init = host.vps("web1").init_pid.to_string();
    let monitor = field(&format!("/proc/{init}/status"), "PPid:");
    let pss_kib = field(&format!("/proc/{monitor}/smaps_rollup"), "Pss:");
    let agent = host.agent().process().id().as_raw_nonzero();
    let rss_kib = field(&format!("/proc/{agent}/status"), "VmRSS:");
    println!("the monitor has {pss_kib} KiB PSS, the agent {rss_kib} KiB RSS");
    assert!(pss_kib <= 4 * 700, "the monitor has {pss_kib} KiB");
    assert!(rss_kib <= 2 * 40 * 1024, "the agent has {rss_kib} KiB");
}

/// The number after a word in a file of proc(5).
fn field(path: &str, word: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
