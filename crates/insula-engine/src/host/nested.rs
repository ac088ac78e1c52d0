//! An agent that is root of less than a machine: of a container, or of a VPS of another agent.
//!
//! It has a part of the machine's ids, mounts no file as a disk, and its kernel maps no ids of a file system that
//! belongs to the machine. So it takes its VPSes' ids from those that it has, keeps its pool in a plain directory, and
//! gives copies the ids of their VPS ([`insula_storage::Driver::set_owner`]). The walls that need the machine's root,
//! lists of devices and locks on budgets, are those of the VPS around it: they hold for all that is inside. Nothing is
//! kept here: what is observed goes into the settings and the pools.

use std::io;
use std::path::Path;

use insula_storage::Driver;
use insula_sys::user_namespace::{self, Extent};
use insula_types::{IdRange, Reason};

use crate::host::settings::PoolDriver;
use crate::{EngineError, Settings};

/// Whether this agent is one, and says so.
pub(crate) fn observe_nesting() -> Result<bool, EngineError> {
    let is_nested = user_namespace::is_nested()
        .map_err(|error| EngineError::internal("failed to read /proc/self/uid_map", error))?;
    if is_nested {
        tracing::info!(
            "this host is a container: it can give its VPSes only devices and budgets that it has itself"
        );
    }
    Ok(is_nested)
}

/// The driver that was asked for; else the one that works here.
pub(crate) fn choose_driver(settings: &Settings, is_nested: bool) -> PoolDriver {
    match (settings.pool.driver, is_nested) {
        (Some(driver), _) => driver,
        (None, false) => PoolDriver::Btrfs,
        (None, true) => {
            tracing::warn!(
                "a container can't mount btrfs: the pool is a plain directory, without disk limits"
            );
            PoolDriver::Dir
        }
    }
}

/// The ids for VPSes: as set, or, where the host does not have the default ones, others that it has.
pub(crate) fn fit_ids(settings: &mut Settings) -> Result<(), EngineError> {
    let (users, groups) = user_namespace::observe_ids()
        .map_err(|error| EngineError::internal("failed to read /proc/self/uid_map", error))?;
    let ids = plan_ids(settings.ids, Settings::default().ids, &users, &groups).ok_or_else(|| {
        let IdRange { start, length } = settings.ids;
        let message = format!("this host does not have the {length} user and group ids from {start} on");
        EngineError::new(Reason::IdsExhausted, message).hint(
            "set `ids` to a range of /proc/self/uid_map from 65536 on; a VPS has enough of them with the feature nesting",
        )
    })?;
    if ids != settings.ids {
        tracing::info!(start = ids.start, length = ids.length, "VPSes get ids that this host has");
        settings.ids = ids;
    }
    Ok(())
}

/// What was asked for if it is there. Instead of the default, the longest range that is there, in whole ranges of a VPS, above
/// those that the host itself has for its users.
fn plan_ids(asked: IdRange, default: IdRange, users: &[Extent], groups: &[Extent]) -> Option<IdRange> {
    const PART: u64 = IdRange::DEFAULT_LENGTH as u64;
    if [users, groups].iter().all(|extents| has_all(extents, asked)) {
        return Some(asked);
    }
    let end = |extent: &Extent| u64::from(extent.start) + u64::from(extent.length);
    let common = users.iter().flat_map(|user| {
        groups.iter().filter_map(move |group| {
            let first = u64::from(user.start.max(group.start)).max(PART).next_multiple_of(PART);
            let last = end(user).min(end(group)) / PART * PART;
            let length = last.checked_sub(first)?.min(u64::from(default.length));
            Some(IdRange { start: first.try_into().ok()?, length: length.try_into().ok()? })
        })
    });
    let longest = common.max_by_key(|range| range.length)?;
    (asked == default && longest.length >= IdRange::DEFAULT_LENGTH).then_some(longest)
}

fn has_all(extents: &[Extent], range: IdRange) -> bool {
    let mut next = u64::from(range.start);
    while next < range.end() {
        let has = |extent: &&Extent| {
            let first = u64::from(extent.start);
            (first..first + u64::from(extent.length)).contains(&next)
        };
        let Some(extent) = extents.iter().find(has) else { return false };
        next = u64::from(extent.start) + u64::from(extent.length);
    }
    true
}

/// Whether the kernel maps the ids of files in a pool when it mounts them. Where the driver could not do without, it does.
pub(crate) fn observe_id_mapping(pool: &dyn Driver, path: &Path, ids: IdRange) -> Result<bool, EngineError> {
    if pool.abilities().instant_copies {
        return Ok(true);
    }
    let maps_ids = insula_runtime::observe_id_mapping(path, ids)
        .map_err(|error| EngineError::internal("failed to find out whether ids can be mapped", error))?;
    if !maps_ids {
        tracing::info!(
            "the kernel maps no ids of files in {}: copies get those of their VPS instead",
            path.display()
        );
    }
    Ok(maps_ids)
}

/// What changes with each boot of this host: random(4); a container's boot is its init's.
pub(crate) fn read_boot_id(is_nested: bool) -> io::Result<String> {
    let machine = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    if !is_nested {
        return Ok(machine);
    }
    let init = std::fs::read_to_string("/proc/1/stat")?;
    // The 22nd field of proc_pid_stat(5), its start; the second one, its name, may have anything in it.
    let start = init.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
    Ok(format!("{} {}", machine.trim(), start.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: IdRange = IdRange { start: 1_879_048_192, length: 268_435_456 };

    const fn extent(start: u32, length: u32) -> Extent {
        Extent { start, outside: 7, length }
    }

    const fn range(start: u32, length: u32) -> IdRange {
        IdRange { start, length }
    }

    #[test]
    fn ids_are_those_that_the_host_has() {
        let whole = &[extent(0, u32::MAX)][..];
        for (asked, users, groups, expected) in [
            (DEFAULT, whole, whole, Some(DEFAULT)),
            // A VPS with room, and one without.
            (DEFAULT, &[extent(0, 1 << 20)], &[extent(0, 1 << 20)], Some(range(65_536, (1 << 20) - 65_536))),
            (DEFAULT, &[extent(0, 65_536)], &[extent(0, 65_536)], None),
            (DEFAULT, &[extent(0, 131_071)], &[extent(0, 131_071)], None),
            // What was set is taken as it is, or not at all.
            (
                range(100_000, 65_536),
                &[extent(0, 1 << 20)],
                &[extent(0, 1 << 20)],
                Some(range(100_000, 65_536)),
            ),
            (range(1 << 20, 65_536), &[extent(0, 1 << 20)], &[extent(0, 1 << 20)], None),
            // Users and groups must both be there, in pieces or not.
            (DEFAULT, &[extent(0, 1 << 20)], &[extent(0, 200_000)], Some(range(65_536, 131_072))),
            (
                range(65_536, 131_072),
                &[extent(0, 100_000), extent(100_000, 100_000)],
                whole,
                Some(range(65_536, 131_072)),
            ),
            (DEFAULT, &[extent(0, 1), extent(1, 400_000)], whole, Some(range(65_536, 327_680))),
        ] {
            assert_eq!(plan_ids(asked, DEFAULT, users, groups), expected, "{asked:?} {users:?} {groups:?}");
        }
    }

    #[test]
    fn a_boot_of_a_container_is_a_boot() {
        let machine = read_boot_id(false).unwrap();
        let container = read_boot_id(true).unwrap();
        let (id, start) = container.split_once(' ').unwrap();
        assert_eq!(id, machine.trim());
        assert!(start.parse::<u64>().is_ok(), "{start}");
    }
}
