//! What a VPS may use: one table of limits, and what is made of it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::{ByteSize, CpuCount};

/// Makes [`Limit`], [`Limits`] and what reads them, out of the table below.
macro_rules! limits {
    ($(
        $(#[doc = $doc:literal])+
        $limit:ident {
            $key:ident: $amount:ty, $name:literal, $field:literal, $placeholder:literal,
            $least:literal..=$most:literal, $enforcer:ident, $help:literal
        }
    )*) => {
        /// One of the limits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Limit {
            $($(#[doc = $doc])+ $limit,)*
        }

        /// The limits of a VPS. `None` means that nothing but the host limits it.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Limits {
            $(
                $(#[doc = $doc])+
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $key: Option<$amount>,
            )*
        }

        impl Limit {
            /// All of its values.
            pub const ALL: &'static [Self] = &[$(Self::$limit,)*];

            /// What the table says of it.
            pub const fn row(self) -> LimitRow {
                match self {
                    $(Self::$limit => LimitRow {
                        name: $name,
                        key: stringify!($key),
                        field: $field,
                        path: concat!("limits.", $field),
                        placeholder: $placeholder,
                        least: $least,
                        most: $most,
                        enforcer: Enforcer::$enforcer,
                        help: $help,
                    },)*
                }
            }

            /// Reads an amount as people write it. Its range is [`Self::check`]'s matter.
            pub fn parse(self, text: &str) -> Result<u64, String> {
                match self {
                    $(Self::$limit => read::<$amount>(text),)*
                }
            }

            /// An amount as people write it.
            pub fn show(self, amount: u64) -> String {
                match self {
                    $(Self::$limit => <$amount>::of(amount).to_string(),)*
                }
            }
        }

        impl Limits {
            /// The amount of a limit, in its unit.
            pub fn get(&self, limit: Limit) -> Option<u64> {
                match limit {
                    $(Limit::$limit => self.$key.map(Amount::amount),)*
                }
            }

            /// Sets the amount of a limit, or takes it away. What does not fit becomes the most that does, which
            /// [`Self::check`] refuses.
            pub fn set(&mut self, limit: Limit, amount: Option<u64>) {
                match limit {
                    $(Limit::$limit => self.$key = amount.map(Amount::of),)*
                }
            }
        }
    };
}

// The table of limits. A limit is a row here; what can't be made of the row (a field of the proto, a column, what enforces
// it) is missed by a test or by the compiler until it is there.
//
// name of the limit { key in YAML and in the journal: type, name for people, field of the proto, what `--help` calls its
//     amount, range in its unit, what enforces it, help }
limits! {
    /// CPU time per time, as a number of CPUs, in thousandths.
    Cpus {
        cpus: CpuCount, "cpus", "cpu_milli", "NUMBER",
        50..=8_192_000, Group, "CPU time, as a number of CPUs such as 2 or 0.5"
    }
    /// The share of CPU under contention, 1 to 10000; 100 is the default (`cpu.weight` of cgroup2).
    CpuWeight {
        cpu_weight: u32, "cpu-weight", "cpu_weight", "WEIGHT",
        1..=10_000, Group, "Share of CPU time when CPUs are busy, 1 to 10000 [usual: 100]"
    }
    /// Memory, file cache included, in bytes.
    Memory {
        memory: ByteSize, "memory", "memory_bytes", "SIZE",
        0x400_0000..=0x4_0000_0000_0000, Group, "Memory, file cache included"
    }
    /// Swap on top of the memory, in bytes.
    Swap {
        swap: ByteSize, "swap", "swap_bytes", "SIZE",
        0..=0x4_0000_0000_0000, Group, "Swap, on top of the memory"
    }
    /// Processes and threads together.
    Processes {
        processes: u32, "processes", "processes", "NUMBER",
        64..=4_194_304, Group, "Processes and threads together"
    }
    /// The size of the root file system: what is written on top of the image, in bytes.
    Disk {
        disk: ByteSize, "disk", "disk_bytes", "SIZE",
        0x400_0000..=0x80_0000_0000_0000, Pool, "Disk space for what is written on top of the image"
    }
}

/// What there is to know of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRow {
    /// Its name for people: of the flag, the key of `insula set`, the column.
    pub name: &'static str,
    /// Its name in YAML, and in journals.
    pub key: &'static str,
    /// Its field in the API.
    pub field: &'static str,
    /// The path of that in a mask.
    pub path: &'static str,
    /// What `--help` calls its amount.
    pub placeholder: &'static str,
    /// The least that boots a system.
    pub least: u64,
    /// The most that the kernel takes.
    pub most: u64,
    /// What enforces it.
    pub enforcer: Enforcer,
    /// What `--help` says.
    pub help: &'static str,
}

/// What enforces a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcer {
    /// The control group of the VPS.
    Group,
    /// The pool that has its root.
    Pool,
}

