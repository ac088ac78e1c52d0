//! Supervision: what happens when a guest crashes, and whether a VPS starts when its host boots.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What happens when a guest's init crashes. A crash is an exit with a code other than 0, a death
/// by a signal, or a kill because memory ran out, if nobody asked for it. It is no crash when the
/// guest reboots or powers off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CrashPolicy {
    /// The VPS becomes `failed` until somebody starts it, as with Incus, LXC and systemd-nspawn.
    #[default]
    Stop,
    /// The VPS is booted again, as after a reboot of its own, within the same limits on how often.
    Restart,
}

impl CrashPolicy {
    /// All rules for crashes.
    pub const ALL: [Self; 2] = [Self::Stop, Self::Restart];

    /// The rule's word in JSON and in messages.
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

/// Whether a VPS is started when its host has booted. A mere restart of the agent starts nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Autostart {
    /// Start it if it was running when the host went down. Incus calls this the last state.
    #[default]
    AsItWas,
    /// Always start it.
    Yes,
    /// Never start it.
    No,
}

impl Autostart {
    /// All rules for boots.
    pub const ALL: [Self; 3] = [Self::AsItWas, Self::Yes, Self::No];

    /// The rule's word in JSON and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AsItWas => "as-it-was",
            Self::Yes => "yes",
            Self::No => "no",
        }
    }
}

impl fmt::Display for Autostart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Autostart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|autostart| autostart.as_str() == text)
            .ok_or_else(|| format!("unknown autostart {text:?}: expected as-it-was, yes or no"))
    }
}

/// What happens when a guest crashes and when its host boots. `None` means what the profile says,
/// or else the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Supervision {
    /// What happens when the guest's init crashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_crash: Option<CrashPolicy>,
    /// Whether the VPS is started when the host has booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart: Option<Autostart>,
    /// The order in which VPSes are started then. Higher priorities start first, equal ones by
    /// name. The default is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart_priority: Option<i32>,
    /// How long no other VPS is started after this one then, in seconds. The default is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autostart_delay_s: Option<u32>,
}

impl Supervision {
    /// The longest delay, in seconds: an hour.
    pub const LONGEST_DELAY_S: u32 = 3600;

    /// Fills in from `base` what is not set here.
    pub fn or(self, base: &Self) -> Self {
        Self {
            on_crash: self.on_crash.or(base.on_crash),
            autostart: self.autostart.or(base.autostart),
            autostart_priority: self.autostart_priority.or(base.autostart_priority),
            autostart_delay_s: self.autostart_delay_s.or(base.autostart_delay_s),
        }
    }

    /// Refuses values that are out of range.
    pub fn check(&self) -> Result<(), String> {
        match self.autostart_delay_s {
            Some(delay) if delay > Self::LONGEST_DELAY_S => Err(format!(
                "an autostart delay of {delay} s is too long: at most {} s",
                Self::LONGEST_DELAY_S
            )),
            _ => Ok(()),
        }
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

    #[test]
    fn an_autostart_is_read_as_it_is_written() {
        for autostart in Autostart::ALL {
            assert_eq!(autostart.to_string().parse(), Ok(autostart));
            assert_eq!(serde_json::to_value(autostart).unwrap(), autostart.as_str());
        }
        assert!("on".parse::<Autostart>().unwrap_err().contains("as-it-was, yes or no"));
    }

    #[test]
    fn what_is_not_said_is_the_profiles() {
        let own = Supervision { autostart: Some(Autostart::No), ..Supervision::default() };
        let profile = Supervision {
            on_crash: Some(CrashPolicy::Restart),
            autostart: Some(Autostart::Yes),
            autostart_priority: Some(7),
            autostart_delay_s: Some(3600),
        };
        assert_eq!(own.or(&profile), Supervision { autostart: Some(Autostart::No), ..profile });
        assert_eq!(profile.check(), Ok(()));
        let late = Supervision { autostart_delay_s: Some(3601), ..profile };
        assert!(late.check().unwrap_err().contains("3601"));
        assert_eq!(serde_json::from_str::<Supervision>("{}").unwrap(), Supervision::default());
    }
}
