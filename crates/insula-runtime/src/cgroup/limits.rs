//! Limits as values of cgroup files. Pure.

use insula_types::{ByteSize, Limits};
use serde::{Deserialize, Serialize};

use super::{CgroupLayout, Controller};

/// A value that is written to a file of a VPS's group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupValue {
    /// The controller that has the file.
    pub controller: Controller,
    /// The file's name.
    pub file: String,
    /// The value.
    pub value: String,
}

/// Why a limit is refused: it can't be enforced here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CgroupLimitError {
    /// The controller is in no hierarchy.
    #[error(
        "the limit {limit} needs the cgroup controller {controller:?}, which the host does not have: enable it in the kernel"
    )]
    NoController {
        /// The limit's name.
        limit: &'static str,
        /// The controller.
        controller: Controller,
    },
    /// The kernel does not count swap.
    #[error("the limit swap needs the kernel to count swap: boot the host with swapaccount=1")]
    NoSwapAccounting,
    /// v1 limits only the sum of memory and swap.
    #[error("the limit swap needs the limit memory on a host with memory in cgroup v1")]
    SwapWithoutMemory,
}

/// The period in which CPU time is limited, in µs: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// The values that enforce the limits, in the order in which they are to be written to a new group. Without a limit the
/// value says so, so that a lifted limit is gone. The limit on the disk is the storage's.
pub fn plan_limits(layout: &CgroupLayout, limits: &Limits) -> Result<Vec<CgroupValue>, CgroupLimitError> {
    let mut planner = Planner { layout, values: vec![] };
    planner.cpu(limits)?;
    planner.memory(limits.memory, limits.swap)?;
    planner.processes(limits.processes)?;
    Ok(planner.values)
}

struct Planner<'a> {
    layout: &'a CgroupLayout,
    values: Vec<CgroupValue>,
}

/// The version of the hierarchy that a controller is in.
#[derive(PartialEq)]
enum Version {
    Legacy,
    Unified,
}

/// The part of its weight that a VPS keeps when it steps back: one hundredth. A smaller part does not help the others more.
const STEP_BACK: u32 = 100;

/// The value that gives a VPS its share of CPU under contention: the one that its limits say, or a hundredth of that.
/// `None` where the host has no controller for it.
pub(super) fn plan_cpu_share(
    layout: &CgroupLayout,
    limits: &Limits,
    steps_back: bool,
) -> Option<CgroupValue> {
    let weight = limits.cpu_weight();
    let part = if steps_back { STEP_BACK } else { 1 };
    let value = |file, value: u32| CgroupValue::new(Controller::Cpu, file, value);
    match layout.legacy_of(Controller::Cpu) {
        // 1024 shares are what 100 is as a weight.
        Some(_) => Some(value("cpu.shares", (weight * 1024 / 100 / part).max(2))),
        None => layout.is_unified(Controller::Cpu).then(|| value("cpu.weight", (weight / part).max(1))),
    }
}

impl CgroupValue {
    fn new(controller: Controller, file: &str, value: impl ToString) -> Self {
        Self { controller, file: file.to_owned(), value: value.to_string() }
    }
}

