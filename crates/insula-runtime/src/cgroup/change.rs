//! Other limits for a VPS that runs.

use std::fs;
use std::io;

use insula_types::{Limits, VpsId};
use rustix::io::Errno;

use super::groups::{is, refused, write, write_if_there};
use super::limits::plan_cpu_share;
use super::{CgroupError, CgroupLayout, CgroupValue, Controller, plan_limits};

/// What v1 limits: memory, and the sum of memory and swap, which is never below the first.
const LEGACY_MEMORY: &str = "memory.limit_in_bytes";
const LEGACY_SUM: &str = "memory.memsw.limit_in_bytes";

/// A value to write, and what is to be written to take that back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change {
    after: CgroupValue,
    before: CgroupValue,
}

impl CgroupLayout {
    /// Replaces the limits of a running VPS. A limit that is `None` is lifted. If the kernel refuses a value, the values
    /// written before it are put back.
    ///
    /// [`CgroupError::InUse`] if the VPS uses more memory than it would be allowed, and the kernel can't reclaim it. (The
    /// limit on processes may be below their number: the guest can't make new ones then.) [`CgroupError::NoGroup`] if the VPS
    /// does not run. The storage enforces the limit on the disk.
    ///
    /// A guest's own reboot applies the values of its monitor: see [`Request::SetLimits`](crate::Request::SetLimits).
    pub fn change_limits(&self, id: &VpsId, limits: &Limits) -> Result<(), CgroupError> {
        let changes = self.observe_before(id, plan_limits(self, limits)?)?;
        let changes = plan_change(changes);
        for (number, change) in changes.iter().enumerate() {
            if let Err(error) = self.change_value(id, &change.after) {
                for done in changes[..number].iter().rev() {
                    // What was allowed before is not refused, and if it is, the first error is the one to tell.
                    let _ = write(&self.file_of(id, &done.before), &done.before.value);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Gives a VPS that runs the share of CPU that its limits say, or, when it is to step back, a hundredth of that. `false` if
    /// it does not run, or the host has no such shares.
    ///
    /// [`change_limits`](Self::change_limits) and the guest's own reboot give it the whole share again: say it again.
    pub fn set_cpu_share(&self, id: &VpsId, limits: &Limits, steps_back: bool) -> Result<bool, CgroupError> {
        let Some(value) = plan_cpu_share(self, limits, steps_back) else { return Ok(false) };
        write_if_there(&self.file_of(id, &value), &value.value)
    }

    /// Reads what each value is to replace.
    fn observe_before(&self, id: &VpsId, values: Vec<CgroupValue>) -> Result<Vec<Change>, CgroupError> {
        let group = self.unified_group(id);
        if !group.exists() {
            return Err(CgroupError::NoGroup { path: group });
        }
        let mut changes = vec![];
        for after in values {
            let path = self.file_of(id, &after);
            match fs::read_to_string(&path) {
                Ok(before) => {
                    let before = CgroupValue { value: before.trim().to_owned(), ..after.clone() };
                    changes.push(Change { after, before });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => after.check_missing(&path)?,
                Err(error) => return Err(refused("read", &path)(error)),
            }
        }
        Ok(changes)
    }

    fn change_value(&self, id: &VpsId, value: &CgroupValue) -> Result<(), CgroupError> {
        if value.file == "memory.max" {
            self.make_room(id, value)?;
        }
        match write(&self.file_of(id, value), &value.value) {
            Err(CgroupError::Refused { source, .. }) if is(&source, Errno::BUSY) => {
                let (limit, file) = match &*value.file {
                    LEGACY_SUM => ("memory and swap", "memory.memsw.usage_in_bytes"),
                    _ => ("memory", "memory.usage_in_bytes"),
                };
                let used_bytes = self.read_bytes(id, file)?;
                Err(CgroupError::InUse { limit, limit_bytes: parse_limit(&value.value), used_bytes })
            }
            result => result,
        }
    }

    /// Reclaims what is above a new `memory.max`. The kernel would take that limit whatever is in use, and kill for it.
    fn make_room(&self, id: &VpsId, value: &CgroupValue) -> Result<(), CgroupError> {
        let limit_bytes = parse_limit(&value.value);
        let excess = self.read_bytes(id, "memory.current")?.saturating_sub(limit_bytes);
        if excess == 0 {
            return Ok(());
        }
        // EAGAIN when it can't reclaim all, ENOENT before Linux 5.19: what is in use then says enough.
        let _ = write(&self.unified_group(id).join("memory.reclaim"), &excess.to_string());
        match self.read_bytes(id, "memory.current")? {
            used_bytes if used_bytes > limit_bytes => {
                Err(CgroupError::InUse { limit: "memory", limit_bytes, used_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Reads a number of bytes from a file of the VPS's memory group.
    fn read_bytes(&self, id: &VpsId, file: &str) -> Result<u64, CgroupError> {
        let group = self.group_with(Controller::Memory, id).unwrap_or_else(|| self.unified_group(id));
        let path = group.join(file);
        fs::read_to_string(&path).map(|text| parse_limit(&text)).map_err(refused("read", &path))
    }
}

/// The order in which a running VPS takes the values. v1 never lets the sum of memory and swap be below the memory: it is
/// raised first and lowered last. Only the last value of a file counts.
fn plan_change(changes: Vec<Change>) -> Vec<Change> {
    let mut last: Vec<Change> = vec![];
    for change in changes {
        last.retain(|earlier| earlier.after.file != change.after.file);
        last.push(change);
    }
    let is_growing = last.iter().any(|Change { after, before }| {
        after.file == LEGACY_MEMORY && parse_limit(&after.value) > parse_limit(&before.value)
    });
    let is_later = |file: &str| file == if is_growing { LEGACY_MEMORY } else { LEGACY_SUM };
    last.sort_by_key(|change| (change.after.controller, is_later(&change.after.file)));
    last
}

/// A number of bytes; `max` and `-1` are no limit.
fn parse_limit(text: &str) -> u64 {
    text.trim().parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(file: &str, after: &str, before: &str) -> Change {
        let controller = match file.split_once('.').unwrap().0 {
            "cpu" => Controller::Cpu,
            "memory" => Controller::Memory,
            _ => Controller::Pids,
        };
        let value = |value: &str| CgroupValue { controller, file: file.to_owned(), value: value.to_owned() };
        Change { after: value(after), before: value(before) }
    }

    fn order(changes: &[(&str, &str, &str)]) -> Vec<String> {
        let changes = changes.iter().map(|(file, after, before)| change(file, after, before)).collect();
        let planned = plan_change(changes);
        planned.into_iter().map(|change| format!("{}={}", change.after.file, change.after.value)).collect()
    }

    #[test]
    fn the_sum_is_raised_first_and_lowered_last() {
        let none = "9223372036854771712";
        for (memory, sum, was, was_sum, expected) in [
            ("200", "300", "100", "150", [(LEGACY_SUM, "300"), (LEGACY_MEMORY, "200")]),
            ("100", "150", "200", "300", [(LEGACY_MEMORY, "100"), (LEGACY_SUM, "150")]),
            ("100", "300", "200", "200", [(LEGACY_MEMORY, "100"), (LEGACY_SUM, "300")]),
            ("-1", "-1", "200", "300", [(LEGACY_SUM, "-1"), (LEGACY_MEMORY, "-1")]),
            ("100", "150", none, none, [(LEGACY_MEMORY, "100"), (LEGACY_SUM, "150")]),
        ] {
            let planned = order(&[
                ("cpu.shares", "9", "8"),
                (LEGACY_SUM, "-1", was_sum),
                (LEGACY_MEMORY, memory, was),
                (LEGACY_SUM, sum, was_sum),
                ("pids.max", "7", "6"),
            ]);
            let [first, second] = expected.map(|(file, value)| format!("{file}={value}"));
            assert_eq!(planned, ["cpu.shares=9".to_owned(), first, second, "pids.max=7".to_owned()]);
        }
    }

    #[test]
    fn the_order_within_a_controller_stays() {
        let planned = order(&[
            ("cpu.cfs_period_us", "100000", "100000"),
            ("cpu.cfs_quota_us", "-1", "50000"),
            ("memory.max", "max", "100"),
            ("memory.swap.max", "0", "max"),
        ]);
        assert_eq!(
            planned,
            ["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=-1", "memory.max=max", "memory.swap.max=0"]
        );
    }
}
