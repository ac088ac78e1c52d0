//! The start of a VPS as data. [`plan_start`] decides everything; the monitor that carries the plan out decides nothing.
//!
//! A [`StartPlan`] has two parts. The [`GuestSpec`] is what the guest is, on any host; [`plan_guest`] makes it from the VPS's
//! spec alone. The [`HostBinding`] is what one host gives to it; [`plan_host`] makes it from what was observed there.
//!
//! A plan is complete by itself: the monitor boots the guest again from it while nobody else is there.

mod apparmor;
mod budget;
mod calls;
mod capability;
mod device;
mod error;
mod feature;
mod filesystem;
mod guest;
mod host;
mod init;
mod reboots;
mod seccomp;
mod start;

use insula_types::VpsId;

pub use apparmor::{
    AppArmorPlan, DENIED_FILES, DENIED_MOUNTS, DeniedFiles, DeniedMount, GUEST_PROFILE, render_profile,
};
pub use budget::{BUDGETS, Budget, PlannedBudget};
pub use calls::{
    ArgumentTest, DENIED_CALLS, DENIED_IOCTLS, DeniedCall, DeniedIoctl, DeniedWhen, NEWEST_CALL,
};
pub use capability::{DROPPED_CAPABILITIES, DroppedCapability};
pub use device::{DeviceNode, OwnNode};
pub use error::{MAX_INTERFACES, PlanError};
pub use feature::{CLOSED_CALLS, ClosedCall, OPENED_CALLS, OpenedCall, wanted_devices};
pub use filesystem::{MountStep, RunFile, Symlink};
pub use guest::{GuestInput, GuestNic, GuestSpec, plan_guest};
pub use host::{HostBinding, HostInput, HostNic, RootPlan, host_interface_name, plan_host};
pub use init::{DEFAULT_PATH, InitPlan, ReadyMode, plan_init};
pub use reboots::RebootPolicy;
pub use seccomp::SeccompFilter;
pub use start::{PLAN_VERSION, RestorePlan, StartEnd, StartPlan};

/// What a start is planned from.
#[derive(Debug, Clone)]
pub struct StartInput<'a> {
    /// The VPS's id.
    pub id: VpsId,
    /// What the VPS's spec says.
    pub guest: GuestInput<'a>,
    /// What the host has for it.
    pub host: HostInput<'a>,
    /// What the start ends with.
    pub end: StartEnd,
}

