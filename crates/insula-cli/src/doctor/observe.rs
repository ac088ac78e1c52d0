//! Reads from the host what the checks need.

use std::fs;
use std::path::{Path, PathBuf};

use insula_sys::program::{PATH, Program};

use super::table::Source;
use super::value::Value;

/// The file of a sysctl.
pub fn sysctl_file(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key.replace('.', "/"))
}

/// Reads the value. One that can't be read counts as absent.
pub fn observe(source: &Source, pool_quota: Option<&str>) -> Value {
    match source {
        Source::Sysctl(key) => number(&sysctl_file(key)),
        Source::KernelVersion => {
            Value::Text(rustix::system::uname().release().to_string_lossy().into_owned())
        }
        Source::FileSystem(name) => {
            let known = read("/proc/filesystems");
            let is_known = known.lines().any(|line| line.split_whitespace().next_back() == Some(name));
            if is_known { Value::Text("there".into()) } else { Value::Absent }
        }
        Source::Path(path) => match Path::new(path).exists() {
            true => Value::Text((*path).to_owned()),
            false => Value::Absent,
        },
        Source::Program(name) => {
            let found =
                PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.is_file());
            found.map_or(Value::Absent, |path| Value::Text(path.display().to_string()))
        }
        Source::CgroupMode => cgroup_mode(&read("/proc/self/mountinfo")),
        Source::Controllers => Value::List(controllers(&read("/proc/cgroups"), &unified_controllers())),
        Source::AppArmor => match read("/sys/module/apparmor/parameters/enabled").trim() {
            "Y" => Value::Text("enabled".into()),
            _ => Value::Absent,
        },
        Source::Dropping => Value::List([dropping_in_nftables(), dropping_in_iptables()].concat()),
        Source::PoolQuota => pool_quota.map_or(Value::Unknown, |quota| Value::Text(quota.to_owned())),
    }
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap_or_default() // it does not exist, or we may not read it
}

fn number(path: &Path) -> Value {
    match read(path).split_whitespace().next().map(str::parse) {
        Some(Ok(number)) => Value::Number(number),
        _ => Value::Absent,
    }
}

/// How cgroups are mounted, from proc(5), mountinfo.
fn cgroup_mode(mountinfo: &str) -> Value {
    let of_type = |wanted: &str| {
        mountinfo.lines().any(|line| {
            let (_, behind) = line.split_once(" - ").unwrap_or_default();
            behind.split(' ').next() == Some(wanted)
        })
    };
    match (of_type("cgroup2"), of_type("cgroup")) {
        (true, false) => Value::Text("unified".into()),
        (true, true) => Value::Text("hybrid".into()),
        (false, true) => Value::Text("legacy".into()),
        (false, false) => Value::Absent,
    }
}

fn unified_controllers() -> String {
    ["/sys/fs/cgroup/cgroup.controllers", "/sys/fs/cgroup/unified/cgroup.controllers"].map(read).join(" ")
}

/// The mounted controllers of version 1 (cgroups(7): `subsys_name hierarchy num_cgroups enabled`), and those of version 2.
fn controllers(legacy: &str, unified: &str) -> Vec<String> {
    let legacy = legacy.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        matches!(fields[..], [_, hierarchy, _, "1"] if hierarchy != "0").then(|| fields[0])
    });
    let named = |name: &str| if name == "blkio" { "io".to_owned() } else { name.to_owned() };
    let mut all: Vec<String> = legacy.chain(unified.split_whitespace()).map(named).collect();
    all.sort();
    all.dedup();
    all
}

/// Chains at the hook `forward` whose policy is to drop, in tables that have no rule about a bridge of ours.
fn dropping_in_nftables() -> Vec<String> {
    let output = Program::new("nft").args(["-j", "list", "ruleset"]).output().unwrap_or_default();
    dropping_chains(&serde_json::from_slice(&output).unwrap_or_default())
}

fn dropping_chains(ruleset: &serde_json::Value) -> Vec<String> {
    let objects = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_table = |object: &serde_json::Value, chain: &serde_json::Value| {
        object["family"] == chain["family"] && object["table"] == chain["table"]
    };
    let chains = objects.iter().map(|object| &object["chain"]);
    let dropping = chains.filter(|chain| chain["hook"] == "forward" && chain["policy"] == "drop");
    let in_our_way =
        dropping.filter(|chain| chain["family"] == "ip" || chain["family"] == "inet").filter(|chain| {
            let mut rules = objects.iter().map(|object| &object["rule"]).filter(|rule| of_table(rule, chain));
            !rules.any(|rule| rule["expr"].to_string().contains("\"insbr"))
        });
    let name = |chain: &serde_json::Value| {
        ["family", "table", "name"].map(|key| chain[key].as_str().unwrap_or_default()).join(" ")
    };
    in_our_way.map(name).collect()
}

/// The same for iptables before nftables, if the kernel has its table.
fn dropping_in_iptables() -> Vec<String> {
    if !read("/proc/net/ip_tables_names").lines().any(|table| table == "filter") {
        return vec![];
    }
    let output = Program::new("iptables-legacy").args(["-S"]).output().unwrap_or_default();
    let rules = String::from_utf8_lossy(&output).into_owned();
    let drops = rules.lines().any(|line| line == "-P FORWARD DROP") && !rules.contains("insbr");
    drops.then(|| "iptables FORWARD".to_owned()).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_cgroups_is_seen_in_the_mounts() {
        let line = |kind: &str| format!("30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - {kind} none rw\n");
        let mode = |kinds: &[&str]| cgroup_mode(&kinds.iter().map(|kind| line(kind)).collect::<String>());
        assert_eq!(mode(&["tmpfs", "cgroup2"]), Value::Text("unified".into()));
        assert_eq!(mode(&["cgroup", "cgroup2"]), Value::Text("hybrid".into()));
        assert_eq!(mode(&["cgroup"]), Value::Text("legacy".into()));
        assert_eq!(mode(&["tmpfs"]), Value::Absent);
    }

    #[test]
    fn controllers_of_both_versions_count() {
        let legacy = "#subsys_name hierarchy num_cgroups enabled\ncpu 1 5 1\nmemory 4 18 0\nblkio 7 26 1\npids 0 5 1\n";
        assert_eq!(controllers(legacy, "hugetlb pids"), ["cpu", "hugetlb", "io", "pids"]);
    }

    #[test]
    fn what_drops_forwarded_packets_is_found() {
        let chain = |family: &str, table: &str, hook: &str, policy: &str| serde_json::json!({"chain": {"family": family, "table": table, "name": "FORWARD", "hook": hook, "policy": policy}});
        let rule = |table: &str, name: &str| {
            serde_json::json!({"rule": {"family": "ip", "table": table, "chain": "DOCKER-USER",
                "expr": [{"match": {"left": {"meta": {"key": "iifname"}}, "right": name}}, {"accept": null}]}})
        };
        let found =
            |objects: &[serde_json::Value]| dropping_chains(&serde_json::json!({"nftables": objects}));
        let docker = chain("ip", "filter", "forward", "drop");
        assert_eq!(found(&[docker.clone(), rule("filter", "docker0")]), ["ip filter FORWARD"]);
        assert_eq!(found(&[docker.clone(), rule("filter", "insbr0")]), [""; 0]);
        assert_eq!(found(&[docker, rule("other", "insbr0")]), ["ip filter FORWARD"]);
        let harmless = [
            chain("ip", "filter", "input", "drop"),
            chain("inet", "mine", "forward", "accept"),
            chain("bridge", "mine", "forward", "drop"),
        ];
        assert_eq!(found(&harmless), [""; 0]);
    }
}
