//! What a VPS may use.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::ByteSize;

/// A number of CPUs in thousandths: `CpuCount(1500)` is one and a half.
///
/// Serialized as the text that people write, `1.5`; read from that or from a whole number of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "NumberOrText", into = "String")]
pub struct CpuCount(pub u32);

/// How a number of CPUs may stand in a file.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number of CPUs such as 2 or \"0.5\"")]
enum NumberOrText {
    Number(u32),
    Fraction(f64),
    Text(String),
}

impl TryFrom<NumberOrText> for CpuCount {
    type Error = LimitsError;

    fn try_from(value: NumberOrText) -> Result<Self, LimitsError> {
        match value {
            NumberOrText::Number(count) => count.to_string().parse(),
            NumberOrText::Fraction(count) => count.to_string().parse(),
            NumberOrText::Text(text) => text.parse(),
        }
    }
}

impl From<CpuCount> for String {
    fn from(count: CpuCount) -> String {
        count.to_string()
    }
}

impl CpuCount {
    /// Thousandths of a CPU.
    pub const fn milli(self) -> u32 {
        self.0
    }
}

impl FromStr for CpuCount {
    type Err = LimitsError;

    fn from_str(text: &str) -> Result<Self, LimitsError> {
        let error = || LimitsError::Cpus(text.chars().take(40).collect());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
            return Err(error());
        }
        let whole: u32 = whole.parse().map_err(|_| error())?;
        let milli: u32 = format!("{fraction:0<3}").parse().map_err(|_| error())?;
        whole.checked_mul(1000).and_then(|w| w.checked_add(milli)).map(Self).ok_or_else(error)
    }
}

impl fmt::Display for CpuCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / 1000, self.0 % 1000);
        f.pad(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The limits of a VPS. `None` means that nothing but the host limits it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// CPU time per time, as a number of CPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuCount>,
    /// The share of CPU under contention, 1 to 10000; 100 is the default (`cpu.weight` of cgroup2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u32>,
    /// Memory, file cache included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// Swap on top of the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap: Option<ByteSize>,
    /// Processes and threads together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// The size of the root file system: what is written on top of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
}

/// Why limits are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// Not a number of CPUs.
    #[error(
        "invalid number of CPUs {0:?}: expected a number with up to three digits behind the point, such as 2 or 0.5"
    )]
    Cpus(String),
    /// A value outside of what makes sense.
    #[error("invalid limit {field} {value}: it must be at least {least} and at most {most}")]
    Range {
        /// The field of [`Limits`].
        field: &'static str,
        /// What was asked for.
        value: String,
        /// The least that boots a system.
        least: String,
        /// The most that the kernel takes.
        most: String,
    },
}

impl Limits {
    /// The share of CPU under contention: what is asked for, or the default of cgroup2.
    pub fn cpu_weight(&self) -> u32 {
        self.cpu_weight.unwrap_or(100)
    }

    /// These limits with those of `base` where there are none.
    pub fn or(self, base: &Limits) -> Limits {
        Limits {
            cpus: self.cpus.or(base.cpus),
            cpu_weight: self.cpu_weight.or(base.cpu_weight),
            memory: self.memory.or(base.memory),
            swap: self.swap.or(base.swap),
            processes: self.processes.or(base.processes),
            disk: self.disk.or(base.disk),
        }
    }

    /// Refuses what no system boots with and what the kernel can't hold.
    pub fn check(&self) -> Result<(), LimitsError> {
        check("cpus", self.cpus, CpuCount(50), CpuCount(8_192_000))?;
        check("cpu-weight", self.cpu_weight, 1, 10_000)?;
        check("memory", self.memory, ByteSize::mib(64), ByteSize(1 << 50))?;
        check("swap", self.swap, ByteSize(0), ByteSize(1 << 50))?;
        check("processes", self.processes, 64, 4_194_304)?;
        check("disk", self.disk, ByteSize::mib(64), ByteSize(1 << 55))
    }
}

fn check<T: PartialOrd + fmt::Display>(
    field: &'static str,
    value: Option<T>,
    least: T,
    most: T,
) -> Result<(), LimitsError> {
    match value {
        Some(value) if value < least || value > most => Err(LimitsError::Range {
            field,
            value: value.to_string(),
            least: least.to_string(),
            most: most.to_string(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_read_in_thousandths() {
        let cases = [
            ("2", Some(2000)),
            ("0.5", Some(500)),
            ("1.25", Some(1250)),
            ("1.2345", None),
            ("", None),
            (".5", None),
            ("1.", None),
            ("-1", None),
            ("9999999", None),
        ];
        for (text, milli) in cases {
            assert_eq!(text.parse().ok(), milli.map(CpuCount), "{text:?}");
        }
        assert_eq!(CpuCount(1500).to_string(), "1.5");
        assert_eq!(CpuCount(10_000).to_string(), "10");
    }

    #[test]
    fn files_may_hold_numbers_or_text() {
        for (text, limits) in [
            (r#"{"cpus": 2, "memory": "1GiB"}"#, (2000, 1 << 30)),
            (r#"{"cpus": 0.5, "memory": 1048576}"#, (500, 1 << 20)),
            (r#"{"cpus": "1.5", "memory": "512M"}"#, (1500, 512 << 20)),
        ] {
            let read: Limits = serde_json::from_str(text).unwrap();
            assert_eq!(
                (read.cpus, read.memory),
                (Some(CpuCount(limits.0)), Some(ByteSize(limits.1))),
                "{text}"
            );
            let again: Limits = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
            assert_eq!(again, read);
        }
        assert!(serde_json::from_str::<Limits>(r#"{"memory": "much"}"#).is_err());
        assert!(serde_json::from_str::<Limits>(r#"{"memmory": 1}"#).is_err());
    }

    #[test]
    fn absurd_limits_are_refused() {
        let absurd = [
            Limits { cpus: Some(CpuCount(1)), ..Limits::default() },
            Limits { cpu_weight: Some(0), ..Limits::default() },
            Limits { memory: Some(ByteSize::mib(8)), ..Limits::default() },
            Limits { memory: Some(ByteSize(u64::MAX)), ..Limits::default() },
            Limits { processes: Some(1), ..Limits::default() },
            Limits { disk: Some(ByteSize(1)), ..Limits::default() },
        ];
        for limits in absurd {
            assert!(limits.check().is_err(), "{limits:?}");
        }
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn flags_win_over_the_profile() {
        let profile =
            Limits { cpus: Some(CpuCount(1000)), memory: Some(ByteSize::gib(1)), ..Limits::default() };
        let flags = Limits { cpus: Some(CpuCount(2000)), ..Limits::default() };
        let both = flags.or(&profile);
        assert_eq!((both.cpus, both.memory), (Some(CpuCount(2000)), Some(ByteSize::gib(1))));
    }
}
