//! Which user and group ids a VPS has on the host.
//!
//! All are of the pool in the settings, in ranges of 65,536 that are given away one after the other. A VPS has one; with
//! containers of its own it has several in a row, so that they can have ids that are not its. What is stored has the guest's
//! own ids, so a range can be exchanged for a longer one whenever the VPS is off, but where copies have the ids of their VPS. It is never made shorter: files may
//! belong to the ids behind.

use insula_types::{Feature, Features, IdRange, Reason, VpsId, VpsSpec};

use crate::{Engine, EngineError};

impl Engine {
    /// How many ids a VPS with these features needs.
    fn needed_ids(&self, features: &Features) -> u32 {
        let ranges = if features.has(&Feature::Nesting) { self.settings.nesting_id_ranges } else { 1 };
        ranges.saturating_mul(IdRange::DEFAULT_LENGTH)
    }

    /// The next free ids behind those that were given last, going round.
    pub(crate) async fn assign_ids(&self, features: &Features) -> Result<IdRange, EngineError> {
        let length = self.needed_ids(features);
        let taken: Vec<IdRange> = self.table.all().iter().map(|handle| handle.spec().ids).collect();
        let last = self.store(|store| store.last_id_range()).await?;
        next_id_range(&self.settings.ids, length, &taken, last).ok_or_else(|| {
            let message = format!("no {length} user ids in a row are free; {} VPSes have some", taken.len());
            EngineError::new(Reason::IdsExhausted, message)
                .hint("enlarge ids.length in the agent's configuration")
        })
    }

    /// The ids that the files of a VPS have, where the kernel maps none.
    fn ids_on_disk(&self, spec: &VpsSpec) -> Result<Option<IdRange>, EngineError> {
        Ok(self.pools.of(spec)?.driver().owner(spec.id)?)
    }

    /// Refuses features that need other ids where the files of the VPS have the ones of now.
    pub(crate) fn check_exchangeable(&self, spec: &VpsSpec, features: &Features) -> Result<(), EngineError> {
        if spec.ids.length >= self.needed_ids(features) || self.ids_on_disk(spec)?.is_none() {
            return Ok(());
        }
        let message = format!(
            "VPS {:?} has {} ids, nesting needs {}, and the files of its root belong to those that it has",
            spec.name.as_str(),
            spec.ids.length,
            self.needed_ids(features)
        );
        Err(EngineError::new(Reason::FacilityMissing, message)
            .hint("make another VPS with the feature: this host's kernel maps no ids of files in its pool"))
    }

    /// Sees to it that a VPS that is off has as many ids as its features need.
    pub(crate) async fn ensure_ids(&self, vps: &VpsId) -> Result<(), EngineError> {
        let _alone = self.assigning.lock().await;
        let Some(handle) = self.table.by_id(vps) else { return Ok(()) };
        let spec = handle.spec();
        if spec.ids.length >= self.needed_ids(&spec.features) {
            return Ok(());
        }
        self.check_ids(&spec, &spec.features)?;
        self.check_exchangeable(&spec, &spec.features)?;
        let longer = VpsSpec { ids: self.assign_ids(&spec.features).await?, ..(*spec).clone() };
        let kept = longer.clone();
        self.store(move |store| store.exchange_ids(&kept)).await?;
        self.table.change(&handle, longer);
        Ok(())
    }
}

impl Engine {
    /// Refuses features that need more ids than a VPS has whose files have them on disk: they are not its own there, and can't
    /// be exchanged.
    pub(crate) fn check_ids(&self, spec: &VpsSpec, features: &Features) -> Result<(), EngineError> {
        let (has, needs) = (spec.ids.length, self.needed_ids(features));
        if has >= needs || self.ids_on_disk(spec)?.is_none() {
            return Ok(());
        }
        let name = spec.name.as_str();
        let message = format!("VPS {name:?} has {has} user ids on disk, and would need {needs}");
        Err(EngineError::new(Reason::FacilityMissing, message)
            .hint("its pool can't give it others: make a new VPS with these features"))
    }
}

/// The first free ids of the pool in a row behind `last`, going round at its end.
fn next_id_range(pool: &IdRange, length: u32, taken: &[IdRange], last: Option<u32>) -> Option<IdRange> {
    const PART: u32 = IdRange::DEFAULT_LENGTH;
    let (count, wanted) = (pool.length / PART, length / PART);
    let part = |start: u32| start.checked_sub(pool.start).map(|offset| offset / PART);
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
        .map(|first| IdRange { start: pool.start + first * PART, length: wanted * PART })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: IdRange = IdRange { start: 1_000_000, length: 5 * IdRange::DEFAULT_LENGTH };

    fn range(first: u32, parts: u32) -> IdRange {
        let part = IdRange::DEFAULT_LENGTH;
        IdRange { start: POOL.start + first * part, length: parts * part }
    }

    #[test]
    fn id_ranges_go_round_and_are_never_given_twice() {
        let next = |taken: &[u32], last: Option<u32>| {
            let taken: Vec<IdRange> = taken.iter().map(|first| range(*first, 1)).collect();
            let last = last.map(|last| range(last, 1).start);
            next_id_range(&POOL, IdRange::DEFAULT_LENGTH, &taken, last)
        };
        assert_eq!(next(&[], None), Some(range(0, 1)));
        assert_eq!(next(&[0], Some(0)), Some(range(1, 1)));
        assert_eq!(next(&[], Some(0)), Some(range(1, 1)), "not at once again");
        assert_eq!(next(&[4], Some(3)), Some(range(0, 1)), "round at the end");
        assert_eq!(next(&[0, 1, 2, 3, 4], Some(1)), None);
        let another_pool = next_id_range(&POOL, IdRange::DEFAULT_LENGTH, &[], Some(5));
        assert_eq!(another_pool, Some(range(0, 1)), "another pool's last");
    }

    #[test]
    fn long_ranges_lie_in_a_row_and_overlap_none() {
        let next = |parts, taken: &[IdRange], last: Option<u32>| {
            next_id_range(
                &POOL,
                parts * IdRange::DEFAULT_LENGTH,
                taken,
                last.map(|last| range(last, 1).start),
            )
        };
        assert_eq!(next(3, &[], None), Some(range(0, 3)));
        assert_eq!(next(3, &[range(0, 1)], Some(0)), Some(range(1, 3)));
        assert_eq!(next(3, &[range(1, 1)], Some(1)), Some(range(2, 3)));
        assert_eq!(next(3, &[range(2, 1)], None), None, "no three in a row");
        assert_eq!(next(3, &[range(4, 1)], Some(2)), Some(range(0, 3)), "not around the end");
        assert_eq!(next(1, &[range(0, 4)], Some(0)), Some(range(4, 1)), "behind a long one");
        assert_eq!(next(6, &[], None), None, "more than there are");
        // Ranges of settings that were changed since lie across.
        let across = IdRange { start: POOL.start - 10, length: IdRange::DEFAULT_LENGTH };
        assert_eq!(next(1, &[across], None), Some(range(1, 1)));
        let before = IdRange { start: 70_000, length: 5 };
        assert_eq!(next(5, &[before], None), Some(range(0, 5)));
    }
}
