//! Which user and group ids a VPS has on the host. [`Ids`] owns the rule by which they are given away; which are taken is
//! said by its caller, and written down with the VPS. It does not know which VPSes there are.
//!
//! All are of the range in the settings, in parts of 65,536 that are given away one after the other. A VPS has one; with
//! containers of its own it has several in a row, so that these can have ids that are not its own. Files in a pool have
//! the guest's own ids, so a range can be exchanged for a longer one whenever the VPS is off. That is refused where the
//! files of a VPS have its ids on disk. A range is never made shorter: files may belong to its last ids.

use std::sync::Arc;

use insula_types::{Feature, Features, IdRange, Reason, VpsSpec};

use crate::EngineError;
use crate::host::database::Database;
use crate::host::pools::Pools;
use crate::host::settings::Settings;

/// The ids of the host that its VPSes share.
#[derive(Debug)]
pub(crate) struct Ids {
    all: IdRange,
    /// How many parts a VPS has that has containers of its own.
    parts_for_nesting: u32,
    store: Database,
    pools: Arc<Pools>,
}

impl Ids {
    pub(crate) fn new(settings: &Settings, store: Database, pools: Arc<Pools>) -> Self {
        Self { all: settings.ids, parts_for_nesting: settings.nesting_id_ranges, store, pools }
    }

    /// The next free ids after those that were given last, going round. The caller holds `assigning`.
    ///
    /// # Errors
    /// [`Reason::IdsExhausted`]
    pub(crate) async fn assign(
        &self,
        features: &Features,
        taken: &[IdRange],
    ) -> Result<IdRange, EngineError> {
        let length = self.needed(features);
        let last = self.store.run(|store| store.last_id_range()).await?;
        next_id_range(&self.all, length, taken, last).ok_or_else(|| {
            let message =
                format!("no {length} consecutive user ids are free; {} VPSes use some", taken.len());
            EngineError::new(Reason::IdsExhausted, message)
                .hint("enlarge ids.length in the agent's configuration")
        })
    }

    /// Whether a VPS has as many ids as these features need.
    pub(crate) fn suffice(&self, spec: &VpsSpec, features: &Features) -> bool {
        spec.placement.ids.length >= self.needed(features)
    }

    /// Refuses features that need more ids than a VPS has whose files have them on disk: there they can't be exchanged.
    pub(crate) fn check(&self, spec: &VpsSpec, features: &Features) -> Result<(), EngineError> {
        if self.suffice(spec, features) || self.pools.of(spec)?.driver().owner(spec.id)?.is_none() {
            return Ok(());
        }
        let (name, has, needs) = (spec.name.as_str(), spec.placement.ids.length, self.needed(features));
        let message = format!("VPS {name:?} has {has} user ids on disk, and would need {needs}");
        Err(EngineError::new(Reason::FacilityMissing, message)
            .hint("its pool can't change them: create a new VPS with these features"))
    }

    fn needed(&self, features: &Features) -> u32 {
        let parts = if features.has(&Feature::Nesting) { self.parts_for_nesting } else { 1 };
        parts.saturating_mul(IdRange::DEFAULT_LENGTH)
    }
}

/// The first free ids in a row after `last`, going round at the end of all.
fn next_id_range(all: &IdRange, length: u32, taken: &[IdRange], last: Option<u32>) -> Option<IdRange> {
    const PART: u32 = IdRange::DEFAULT_LENGTH;
    let (count, wanted) = (all.length / PART, length / PART);
    let part = |start: u32| start.checked_sub(all.start).map(|offset| offset / PART);
    let mut is_taken = vec![false; count as usize];
    for range in taken {
        let last_id = u32::try_from(range.end() - 1).unwrap_or(u32::MAX);
        let (first, last) = (part(range.start).unwrap_or(0), part(last_id));
        let parts = last.map_or(0..0, |last| first..count.min(last + 1));
        parts.for_each(|index| is_taken[index as usize] = true);
    }
    let after = last.and_then(part).map_or(0, |index| index + 1);
    (0..count)
        .map(|index| (after + index) % count)
        .filter(|first| first + wanted <= count)
        .find(|first| !is_taken[*first as usize..(first + wanted) as usize].contains(&true))
        .map(|first| IdRange { start: all.start + first * PART, length: wanted * PART })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: IdRange = IdRange { start: 1_000_000, length: 5 * IdRange::DEFAULT_LENGTH };

    fn range(first: u32, parts: u32) -> IdRange {
        let part = IdRange::DEFAULT_LENGTH;
        IdRange { start: ALL.start + first * part, length: parts * part }
    }

    #[test]
    fn id_ranges_go_round_and_are_never_given_twice() {
        let next = |taken: &[u32], last: Option<u32>| {
            let taken: Vec<IdRange> = taken.iter().map(|first| range(*first, 1)).collect();
            let last = last.map(|last| range(last, 1).start);
            next_id_range(&ALL, IdRange::DEFAULT_LENGTH, &taken, last)
        };
        assert_eq!(next(&[], None), Some(range(0, 1)));
        assert_eq!(next(&[0], Some(0)), Some(range(1, 1)));
        assert_eq!(next(&[], Some(0)), Some(range(1, 1)), "not at once again");
        assert_eq!(next(&[4], Some(3)), Some(range(0, 1)), "round at the end");
        assert_eq!(next(&[0, 1, 2, 3, 4], Some(1)), None);
        let of_another = next_id_range(&ALL, IdRange::DEFAULT_LENGTH, &[], Some(5));
        assert_eq!(of_another, Some(range(0, 1)), "of another range");
    }

    #[test]
    fn long_ranges_lie_in_a_row_and_overlap_none() {
        let next = |parts, taken: &[IdRange], last: Option<u32>| {
            next_id_range(&ALL, parts * IdRange::DEFAULT_LENGTH, taken, last.map(|last| range(last, 1).start))
        };
        assert_eq!(next(3, &[], None), Some(range(0, 3)));
        assert_eq!(next(3, &[range(0, 1)], Some(0)), Some(range(1, 3)));
        assert_eq!(next(3, &[range(1, 1)], Some(1)), Some(range(2, 3)));
        assert_eq!(next(3, &[range(2, 1)], None), None, "no three in a row");
        assert_eq!(next(3, &[range(4, 1)], Some(2)), Some(range(0, 3)), "not around the end");
        assert_eq!(next(1, &[range(0, 4)], Some(0)), Some(range(4, 1)), "after a long one");
        assert_eq!(next(6, &[], None), None, "more than there are");
        // Ranges of settings that have changed since lie across.
        let across = IdRange { start: ALL.start - 10, length: IdRange::DEFAULT_LENGTH };
        assert_eq!(next(1, &[across], None), Some(range(1, 1)));
        let before = IdRange { start: 70_000, length: 5 };
        assert_eq!(next(5, &[before], None), Some(range(0, 5)));
    }
}