/// Plans the start of a VPS. Pure, but for the compilation of the system call filter by libseccomp.
pub fn plan_start(input: &StartInput<'_>) -> Result<StartPlan, PlanError> {
    if let StartEnd::Restore(RestorePlan { images, .. }) = &input.end {
        return Err(PlanError::Restore { images: images.clone() });
    }
    Ok(StartPlan {
        version: PLAN_VERSION,
        id: input.id,
        guest: plan_guest(&input.guest)?,
        host: plan_host(&input.id, &input.guest, &input.host)?,
        end: input.end.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use std::path::Path;

    use crate::cgroup::{CgroupLayout, Controller, LegacyHierarchy};
    use insula_types::{Attachment, Features, IdRange, InitKind, Limits, MacAddress};

    fn bridged(bridge: &str) -> Attachment {
        Attachment::Bridged(bridge.parse().unwrap())
    }

    fn layout() -> CgroupLayout {
        CgroupLayout {
            root_name: "insula".into(),
            unified: "/sys/fs/cgroup".into(),
            unified_controllers: vec![Controller::Cpu, Controller::Memory, Controller::Pids, Controller::Io],
            legacy: vec![],
            has_legacy_swap: false,
        }
    }

    fn input<'a>(layout: &'a CgroupLayout, limits: &'a Limits) -> StartInput<'a> {
        let id: VpsId = "0193a1b2-c3d4-7e5f-8a9b-0123456789ab".parse().unwrap();
        StartInput {
            id,
            guest: GuestInput {
                hostname: "web1",
                limits,
                features: no_features(),
                init: InitKind::Systemd,
                nics: vec![nic("eth0", 0), nic("eth1", 1)],
                run_files: vec![RunFile {
                    path: "systemd/network/a".into(),
                    mode: 0o644,
                    contents: "[Match]".into(),
                }],
                environment: vec!["LANG=C.UTF-8".into()],
            },
            host: HostInput {
                ids: IdRange { start: 1_000_000, length: 65_536 },
                root: root("/var/lib/insula/pools/default/vps/x/root"),
                attachments: vec![bridged("insbr0"); 2],
                devices: &[],
                is_nested: false,
                layout,
                run_dir: Path::new("/run/insula"),
                reboots: RebootPolicy::default(),
                policy: None,
            },
            end: StartEnd::Boot,
        }
    }

    fn root(upper: &str) -> RootPlan {
        RootPlan { upper: upper.into(), lower: vec![], has_shifted_ids: false }
    }

    fn no_features() -> &'static Features {
        static NONE: std::sync::LazyLock<Features> = std::sync::LazyLock::new(Features::default);
        &NONE
    }

    fn nic(name: &str, index: u8) -> GuestNic {
        GuestNic {
            name: name.parse().unwrap(),
            mac: MacAddress([2, 0, 0, 0, 0, index]),
            addresses: vec![(IpAddr::from([10, 90, index, 2]), 24)],
            gateway: (index == 0).then(|| IpAddr::from([10, 90, 0, 1])),
        }
    }

    #[test]
    fn a_start_is_planned_as_before() {
        let limits = Limits {
            cpus: Some("1.5".parse().unwrap()),
            memory: Some("512M".parse().unwrap()),
            processes: Some(500),
            ..Limits::default()
        };
        let mut plan = plan_start(&input(&layout(), &limits)).unwrap();
        assert!(!plan.guest.seccomp.0.is_empty());
        plan.guest.seccomp = SeccompFilter(vec![]); // depends on the library's version
        insta::assert_json_snapshot!(plan);
    }

    /// A plan of the first version as it was written then: what came later has a default that is harmless to it. A guest that
    /// runs by one, and one that an older agent starts, goes by that.
    #[test]
    fn a_frozen_plan_is_understood() {
        let frozen: serde_json::Value = serde_json::from_str(include_str!("plan/frozen-1.json")).unwrap();
        let plan: StartPlan = serde_json::from_value(frozen.clone()).unwrap();
        assert_eq!(plan.version, 1);
        assert_eq!((plan.guest.hostname.as_str(), plan.guest.init.stop_signal), ("web1", 37));
        assert_eq!((plan.guest.nics.len(), plan.host.nics.len()), (2, 2));
        assert_eq!((&plan.host.reboots, &plan.end), (&RebootPolicy::default(), &StartEnd::Boot));
        // Nothing of it is lost.
        let again = serde_json::to_value(&plan).unwrap();
        for (key, value) in frozen.as_object().unwrap() {
            assert!(contains(&again[key], value), "{key}: {value} became {}", again[key]);
        }
    }

    /// Whether a value has all that another has, and perhaps fields that came later.
    fn contains(new: &serde_json::Value, old: &serde_json::Value) -> bool {
        use serde_json::Value::*;
        match (new, old) {
            (Object(new), Object(old)) => {
                old.iter().all(|(key, old)| new.get(key).is_some_and(|new| contains(new, old)))
            }
            (Array(new), Array(old)) => {
                new.len() == old.len() && new.iter().zip(old).all(|(new, old)| contains(new, old))
            }
            (new, old) => new == old,
        }
    }

    #[test]
    fn what_a_root_has_beyond_one_volume_is_in_the_plan_and_others_are_as_they_were() {
        let (layout, limits) = (layout(), Limits::default());
        let plan = |root| {
            let input = input(&layout, &limits);
            plan_start(&StartInput { host: HostInput { root, ..input.host.clone() }, ..input }).unwrap()
        };
        let shifted = plan(RootPlan { has_shifted_ids: true, ..root("/x") });
        let layered = plan(RootPlan { lower: vec!["/a".into(), "/b".into()], ..root("/x") });
        assert_eq!((shifted.needed_protocol(), layered.needed_protocol()), (1, 5));
        let json = |plan: &StartPlan| serde_json::to_value(plan).unwrap();
        assert_eq!(json(&shifted)["has_shifted_root"], true);
        assert_eq!(json(&layered)["lower_layers"], serde_json::json!(["/a", "/b"]));
        for plan in [shifted, layered] {
            assert_eq!(serde_json::from_value::<StartPlan>(json(&plan)).unwrap(), plan);
        }
        let usual = json(&plan(root("/x")));
        let later = ["has_shifted_root", "lower_layers", "restore"];
        assert!(later.iter().all(|field| usual.get(field).is_none()), "{usual}");
    }

    #[test]
    fn a_restore_is_refused_until_it_is_built() {
        let (layout, limits) = (layout(), Limits::default());
        let restore = StartEnd::Restore(RestorePlan {
            images: "/images".into(),
            console: (0x8803, 0x1b),
            boots: 2,
            started_at_ms: 5,
            ready_at_ms: None,
        });
        let refused = plan_start(&StartInput { end: restore.clone(), ..input(&layout, &limits) });
        assert!(matches!(refused, Err(PlanError::Restore { images }) if images == Path::new("/images")));
        // A plan says so in a way that no monitor takes for a boot.
        let plan = StartPlan { end: restore, ..plan_start(&input(&layout, &limits)).unwrap() };
        assert_eq!(plan.needed_protocol(), 5);
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(serde_json::from_value::<StartPlan>(json).unwrap(), plan);
    }

    /// The same guest on two hosts: its spec is the same, and has no word of either.
    #[test]
    fn a_guest_is_the_same_on_every_host() {
        let (here, limits) = (layout(), Limits { memory: Some("1G".parse().unwrap()), ..Limits::default() });
        let legacy = LegacyHierarchy { mount: "/cg/memory".into(), controllers: vec![Controller::Memory] };
        let there = CgroupLayout { unified: "/cg/unified".into(), legacy: vec![legacy], ..layout() };
        let input = input(&here, &limits);
        let other = HostInput {
            ids: IdRange { start: 7_000_000, length: 65_536 },
            root: root("/tank/x"),
            attachments: vec![bridged("other0"); 2],
            layout: &there,
            run_dir: Path::new("/run/other"),
            ..input.host.clone()
        };
        let plan = plan_start(&input).unwrap();
        let moved = plan_start(&StartInput { host: other, ..input }).unwrap();
        assert_eq!(plan.guest, moved.guest);
        assert_ne!(plan.host.cgroup_values, moved.host.cgroup_values);
        let text = serde_json::to_string(&plan.guest).unwrap();
        for word in ["/var/lib", "/run/insula", "insbr0", "1000000", "/sys/fs/cgroup\""] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert_eq!(serde_json::from_str::<GuestSpec>(&text).unwrap(), plan.guest);
    }

    #[test]
    fn a_vps_in_a_vps_has_the_budgets_of_that_around_it() {
        let (layout, limits) = (layout(), Limits::default());
        let budgets = |is_nested| {
            let input = input(&layout, &limits);
            let host = HostInput { is_nested, ..input.host };
            plan_start(&StartInput { host, ..input }).unwrap().host.budgets
        };
        assert_eq!((budgets(true).len(), budgets(false).len()), (0, BUDGETS.len()));
    }

    #[test]
    fn a_plan_survives_json_and_newer_fields() {
        let plan = plan_start(&input(&layout(), &Limits::default())).unwrap();
        let mut json = serde_json::to_value(&plan).unwrap();
        json["from_the_future"] = 1.into();
        assert_eq!(serde_json::from_value::<StartPlan>(json).unwrap(), plan);
    }

    #[test]
    fn what_cannot_be_planned_is_refused() {
        let (layout, limits) = (layout(), Limits::default());
        let input = || input(&layout, &limits);
        let bare = CgroupLayout {
            unified_controllers: vec![],
            legacy: vec![LegacyHierarchy { mount: "/x".into(), controllers: vec![Controller::Io] }],
            ..layout.clone()
        };
        let memory = Limits { memory: Some("1G".parse().unwrap()), ..Limits::default() };
        let run_file = |path: &str| vec![RunFile { path: path.into(), mode: 0o644, contents: String::new() }];
        let routed = Attachment::Routed("eth0".parse().unwrap());
        let host = |host| StartInput { host, ..input() };
        let guest = |guest| StartInput { guest, ..input() };
        let refused = [
            host(HostInput { root: root("pools/x"), ..input().host }),
            host(HostInput { root: RootPlan { lower: vec!["x".into()], ..root("/x") }, ..input().host }),
            host(HostInput { run_dir: Path::new("run"), ..input().host }),
            host(HostInput { policy: Some(Path::new("apparmor.policy")), ..input().host }),
            host(HostInput { attachments: vec![], ..input().host }),
            host(HostInput { attachments: vec![bridged("insbr0"), routed], ..input().host }),
            guest(GuestInput { hostname: "", ..input().guest }),
            guest(GuestInput { run_files: run_file("../etc/passwd"), ..input().guest }),
            guest(GuestInput { run_files: run_file("/etc/passwd"), ..input().guest }),
            guest(GuestInput { run_files: run_file(""), ..input().guest }),
            guest(GuestInput { nics: (0..9).map(|index| nic("eth0", index)).collect(), ..input().guest }),
            StartInput {
                guest: GuestInput { limits: &memory, ..input().guest },
                host: HostInput { layout: &bare, ..input().host },
                ..input()
            },
        ];
        for input in refused {
            assert!(plan_start(&input).is_err(), "{input:?}");
        }
    }
}
