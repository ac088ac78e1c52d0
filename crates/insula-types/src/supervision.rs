//! What follows when a guest ends, and whether it is there after the host's boot.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What follows when a guest's init crashes: exits with a code that is not 0, or is killed by a signal or for want of
/// memory, and nobody has asked for it. A reboot or power-off by the guest is no crash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CrashPolicy {
    /// The VPS has failed, and stays so until somebody starts it: as Incus, LXC and systemd-nspawn do.
    #[default]
    Stop,
    /// It is booted again, as after a reboot of its own, within the same limits.
    Restart,
}

impl CrashPolicy {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Stop, Self::Restart];

    /// The word for people and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

impl fmt::Display for CrashPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for CrashPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| format!("unknown policy {text:?}: expected stop or restart"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        for policy in CrashPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
            assert_eq!(serde_json::to_value(policy).unwrap(), policy.as_str());
        }
        assert!("reboot".parse::<CrashPolicy>().unwrap_err().contains("stop or restart"));
    }
}
