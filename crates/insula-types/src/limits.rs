//! What a VPS may use: one table of limits, and the types that are generated from it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::{ByteSize, CpuCount};

/// Generates [`Limit`], [`Limits`] and the functions that read them from the table below.
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
            /// All limits.
            pub const ALL: &'static [Self] = &[$(Self::$limit,)*];

            /// What the table says about the limit.
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

            /// Parses an amount as people write it. Whether it is in range is checked by
            /// [`Self::check`].
            pub fn parse(self, text: &str) -> Result<u64, String> {
                match self {
                    $(Self::$limit => read::<$amount>(text),)*
                }
            }

            /// Formats an amount as people write it.
            pub fn show(self, amount: u64) -> String {
                match self {
                    $(Self::$limit => <$amount>::of(amount).to_string(),)*
                }
            }
        }

        impl Limits {
            /// The amount of a limit, in the limit's unit. `None` if it is not set.
            pub fn get(&self, limit: Limit) -> Option<u64> {
                match limit {
                    $(Limit::$limit => self.$key.map(Amount::amount),)*
                }
            }

            /// Sets the amount of a limit, or removes it with `None`. An amount that does not fit
            /// the type becomes the largest one that does, and [`Self::check`] refuses that.
            pub fn set(&mut self, limit: Limit, amount: Option<u64>) {
                match limit {
                    $(Limit::$limit => self.$key = amount.map(Amount::of),)*
                }
            }
        }
    };
}

// The table of limits. Each limit is one row. Some things can't be generated from the row: a field of
// the proto, a column, the enforcement. A test or the compiler reports them until they are added.
//
// name of the limit { key in YAML and in the journal: type, name for people, field of the proto,
//     placeholder of its amount in `--help`, range in its unit, what enforces it, help }
limits! {
    /// CPU time per time, as a number of CPUs. The unit of its range is a thousandth of a CPU.
    Cpus {
        cpus: CpuCount, "cpus", "cpu_milli", "NUMBER",
        50..=8_192_000, Group, "CPU time, as a number of CPUs such as 2 or 0.5"
    }
    /// The weight of the VPS when CPUs are contended, 1 to 10000. The default is 100 (`cpu.weight`
    /// of cgroup2).
    CpuWeight {
        cpu_weight: u32, "cpu-weight", "cpu_weight", "WEIGHT",
        1..=10_000, Group, "Share of CPU time when CPUs are busy, 1 to 10000 [usual: 100]"
    }
    /// Memory in bytes, including file cache.
    Memory {
        memory: ByteSize, "memory", "memory_bytes", "SIZE",
        0x400_0000..=0x4_0000_0000_0000, Group, "Memory, file cache included"
    }
    /// Swap in bytes, in addition to memory.
    Swap {
        swap: ByteSize, "swap", "swap_bytes", "SIZE",
        0..=0x4_0000_0000_0000, Group, "Swap, on top of the memory"
    }
    /// The number of processes and threads together.
    Processes {
        processes: u32, "processes", "processes", "NUMBER",
        64..=4_194_304, Group, "Processes and threads together"
    }
    /// The size of the root file system in bytes. Only what is written on top of the image counts.
    Disk {
        disk: ByteSize, "disk", "disk_bytes", "SIZE",
        0x400_0000..=0x80_0000_0000_0000, Pool, "Disk space for what is written on top of the image"
    }
}

/// What the table says about a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitRow {
    /// The name for people: of the flag, of the key of `insula set`, of the column.
    pub name: &'static str,
    /// The key in YAML and in journals.
    pub key: &'static str,
    /// The name of the field in the API.
    pub field: &'static str,
    /// The path of that field in a field mask.
    pub path: &'static str,
    /// The placeholder for the amount in `--help`, such as `SIZE`.
    pub placeholder: &'static str,
    /// The smallest amount with which a system still boots, in the limit's unit.
    pub least: u64,
    /// The largest amount that the kernel accepts, in the limit's unit.
    pub most: u64,
    /// The part of the host that enforces the limit.
    pub enforcer: Enforcer,
    /// The text for `--help`.
    pub help: &'static str,
}

/// The part of the host that enforces a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcer {
    /// The cgroup of the VPS.
    Group,
    /// The pool that holds the VPS's root.
    Pool,
}

/// A type for amounts of a limit.
trait Amount: Sized + Copy + fmt::Display {
    /// The amount as a number, in the limit's unit.
    fn amount(self) -> u64;
    /// Makes an amount from a number. One that is too large becomes the largest of the type.
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

/// A limit is refused, because its amount is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid limit {} {}: it must be at least {} and at most {}",
    .limit.row().name, .limit.show(*.amount), .limit.show(.limit.row().least), .limit.show(.limit.row().most)
)]
pub struct LimitsError {
    /// The limit that was given.
    pub limit: Limit,
    /// The amount that was asked for, in the limit's unit.
    pub amount: u64,
}

impl Limit {
    /// Finds a limit by its name for people.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|limit| limit.row().name == name)
    }

    /// Finds a limit by its key in YAML and in journals.
    pub fn of_key(key: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|limit| limit.row().key == key)
    }

    /// Refuses an amount with which no system boots, or which the kernel can't hold.
    pub fn check(self, amount: u64) -> Result<(), LimitsError> {
        let LimitRow { least, most, .. } = self.row();
        match (least..=most).contains(&amount) {
            true => Ok(()),
            false => Err(LimitsError { limit: self, amount }),
        }
    }
}

impl Limits {
    /// The CPU weight that was asked for, or the default of cgroup2.
    pub fn cpu_weight(&self) -> u32 {
        self.cpu_weight.unwrap_or(100)
    }

    /// All limits that are set, with their amounts.
    pub fn all(&self) -> impl Iterator<Item = (Limit, u64)> {
        Limit::ALL.iter().filter_map(|limit| self.get(*limit).map(|amount| (*limit, amount)))
    }

    /// Fills in from `base` the limits that are not set here.
    pub fn or(self, base: &Limits) -> Limits {
        let mut both = base.clone();
        self.all().for_each(|(limit, amount)| both.set(limit, Some(amount)));
        both
    }

    /// Refuses amounts with which no system boots, or which the kernel can't hold.
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