/// A type of amounts.
trait Amount: Sized + Copy + fmt::Display {
    /// As a number, in its unit.
    fn amount(self) -> u64;
    /// Out of a number; the most there is, where that is less.
    fn of(amount: u64) -> Self;
}

impl Amount for CpuCount {
    fn amount(self) -> u64 {
        self.0.into()
    }

    fn of(amount: u64) -> Self {
        Self(u32::of(amount))
    }
}

impl Amount for ByteSize {
    fn amount(self) -> u64 {
        self.0
    }

    fn of(amount: u64) -> Self {
        Self(amount)
    }
}

impl Amount for u32 {
    fn amount(self) -> u64 {
        self.into()
    }

    fn of(amount: u64) -> Self {
        amount.try_into().unwrap_or(Self::MAX)
    }
}

fn read<T: Amount + FromStr<Err: fmt::Display>>(text: &str) -> Result<u64, String> {
    text.parse::<T>().map(Amount::amount).map_err(|error| error.to_string())
}

/// A limit is refused: its amount is outside of what makes sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid limit {} {}: it must be at least {} and at most {}",
    .limit.row().name, .limit.show(*.amount), .limit.show(.limit.row().least), .limit.show(.limit.row().most)
)]
pub struct LimitsError {
    /// The limit that was given.
    pub limit: Limit,
    /// The amount that was given.
    pub amount: u64,
}

impl Limit {
    /// The limit that has this name for people.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|limit| limit.row().name == name)
    }

    /// The limit that has this name in YAML and in journals.
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|limit| limit.row().key == key)
    }

    /// Refuses what no system boots with and what the kernel can't hold.
    pub fn check(self, amount: u64) -> Result<(), LimitsError> {
        let LimitRow { least, most, .. } = self.row();
        match (least..=most).contains(&amount) {
            true => Ok(()),
            false => Err(LimitsError { limit: self, amount }),
        }
    }
}

impl Limits {
    /// The share of CPU under contention: what is asked for, or the default of cgroup2.
    pub fn cpu_weight(&self) -> u32 {
        self.cpu_weight.unwrap_or(100)
    }

    /// All limits that there are, with their amounts.
    pub fn all(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.iter().filter_map(|limit| self.get(*limit).map(|amount| (*limit, amount)))
    }

    /// These limits with those of `base` where there are none.
    pub fn or(self, base: &Limits) -> Limits {
        let mut both = base.clone();
        self.all().for_each(|(limit, amount)| both.set(limit, Some(amount)));
        both
    }

    /// Refuses what no system boots with and what the kernel can't hold.
    pub fn check(&self) -> Result<(), LimitsError> {
        self.all().try_for_each(|(limit, amount)| limit.check(amount))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn the_table_is_consistent() {
        for limit in Limit::ALL.iter().copied() {
            let row = limit.row();
            assert!(row.least <= row.most, "{row:?}");
            assert_eq!((Limit::named(row.name), Limit::of_key(row.key)), (Some(limit), Some(limit)));
            for amount in [row.least, row.most] {
                assert_eq!(limit.parse(&limit.show(amount)), Ok(amount), "{row:?}");
                let mut limits = Limits::default();
                limits.set(limit, Some(amount));
                assert_eq!((limits.get(limit), limits.check()), (Some(amount), Ok(())), "{row:?}");
                let json = serde_json::to_value(&limits).unwrap();
                assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), [row.key]);
                limits.set(limit, None);
                assert_eq!(limits, Limits::default());
            }
            assert!(limit.check(row.most + 1).is_err(), "{row:?}");
            assert!(row.least == 0 || limit.check(row.least - 1).is_err(), "{row:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_possible() {
        let refused = Limits { memory: Some(ByteSize::mib(8)), ..Limits::default() }.check().unwrap_err();
        assert_eq!(
            refused.to_string(),
            "invalid limit memory 8MiB: it must be at least 64MiB and at most 1PiB"
        );
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
