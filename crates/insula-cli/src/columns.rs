//! The columns of each kind of resource, for tables.

use insula_api::convert::amount;
use insula_api::v1::event::Payload;
use insula_api::v1::operation::State;
use insula_api::v1::{
    AccessClient, AuditEntry, Autostart, CrashPolicy, Event, FileEntry, GetCallerResponse, Image, Limits,
    Network, Operation, Pool, Profile, Role, Snapshot, Supervision, Suspension, Vps, VpsExit, VpsState,
    VpsUsage,
};
use insula_types::{ByteSize, Limit};

use crate::table::{Column, Shown};
use crate::text::{age, file_mode, time, vps_state};

macro_rules! columns {
    ($($(#[$doc:meta])* $constant:ident: $type:ty { $($usual:ident $name:literal => $value:expr;)* })*) => {$(
        $(#[$doc])*
        pub const $constant: &[Column<$type>] = &[
            $(Column { name: $name, shown: columns!($usual), value: $value },)*
        ];
    )*};
    (usual) => { Shown::Usually };
    (known) => { Shown::WhereItSays };
    (asked) => { Shown::WhenAsked };
}

columns! {
    /// The columns of a file.
    FILE_COLUMNS: FileEntry {
        usual "mode" => file_mode;
        usual "uid" => |file| file.uid.to_string();
        usual "gid" => |file| file.gid.to_string();
        usual "size" => |file| file.size_bytes.to_string();
        usual "modified" => |file| time(file.update_time.as_ref());
        usual "name" => |file| file.path.clone();
        known "target" => |file| file.link_target.clone();
    }

    /// The columns of a VPS.
    VPS_COLUMNS: Vps {
        usual "name" => |vps| vps.name.clone();
        asked "id" => |vps| vps.id.clone();
        usual "state" => |vps| vps_state(vps.state());
        usual "address" => |vps| join(vps.interfaces.iter().flat_map(|nic| &nic.ip_addresses));
        known "tenant" => |vps| vps.tenant.clone();
        asked "labels" => |vps| labels(vps);
        usual "profile" => |vps| vps.profile.clone();
        usual "cpus" => |vps| limit(&vps.limits, Limit::Cpus);
        asked "cpu-weight" => |vps| limit(&vps.limits, Limit::CpuWeight);
        usual "memory" => |vps| limit(&vps.limits, Limit::Memory);
        asked "swap" => |vps| limit(&vps.limits, Limit::Swap);
        usual "disk" => |vps| limit(&vps.limits, Limit::Disk);
        asked "processes" => |vps| limit(&vps.limits, Limit::Processes);
        asked "own-limits" => |vps| vps.own_limits.as_ref().map(own_limits).unwrap_or_default();
        known "features" => |vps| vps.features.join(" ");
        asked "own-features" => own_features;
        asked "hostname" => |vps| vps.hostname.clone();
        asked "image" => |vps| short(&vps.image);
        asked "host" => |vps| vps.host.clone();
        asked "epoch" => |vps| number_or_nothing(vps.epoch);
        asked "pool" => |vps| vps.pool.clone();
        asked "network" => |vps| join(vps.interfaces.iter().map(|nic| &nic.network));
        asked "mac" => |vps| join(vps.interfaces.iter().map(|nic| &nic.mac_address));
        asked "ids" => |vps| format!("{}+{}", vps.id_range_start, vps.id_range_length);
        asked "created" => |vps| time(vps.create_time.as_ref());
        asked "started" => |vps| time(vps.start_time.as_ref());
        asked "ready" => |vps| time(vps.ready_time.as_ref());
        usual "uptime" => |vps| age(vps.start_time.as_ref());
        asked "boots" => |vps| vps.boots.to_string();
        asked "pid" => |vps| number_or_nothing(vps.init_pid.into());
        known "next-boot" => |vps| time(vps.next_boot_time.as_ref());
        asked "last-exit" => |vps| vps.last_exit.as_ref().map(last_exit).unwrap_or_default();
        asked "on-crash" => |vps| vps.supervision.as_ref().map(on_crash).unwrap_or_default();
        asked "autostart" => autostart;
        asked "suspension" => |vps| vps.suspension.as_ref().map(suspension).unwrap_or_default();
        asked "protected" => |vps| if vps.delete_protection { "from being deleted".into() } else { String::new() };
        known "deleted" => |vps| time(vps.delete_time.as_ref());
        known "expires" => |vps| time(vps.expire_time.as_ref());
        asked "ssh-keys" => |vps| vps.ssh_keys.join("\n");
        asked "operation" => |vps| vps.operation.clone();
        asked "etag" => |vps| vps.etag.clone();
    }

    /// The columns of a VPS's usage.
    USAGE_COLUMNS: VpsUsage {
        usual "name" => |usage| usage.vps_name.clone();
        asked "id" => |usage| usage.vps.clone();
        known "tenant" => |usage| usage.tenant.clone();
        usual "used-cpu" => |usage| cpu_seconds(usage.cpu_ns);
        usual "used-memory" => |usage| of_limit(usage.memory_bytes, usage.memory_limit_bytes);
        usual "used-disk" => |usage| of_limit(usage.disk_bytes, usage.disk_limit_bytes);
        usual "used-processes" => |usage| usage.processes.to_string();
        usual "received" => |usage| rounded(usage.received_bytes);
        usual "sent" => |usage| rounded(usage.sent_bytes);
        asked "time" => |usage| time(usage.time.as_ref());
    }

    /// The columns of a snapshot.
    SNAPSHOT_COLUMNS: Snapshot {
        usual "name" => |snapshot| snapshot.name.clone();
        usual "created" => |snapshot| time(snapshot.create_time.as_ref());
        usual "age" => |snapshot| age(snapshot.create_time.as_ref());
        asked "vps" => |snapshot| snapshot.vps.clone();
    }

    /// The columns of an image.
    IMAGE_COLUMNS: Image {
        usual "alias" => |image| image.aliases.join(" ");
        usual "fingerprint" => |image| short(&image.fingerprint);
        asked "sha256" => |image| image.fingerprint.clone();
        usual "size" => |image| ByteSize(image.size_bytes).to_string();
        asked "distribution" => |image| image.distribution.clone();
        asked "release" => |image| image.release.clone();
        usual "architecture" => |image| image.architecture.clone();
        usual "init" => |image| image.init.clone();
        asked "pool" => |image| image.pool.clone();
        usual "created" => |image| time(image.create_time.as_ref());
        usual "description" => |image| image.description.clone();
    }

    /// The columns of a profile.
    PROFILE_COLUMNS: Profile {
        usual "name" => |profile| profile.name.clone();
        usual "cpus" => |profile| limit(&profile.limits, Limit::Cpus);
        asked "cpu-weight" => |profile| limit(&profile.limits, Limit::CpuWeight);
        usual "memory" => |profile| limit(&profile.limits, Limit::Memory);
        usual "swap" => |profile| limit(&profile.limits, Limit::Swap);
        usual "disk" => |profile| limit(&profile.limits, Limit::Disk);
        usual "processes" => |profile| limit(&profile.limits, Limit::Processes);
        known "features" => |profile| profile.features.join(" ");
        usual "networks" => |profile| profile.networks.join(" ");
        asked "on-crash" => |profile| profile.supervision.as_ref().map(on_crash).unwrap_or_default();
        asked "autostart" => |profile| profile.supervision.as_ref().map(autostart_words).unwrap_or_default();
        usual "description" => |profile| profile.description.clone();
        asked "etag" => |profile| profile.etag.clone();
    }

    /// The columns of a network.
    NETWORK_COLUMNS: Network {
        usual "name" => |network| network.name.clone();
        usual "bridge" => |network| network.bridge.clone();
        usual "subnet" => |network| network.subnet.clone();
        usual "gateway" => |network| network.gateway.clone();
        usual "assigned" => |network| format!("{}/{}", network.assigned_addresses, network.assignable_addresses);
    }

    /// The columns of a pool.
    POOL_COLUMNS: Pool {
        usual "name" => |pool| pool.name.clone();
        usual "driver" => |pool| pool.driver.clone();
        usual "total" => |pool| ByteSize(pool.total_bytes).to_string();
        usual "used" => |pool| ByteSize(pool.used_bytes).to_string();
        usual "free" => |pool| ByteSize(pool.free_bytes).to_string();
        usual "quota" => |pool| pool.quota.clone();
        usual "path" => |pool| pool.path.clone();
    }

    /// The columns of an operation.
    OPERATION_COLUMNS: Operation {
        usual "id" => |operation| operation.id.clone();
        usual "kind" => |operation| operation.kind.clone();
        usual "target" => |operation| operation.target_name.clone();
        asked "target-id" => |operation| operation.target.clone();
        usual "state" => operation_state;
        usual "percent" => |operation| operation.percent.to_string();
        usual "requester" => |operation| operation.requester.clone();
        usual "created" => |operation| time(operation.create_time.as_ref());
        asked "updated" => |operation| time(operation.update_time.as_ref());
        usual "message" => |operation| operation.message.clone();
        asked "error" => |operation| operation.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
        asked "steps" => steps;
        asked "notes" => |operation| operation.notes.join("\n");
        asked "tenant" => |operation| operation.tenant.clone();
        asked "request-id" => |operation| operation.request_id.clone();
    }

    /// The columns of a client of the API.
    CLIENT_COLUMNS: AccessClient {
        usual "name" => |client| client.name.clone();
        asked "id" => |client| client.id.clone();
        usual "role" => |client| role(client.role());
        known "tenant" => |client| client.tenant.clone();
        asked "created" => |client| time(client.create_time.as_ref());
        usual "enrolled" => |client| time(client.enroll_time.as_ref());
        usual "expires" => |client| time(client.expire_time.as_ref());
        known "revoked" => |client| time(client.revoke_time.as_ref());
    }

    /// The columns of a caller.
    CALLER_COLUMNS: GetCallerResponse {
        usual "name" => |caller| caller.name.clone();
        usual "role" => |caller| role(caller.role());
        known "tenant" => |caller| caller.tenant.clone();
        usual "peer" => |caller| caller.peer.clone();
    }

    /// The columns of an entry of the audit log.
    AUDIT_COLUMNS: AuditEntry {
        usual "sequence" => |entry| entry.sequence.to_string();
        usual "time" => |entry| time(entry.time.as_ref());
        usual "requester" => |entry| entry.requester.clone();
        asked "role" => |entry| entry.role.clone();
        usual "peer" => |entry| entry.peer.clone();
        usual "action" => |entry| entry.action.clone();
        usual "object" => |entry| if entry.object_name.is_empty() { entry.object.clone() } else { entry.object_name.clone() };
        asked "object-id" => |entry| entry.object.clone();
        usual "result" => |entry| entry.result.clone();
        asked "request-id" => |entry| entry.request_id.clone();
        asked "operation" => |entry| entry.operation.clone();
        asked "hash" => |entry| entry.hash.clone();
    }

    /// The columns of an event.
    EVENT_COLUMNS: Event {
        usual "cursor" => |event| event.cursor.clone();
        usual "time" => |event| time(event.time.as_ref());
        usual "vps" => |event| event.vps_name.clone();
        asked "vps-id" => |event| event.vps.clone();
        asked "tenant" => |event| event.tenant.clone();
        usual "what" => |event| event.payload.as_ref().map(what_happened).unwrap_or_default();
    }
}

/// One of the limits; empty if it is not set.
fn limit(limits: &Option<Limits>, limit: Limit) -> String {
    let amount = limits.as_ref().and_then(|limits| amount(limits, limit));
    amount.map(|amount| limit.show(amount)).unwrap_or_default()
}

fn join<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    texts.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// As many digits of a fingerprint as are enough to name an image.
fn short(fingerprint: &str) -> String {
    fingerprint.chars().take(insula_types::Fingerprint::SHORTEST_PREFIX).collect()
}

fn number_or_nothing(number: u64) -> String {
    if number == 0 { String::new() } else { number.to_string() }
}

fn cpu_seconds(cpu_ns: u64) -> String {
    format!("{}.{}s", cpu_ns / 1_000_000_000, cpu_ns % 1_000_000_000 / 100_000_000)
}

/// A size rounded down to three digits or more: counted bytes are seldom a whole number of a unit.
fn rounded(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let exponent = (0..5).rev().find(|exponent| bytes >> (10 * exponent) > 0).unwrap_or(0);
    let (whole, rest) = (bytes >> (10 * exponent), bytes & ((1 << (10 * exponent)) - 1));
    match exponent {
        1.. if whole < 100 => format!("{whole}.{}{}", (rest * 10) >> (10 * exponent), UNITS[exponent]),
        _ => format!("{whole}{}", UNITS[exponent]),
    }
}

fn of_limit(bytes: u64, limit_bytes: u64) -> String {
    let limit = if limit_bytes == 0 { String::new() } else { format!("/{}", ByteSize(limit_bytes)) };
    format!("{}{limit}", rounded(bytes))
}

fn labels(vps: &Vps) -> String {
    vps.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
}

/// As `insula set` takes them.
fn own_limits(limits: &Limits) -> String {
    let own = |limit: &Limit| {
        amount(limits, *limit).map(|amount| format!("{}={}", limit.row().name, limit.show(amount)))
    };
    Limit::ALL.iter().filter_map(own).collect::<Vec<_>>().join(" ")
}

/// As `insula set` takes them; empty if they are the profile's.
fn own_features(vps: &Vps) -> String {
    match &vps.own_features {
        Some(own) if own.features.is_empty() => "none".to_owned(),
        Some(own) => own.features.join(","),
        None => String::new(),
    }
}

fn on_crash(supervision: &Supervision) -> String {
    match supervision.on_crash() {
        CrashPolicy::Unspecified => String::new(),
        policy => word(policy.as_str_name(), "CRASH_POLICY_"),
    }
}

/// As `insula set` takes them, without empty values.
fn autostart_words(supervision: &Supervision) -> String {
    let word = match supervision.autostart() {
        Autostart::Unspecified => None,
        autostart => Some(word(autostart.as_str_name(), "AUTOSTART_")),
    };
    let priority = supervision.autostart_priority.filter(|priority| *priority != 0);
    let delay = supervision.autostart_delay.filter(|delay| delay.seconds != 0);
    let words = [
        word,
        priority.map(|priority| format!("priority {priority}")),
        delay.map(|delay| format!("delay {}s", delay.seconds)),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The autostart setting, and its consequence.
fn autostart(vps: &Vps) -> String {
    let Some(supervision) = &vps.supervision else { return String::new() };
    let follows = match (vps.awaits_autostart, vps.starts_with_host) {
        (true, _) => "waits for its turn to start",
        (false, true) => "is started when the host boots",
        (false, false) => "is not started when the host boots",
    };
    format!("{}: {follows}", autostart_words(supervision))
}

fn suspension(suspension: &Suspension) -> String {
    let before = if suspension.was_running { "; it ran before" } else { "" };
    format!("{}\nsince {}{before}", suspension.reason, time(suspension.suspend_time.as_ref()))
}

/// The word of a constant: `STATE_RUNNING` is running.
fn word(constant: &str, prefix: &str) -> String {
    constant.trim_start_matches(prefix).to_lowercase().replace('_', "-")
}

/// The word for a role.
pub fn role(role: Role) -> String {
    word(role.as_str_name(), "ROLE_")
}

fn operation_state(operation: &Operation) -> String {
    word(operation.state().as_str_name(), "STATE_")
}

/// The steps, one line each. While the operation is running, its current step has a mark.
fn steps(operation: &Operation) -> String {
    let is_over = matches!(operation.state(), State::Succeeded | State::Failed);
    let mark = |index| if !is_over && index == operation.step as usize { "> " } else { "" };
    let lines = operation.steps.iter().enumerate().map(|(index, step)| format!("{}{step}", mark(index)));
    lines.collect::<Vec<_>>().join("\n")
}

fn what_happened(payload: &Payload) -> String {
    match payload {
        Payload::VpsState(event) => match event.previous_state() {
            VpsState::Unspecified => vps_state(event.state()),
            previous => format!("{}, was {}", vps_state(event.state()), vps_state(previous)),
        },
        Payload::Operation(event) => {
            let state = word(event.state().as_str_name(), "STATE_");
            let reason = if event.reason.is_empty() { String::new() } else { format!(": {}", event.reason) };
            format!("{} {state}{reason} ({})", event.kind, event.requester)
        }
        Payload::Limit(event) => {
            let limit = word(event.limit().as_str_name(), "LIMIT_");
            format!("limit of {limit} was hit {} times", event.count)
        }
        Payload::Access(event) => {
            let change = word(event.change().as_str_name(), "CHANGE_");
            format!("{change}: {} ({}), by {}", event.client, event.role, event.requester)
        }
    }
}

fn last_exit(exit: &VpsExit) -> String {
    let code = if exit.code == 0 { String::new() } else { format!(" {}", exit.code) };
    format!("{}{code} at {}\n{}", exit.reason, time(exit.time.as_ref()), exit.detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_api::convert::set_amount;

    #[test]
    fn every_limit_has_a_column() {
        for limit in Limit::ALL.iter().copied() {
            let name = limit.row().name;
            let mut limits = Limits::default();
            set_amount(&mut limits, limit, Some(limit.row().most));
            let (limits, shown) = (Some(limits), limit.show(limit.row().most));
            let vps = Vps { limits, own_limits: limits, ..Default::default() };
            let column = VPS_COLUMNS.iter().find(|column| column.name == name);
            let column = column.unwrap_or_else(|| panic!("VPSes have no column {name}"));
            assert_eq!((column.value)(&vps), shown);
            let own = VPS_COLUMNS.iter().find(|column| column.name == "own-limits").unwrap();
            assert_eq!((own.value)(&vps), format!("{name}={shown}"));
            let column = PROFILE_COLUMNS.iter().find(|column| column.name == name);
            let column = column.unwrap_or_else(|| panic!("profiles have no column {name}"));
            assert_eq!((column.value)(&Profile { limits, ..Default::default() }), shown);
        }
    }
}
