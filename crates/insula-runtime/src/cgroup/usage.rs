//! What a VPS uses. Read for every VPS of a host at a time: few files, one read(2) each.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use insula_types::VpsId;

use super::{CgroupLayout, Controller};

/// What a VPS uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes, file cache included. `None` where it isn't counted.
    pub memory_bytes: Option<u64>,
    /// CPU time in ns since the start.
    pub cpu_ns: Option<u64>,
    /// Processes and threads together.
    pub processes: Option<u64>,
}

impl CgroupLayout {
    /// What a VPS uses now: three small files of the kernel.
    pub fn observe_usage(&self, id: &VpsId) -> Usage {
        let memory_file = match self.legacy_of(Controller::Memory) {
            Some(_) => "memory.usage_in_bytes",
            None => "memory.current",
        };
        Usage {
            memory_bytes: self.read_counter(Controller::Memory, id, memory_file).and_then(number),
            cpu_ns: self.observe_cpu_ns(id),
            processes: self.read_counter(Controller::Pids, id, "pids.current").and_then(number),
        }
    }

    /// The CPU time of a VPS since its start, in ns. `None` for one that does not run, and where it isn't counted.
    pub fn observe_cpu_ns(&self, id: &VpsId) -> Option<u64> {
        match self.legacy_of(Controller::Cpuacct) {
            Some(_) => self.read_counter(Controller::Cpuacct, id, "cpuacct.usage").and_then(number),
            None => self
                .read_counter(Controller::Cpu, id, "cpu.stat")
                .and_then(|stat| find_count(&stat, "usage_usec"))
                .map(|us| us * 1000),
        }
    }

    /// How many processes of the VPS the kernel has killed because memory ran out.
    pub fn observe_memory_kills(&self, id: &VpsId) -> u64 {
        self.read_counter(Controller::Memory, id, self.memory_kills_file())
            .and_then(|text| find_count(&text, "oom_kill"))
            .unwrap_or(0)
    }

    /// The file whose `oom_kill` counts the processes that the kernel killed because memory ran out.
    pub(super) fn memory_kills_file(&self) -> &'static str {
        match self.legacy_of(Controller::Memory) {
            Some(_) => "memory.oom_control",
            None => "memory.events",
        }
    }

    fn read_counter(&self, controller: Controller, id: &VpsId, file: &str) -> Option<String> {
        read_short(&self.group_with(controller, id)?.join(file)).ok()
    }
}

/// The most bytes that a file with counters has: memory.events has some 120, cpu.stat some 300.
pub(super) const MAX_COUNTERS: usize = 1024;

/// Reads a small file of the kernel, which gives all that it has at once.
pub(super) fn read_short(path: &Path) -> io::Result<String> {
    let mut text = [0; MAX_COUNTERS];
    let length = File::open(path)?.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

fn number(text: String) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number after a key, in lines of `key number`.
pub(super) fn find_count(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_whole() {
        let text = "oom 1\noom_group_kill 2\noom_kill 3\nusage_usec 18446744073709551615\n";
        assert_eq!(find_count(text, "oom_kill"), Some(3));
        assert_eq!(find_count(text, "usage_usec"), Some(u64::MAX));
        assert_eq!(find_count(text, "usage"), None);
    }
}
