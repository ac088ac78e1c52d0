//! Numbers for things that parallel tests must not share. A number is free again when its process
//! has ended.

use std::fs::File;
use std::path::PathBuf;

use insula_types::IdRange;
use rustix::fs::{FlockOperation, flock};

/// How many scratch hosts a machine may have at a time.
const SLOTS: u32 = 128;

/// How many ranges of ids each scratch host has.
const RANGES: u32 = 128;

/// The first id of scratch hosts: below the ranges of agents with default settings, above those of
/// `useradd`(8).
const FIRST_ID: u32 = 700_000_000;

/// A number that no other scratch host on this machine has at the moment.
#[derive(Debug)]
pub struct Slot {
    number: u32,
    _lock: File,
}

impl Slot {
    /// Takes the first free number.
    pub fn take() -> Self {
        // Not below the target directory, because tests of another checkout may run at the same
        // time.
        let directory = PathBuf::from("/run/lock/insula-test");
        std::fs::create_dir_all(&directory).expect("the tests make hosts: run them as root");
        let free = (0..SLOTS).find_map(|number| {
            let lock = File::create(directory.join(number.to_string())).expect("a lock file");
            flock(&lock, FlockOperation::NonBlockingLockExclusive).ok().map(|()| Self { number, _lock: lock })
        });
        free.unwrap_or_else(|| panic!("{SLOTS} scratch hosts run on this machine already"))
    }

    /// A name for the host's directories and cgroups.
    pub fn name(&self) -> String {
        format!("insula-test-{}", self.number)
    }

    /// The ids for the host's guests.
    pub fn ids(&self) -> IdRange {
        let length = RANGES * IdRange::DEFAULT_LENGTH;
        IdRange { start: FIRST_ID + self.number * length, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_slots_share_nothing() {
        let (one, other) = (Slot::take(), Slot::take());
        assert_ne!(one.name(), other.name());
        assert!(!one.ids().overlaps(&other.ids()));
    }

    #[test]
    fn the_last_slot_ends_below_the_default_range() {
        let last = u64::from(FIRST_ID) + u64::from(SLOTS * RANGES) * u64::from(IdRange::DEFAULT_LENGTH);
        assert!(last <= 1_879_048_192, "{last}");
    }
}
