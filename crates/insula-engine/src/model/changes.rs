//! What can be asked to be changed of a VPS or a profile, as the journal keeps it.

use insula_types::{
    Autostart, ByteSize, CpuCount, CrashPolicy, Features, Labels, Limits, ProfileName, Supervision,
    TenantName,
};
use serde::{Deserialize, Serialize};

/// What is to be changed of a VPS; `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateVps {
    /// Another plan.
    pub profile: Option<ProfileName>,
    /// Limits of its own, one after the other.
    pub limits: Vec<LimitChange>,
    /// What is open to it.
    #[serde(default)]
    pub features: Option<FeatureChange>,
    /// What follows when it crashes or the host boots, one thing after the other.
    #[serde(default)]
    pub supervision: Vec<SupervisionChange>,
    /// What others note about it.
    pub labels: Option<Labels>,
    /// Whose it is.
    pub tenant: Option<Option<TenantName>>,
    /// What it calls itself.
    pub hostname: Option<String>,
    /// Whether it refuses to be deleted.
    pub delete_protection: Option<bool>,
}

/// A change of a limit; `None`: back to the profile's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitChange {
    /// All of them.
    All(Box<Limits>),
    /// CPU time per time.
    Cpus(Option<CpuCount>),
    /// The share of CPU under contention.
    CpuWeight(Option<u32>),
    /// Memory.
    Memory(Option<ByteSize>),
    /// Swap on top of the memory.
    Swap(Option<ByteSize>),
    /// Processes and threads together.
    Processes(Option<u32>),
    /// The size of the root file system.
    Disk(Option<ByteSize>),
}

/// A change of what follows when a VPS crashes or its host boots; `None`: back to what the profile says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SupervisionChange {
    /// All of it.
    All(Supervision),
    /// What follows when init crashes.
    OnCrash(Option<CrashPolicy>),
    /// Whether it is started when the host has booted.
    Autostart(Option<Autostart>),
    /// Which are started first then.
    AutostartPriority(Option<i32>),
    /// How long no other is started behind it then: seconds.
    AutostartDelay(Option<u32>),
}

impl SupervisionChange {
    /// Makes the change.
    pub fn apply(self, supervision: &mut Supervision) {
        match self {
            Self::All(all) => *supervision = all,
            Self::OnCrash(on_crash) => supervision.on_crash = on_crash,
            Self::Autostart(autostart) => supervision.autostart = autostart,
            Self::AutostartPriority(priority) => supervision.autostart_priority = priority,
            Self::AutostartDelay(delay_s) => supervision.autostart_delay_s = delay_s,
        }
    }
}

impl LimitChange {
    /// Makes the change.
    pub fn apply(&self, limits: &mut Limits) {
        match self {
            Self::All(all) => *limits = (**all).clone(),
            Self::Cpus(cpus) => limits.cpus = *cpus,
            Self::CpuWeight(weight) => limits.cpu_weight = *weight,
            Self::Memory(memory) => limits.memory = *memory,
            Self::Swap(swap) => limits.swap = *swap,
            Self::Processes(processes) => limits.processes = *processes,
            Self::Disk(disk) => limits.disk = *disk,
        }
    }
}

/// A change of a VPS's features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureChange {
    /// Those of its profile.
    OfProfile,
    /// These, whatever its profile has.
    Own(Features),
}

impl FeatureChange {
    /// The VPS's own features from now on.
    pub(crate) fn own(&self) -> Option<Features> {
        match self {
            Self::OfProfile => None,
            Self::Own(features) => Some(features.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_goes_back_to_the_profiles() {
        let mut limits = Limits { processes: Some(100), memory: Some(ByteSize::gib(1)), ..Limits::default() };
        LimitChange::Processes(None).apply(&mut limits);
        LimitChange::CpuWeight(Some(200)).apply(&mut limits);
        assert_eq!((limits.processes, limits.cpu_weight), (None, Some(200)));
        assert_eq!(limits.memory, Some(ByteSize::gib(1)));
        LimitChange::All(Box::default()).apply(&mut limits);
        assert_eq!(limits, Limits::default());
    }
}