impl Planner<'_> {
    fn push(&mut self, controller: Controller, file: &str, value: impl ToString) {
        self.values.push(CgroupValue::new(controller, file, value));
    }

    /// Where the controller is; `None` if it is nowhere and not needed.
    fn version(
        &self,
        controller: Controller,
        limit: &'static str,
        is_limited: bool,
    ) -> Result<Option<Version>, CgroupLimitError> {
        match (self.layout.legacy_of(controller), self.layout.is_unified(controller)) {
            (Some(_), _) => Ok(Some(Version::Legacy)),
            (None, true) => Ok(Some(Version::Unified)),
            (None, false) if is_limited => Err(CgroupLimitError::NoController { limit, controller }),
            (None, false) => Ok(None),
        }
    }

    fn cpu(&mut self, limits: &Limits) -> Result<(), CgroupLimitError> {
        let quota_us = limits.cpus.map(|cpus| u64::from(cpus.milli()) * CPU_PERIOD_US / 1000);
        let limit = if quota_us.is_some() { "cpus" } else { "cpu-weight" };
        let is_limited = quota_us.is_some() || limits.cpu_weight.is_some();
        match self.version(Controller::Cpu, limit, is_limited)? {
            Some(Version::Unified) => {
                let quota = quota_us.map_or("max".to_owned(), |quota| quota.to_string());
                self.push(Controller::Cpu, "cpu.max", format!("{quota} {CPU_PERIOD_US}"));
            }
            Some(Version::Legacy) => {
                let quota = quota_us.map_or("-1".to_owned(), |quota| quota.to_string());
                self.push(Controller::Cpu, "cpu.cfs_period_us", CPU_PERIOD_US);
                self.push(Controller::Cpu, "cpu.cfs_quota_us", quota);
            }
            None => {}
        }
        self.values.extend(plan_cpu_share(self.layout, limits, false));
        Ok(())
    }

    fn memory(&mut self, memory: Option<ByteSize>, swap: Option<ByteSize>) -> Result<(), CgroupLimitError> {
        let limit = if memory.is_some() { "memory" } else { "swap" };
        let is_limited = memory.is_some() || swap.is_some();
        match self.version(Controller::Memory, limit, is_limited)? {
            Some(Version::Unified) => {
                let or_max =
                    |size: Option<ByteSize>| size.map_or("max".to_owned(), |size| size.bytes().to_string());
                self.push(Controller::Memory, "memory.max", or_max(memory));
                self.push(Controller::Memory, "memory.swap.max", or_max(swap));
                Ok(())
            }
            Some(Version::Legacy) => self.legacy_memory(memory, swap),
            None => Ok(()),
        }
    }

    fn legacy_memory(
        &mut self,
        memory: Option<ByteSize>,
        swap: Option<ByteSize>,
    ) -> Result<(), CgroupLimitError> {
        const SUM: &str = "memory.memsw.limit_in_bytes";
        if self.layout.has_legacy_swap {
            self.push(Controller::Memory, SUM, -1); // the sum may never be below the memory
        }
        let limit = memory.map_or("-1".to_owned(), |memory| memory.bytes().to_string());
        self.push(Controller::Memory, "memory.limit_in_bytes", limit);
        match (swap, memory) {
            (None, _) => Ok(()),
            (Some(_), _) if !self.layout.has_legacy_swap => Err(CgroupLimitError::NoSwapAccounting),
            (Some(_), None) => Err(CgroupLimitError::SwapWithoutMemory),
            (Some(swap), Some(memory)) => {
                self.push(Controller::Memory, SUM, memory.bytes().saturating_add(swap.bytes()));
                Ok(())
            }
        }
    }

    fn processes(&mut self, processes: Option<u32>) -> Result<(), CgroupLimitError> {
        if self.version(Controller::Pids, "processes", processes.is_some())?.is_some() {
            let limit = processes.map_or("max".to_owned(), |processes| processes.to_string());
            self.push(Controller::Pids, "pids.max", limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::LegacyHierarchy;
    use super::*;
    use insula_types::{CpuCount, Enforcer, Limit};

    /// A new limit that the table gives to the group must have a file there.
    #[test]
    fn every_limit_of_a_group_changes_a_file() {
        let base = Limits { memory: Some(ByteSize::gib(1)), ..Limits::default() }; // v1 has no swap without
        for layout in [pure(), hybrid()] {
            let before = plan_limits(&layout, &base).unwrap();
            for limit in Limit::ALL.iter().copied() {
                let mut limits = base.clone();
                limits.set(limit, Some(limit.row().least));
                let changes = plan_limits(&layout, &limits).unwrap() != before;
                assert_eq!(changes, limit.row().enforcer == Enforcer::Group, "{limit:?}");
            }
        }
    }

    fn pure() -> CgroupLayout {
        CgroupLayout {
            root_name: "insula".into(),
            unified: "/sys/fs/cgroup".into(),
            unified_controllers: vec![Controller::Cpu, Controller::Memory, Controller::Pids],
            legacy: vec![],
            has_legacy_swap: false,
        }
    }

    fn hybrid() -> CgroupLayout {
        let hierarchy = |name: &str, controller| LegacyHierarchy {
            mount: format!("/sys/fs/cgroup/{name}").into(),
            controllers: vec![controller],
        };
        CgroupLayout {
            unified_controllers: vec![],
            legacy: vec![
                hierarchy("cpu", Controller::Cpu),
                hierarchy("memory", Controller::Memory),
                hierarchy("pids", Controller::Pids),
            ],
            has_legacy_swap: true,
            ..pure()
        }
    }

    fn small() -> Limits {
        Limits {
            cpus: Some(CpuCount(1500)),
            cpu_weight: Some(50),
            memory: Some(ByteSize::mib(512)),
            swap: Some(ByteSize::mib(256)),
            processes: Some(500),
            disk: None,
        }
    }

    fn written(layout: &CgroupLayout, limits: &Limits) -> Vec<String> {
        let values = plan_limits(layout, limits).unwrap();
        values.into_iter().map(|value| format!("{}={}", value.file, value.value)).collect()
    }

    #[test]
    fn limits_become_values_of_cgroup2() {
        assert_eq!(
            written(&pure(), &small()),
            [
                "cpu.max=150000 100000",
                "cpu.weight=50",
                "memory.max=536870912",
                "memory.swap.max=268435456",
                "pids.max=500"
            ]
        );
        assert_eq!(
            written(&pure(), &Limits::default()),
            ["cpu.max=max 100000", "cpu.weight=100", "memory.max=max", "memory.swap.max=max", "pids.max=max"]
        );
    }

    #[test]
    fn limits_become_values_of_v1() {
        assert_eq!(
            written(&hybrid(), &small()),
            [
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpu.shares=512",
                "memory.memsw.limit_in_bytes=-1",
                "memory.limit_in_bytes=536870912",
                "memory.memsw.limit_in_bytes=805306368",
                "pids.max=500"
            ]
        );
    }

    #[test]
    fn who_steps_back_has_a_hundredth_of_the_weight() {
        for (weight, shares, back, unified_back) in [
            (None, "1024", "10", "1"),
            (Some(1), "10", "2", "1"),
            (Some(250), "2560", "25", "2"),
            (Some(10_000), "102400", "1024", "100"),
        ] {
            let limits = Limits { cpu_weight: weight, ..Limits::default() };
            let value = |layout, steps_back| plan_cpu_share(&layout, &limits, steps_back).unwrap();
            let legacy = |value: &str| CgroupValue::new(Controller::Cpu, "cpu.shares", value);
            assert_eq!(value(hybrid(), false), legacy(shares));
            assert_eq!(value(hybrid(), true), legacy(back));
            let unified = |value: &str| CgroupValue::new(Controller::Cpu, "cpu.weight", value);
            assert_eq!(value(pure(), false), unified(&weight.unwrap_or(100).to_string()));
            assert_eq!(value(pure(), true), unified(unified_back));
        }
        let bare = CgroupLayout { unified_controllers: vec![], ..pure() };
        assert_eq!(plan_cpu_share(&bare, &Limits::default(), true), None);
    }

    #[test]
    fn a_limit_that_cannot_be_enforced_is_refused() {
        let bare = CgroupLayout { unified_controllers: vec![], ..pure() };
        let no_swap = CgroupLayout { has_legacy_swap: false, ..hybrid() };
        let no_controller = |limit, controller| CgroupLimitError::NoController { limit, controller };
        let cases = [
            (
                &bare,
                Limits { cpus: Some(CpuCount(1000)), ..Limits::default() },
                no_controller("cpus", Controller::Cpu),
            ),
            (
                &bare,
                Limits { cpu_weight: Some(9), ..Limits::default() },
                no_controller("cpu-weight", Controller::Cpu),
            ),
            (
                &bare,
                Limits { swap: Some(ByteSize(0)), ..Limits::default() },
                no_controller("swap", Controller::Memory),
            ),
            (
                &bare,
                Limits { processes: Some(99), ..Limits::default() },
                no_controller("processes", Controller::Pids),
            ),
            (&no_swap, small(), CgroupLimitError::NoSwapAccounting),
            (&hybrid(), Limits { memory: None, ..small() }, CgroupLimitError::SwapWithoutMemory),
        ];
        for (layout, limits, error) in cases {
            assert_eq!(plan_limits(layout, &limits), Err(error));
        }
        assert_eq!(plan_limits(&bare, &Limits::default()), Ok(vec![]));
    }
}
