//! VPSes that take much of a full host step back.
//!
//! Weights alone give each VPS its share over time, but who wants little waits as long for a CPU as who wants all of it: a
//! page that takes 10 ms to make takes three or four times as long beside programs that never stop. So, while the CPUs are
//! full, a VPS that uses its fair share or more has a hundredth of its weight. The others get what they want at once,
//! and as that is less than their shares, those who step back still have theirs together, and divide them as their
//! weights say.
//!
//! An account is kept of each, so that resting for a second does not make up for taking all the CPUs in the next: what was
//! taken above the share at whole weight is paid back first. See `docs/adr/0014`.
//!
//! Nothing of that is kept for long: weights are written again and again while the CPUs are full, and whole when they no
//! longer are, or when the agent ends. One that begins writes whole weights, whatever a dead one has left.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use insula_types::VpsId;

use crate::watch::pressure::{Alarm, FULL, Gauge};
use crate::{Engine, EngineError, VpsHandle};

/// How long it is counted what VPSes use.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who uses less CPU time than this in an interval wants none, and has no share of it: in ns.
const LEAST_NS: u64 = 1_000_000;

/// Where a VPS stands between two intervals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Standing {
    /// It has a hundredth of its weight.
    is_back: bool,
    /// CPU time that it was kept from; below zero, what it has taken from others: in ns.
    owed_ns: i64,
}

/// What a VPS has used in an interval, and where it stood.
#[derive(Debug, Clone, Copy)]
struct Use {
    weight: u32,
    ns: u64,
    standing: Standing,
}

impl Use {
    /// Who has stepped back may want more than it was left.
    fn wants_any(&self) -> bool {
        self.ns >= LEAST_NS || self.standing.is_back
    }

    /// What follows from an interval in which its fair share was `share_ns`, and all have used `all_ns` together.
    ///
    /// Who uses its share or more steps back, and owes what was above. (One alone does, too, for whoever comes next.) Who has
    /// stepped back is owed what it lacks; what it has above its share nobody else wanted. It steps forward when it is owed as
    /// much as an interval at whole weight can bring, so that it does not take more than that, and nobody else is to
    /// step forward for what it takes.
    fn settle(&self, share_ns: i64, all_ns: i64) -> Standing {
        let Standing { is_back, owed_ns } = self.standing;
        let lacks_ns = share_ns - i64::try_from(self.ns).unwrap_or(i64::MAX);
        match is_back {
            false if lacks_ns > 0 || !self.wants_any() => Standing::default(),
            false => Standing { is_back: true, owed_ns: owed_ns + lacks_ns },
            true => {
                let paid_ns = owed_ns.saturating_add(lacks_ns);
                let owed_ns = if lacks_ns > 0 { paid_ns.min(all_ns) } else { owed_ns.min(paid_ns.max(0)) };
                Standing { is_back: owed_ns < all_ns, owed_ns }
            }
        }
    }
}

/// Where each stands after an interval. A fair share is a part of what all have used, by weight, of those who want any.
fn settle_all(uses: &[Use]) -> Vec<Standing> {
    let wanting = || uses.iter().filter(|it| it.wants_any());
    let all_ns: i128 = wanting().map(|it| i128::from(it.ns)).sum();
    let weights: i128 = wanting().map(|it| i128::from(it.weight)).sum::<i128>().max(1);
    let ns = |ns: i128| i64::try_from(ns).unwrap_or(i64::MAX);
    uses.iter().map(|it| it.settle(ns(all_ns * i128::from(it.weight) / weights), ns(all_ns))).collect()
}

/// What is known of a VPS from one interval to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// The counter of its CPU time, in ns.
    counter_ns: u64,
    standing: Standing,
}

/// What is known of all: also of who is away, and may come back.
#[derive(Debug, Default)]
struct Account(HashMap<VpsId, Entry>);

impl Account {
    /// Takes the counters in, and what follows from them. Who was not there before has used nothing yet.
    fn take(&mut self, counters: &[(Arc<VpsHandle>, u64)]) {
        let entries = &mut self.0;
        let use_of = |(handle, counter_ns): &(Arc<VpsHandle>, u64)| {
            let entry = entries.get(&handle.id);
            let before = entry.map_or(*counter_ns, |entry| entry.counter_ns);
            Use {
                weight: handle.spec().limits.cpu_weight(),
                // One that has started again since counts from zero.
                ns: counter_ns.checked_sub(before).unwrap_or(*counter_ns),
                standing: entry.map(|entry| entry.standing).unwrap_or_default(),
            }
        };
        let settled = settle_all(&counters.iter().map(use_of).collect::<Vec<_>>());
        for ((handle, counter_ns), standing) in counters.iter().zip(settled) {
            entries.insert(handle.id, Entry { counter_ns: *counter_ns, standing });
        }
    }

    fn back(&self) -> BTreeSet<VpsId> {
        let is_back = |(vps, entry): (&VpsId, &Entry)| entry.standing.is_back.then_some(*vps);
        self.0.iter().filter_map(is_back).collect()
    }
}

/// Who has a hundredth of its weight now. `None` before anybody may, and after the agent's end.
#[derive(Debug, Default)]
pub(crate) struct SteppedBack(Mutex<Option<BTreeSet<VpsId>>>);

impl SteppedBack {
    fn lock(&self) -> MutexGuard<'_, Option<BTreeSet<VpsId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// Begins the task that lets VPSes step back while the host is full.
    pub(crate) fn keep_fair(&self) {
        let alarm = match Alarm::set() {
            Ok(alarm) => alarm,
            Err(error) => {
                tracing::warn!(
                    "VPSes that take much of a full host don't step back: no pressure stall information: {error}"
                );
                return;
            }
        };
        // What a dead agent has left. Said before the task begins, or an agent that ends at once would be told too late.
        let alive = self.alive().iter().map(|handle| handle.id).collect();
        *self.stepped_back.lock() = Some(alive);
        let engine = self.clone();
        tokio::spawn(async move {
            let Err(error) = engine.stay_fair(alarm).await;
            tracing::error!("VPSes no longer step back: failed to wait for pressure: {error}");
        });
    }

    async fn stay_fair(&self, alarm: Alarm) -> io::Result<Infallible> {
        loop {
            self.give_shares(BTreeSet::new()).await;
            alarm.rung().await?;
            self.share_full_host().await;
        }
    }

    /// Until the CPUs are no longer full.
    #[allow(clippy::disallowed_methods)] // a time is what is measured
    async fn share_full_host(&self) {
        let (mut gauge, mut account) = (Gauge::new(), Account::default());
        loop {
            account.take(&self.count_cpu_time().await);
            account.0.retain(|vps, _| self.table.by_id(vps).is_some());
            self.give_shares(account.back()).await;
            tokio::time::sleep(INTERVAL).await;
            if gauge.read().is_none_or(|pressure| pressure < FULL) {
                return;
            }
        }
    }

    fn alive(&self) -> Vec<Arc<VpsHandle>> {
        let mut handles = self.table.all();
        handles.retain(|handle| handle.state().is_alive());
        handles
    }

    /// The counters of all VPSes that run, in ns: a small file of the kernel each.
    async fn count_cpu_time(&self) -> Vec<(Arc<VpsHandle>, u64)> {
        let (layout, handles) = (self.layout.clone(), self.alive());
        let count = move |handle: Arc<VpsHandle>| layout.observe_cpu_ns(&handle.id).map(|ns| (handle, ns));
        let counting = move || handles.into_iter().filter_map(count).collect();
        // It can't fail but by a panic, which has been reported.
        tokio::task::spawn_blocking(counting).await.unwrap_or_default()
    }

    /// Gives those that step back their part, and those that did before, and no longer do, their whole share. Written
    /// each time, as other limits and a guest's reboot write whole shares meanwhile.
    async fn give_shares(&self, back: BTreeSet<VpsId>) {
        let engine = self.clone();
        let giving = move || {
            let mut stepped_back = engine.stepped_back.lock();
            let Some(before) = stepped_back.as_mut() else { return };
            before.union(&back).for_each(|vps| engine.give_share(vps, back.contains(vps)));
            *before = back;
        };
        // It can't fail but by a panic, which has been reported.
        let _ = tokio::task::spawn_blocking(giving).await;
    }

    /// Gives all their whole shares, as nobody will look after them until the next agent does.
    pub(crate) async fn end_fairness(&self) {
        let engine = self.clone();
        let giving = move || {
            let mut stepped_back = engine.stepped_back.lock();
            stepped_back.take().into_iter().flatten().for_each(|vps| engine.give_share(&vps, false));
        };
        let _ = tokio::task::spawn_blocking(giving).await;
    }

    fn give_share(&self, vps: &VpsId, steps_back: bool) {
        let Some(handle) = self.table.by_id(vps) else { return };
        if let Err(error) = self.layout.set_cpu_share(vps, &handle.spec().limits, steps_back) {
            let error = EngineError::internal("failed to give a share of CPU", error);
            tracing::warn!(%vps, "{}", error.chain());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MS: i64 = 1_000_000;
    const FORWARD: Standing = Standing { is_back: false, owed_ns: 0 };

    fn back(owed_ms: i64) -> Standing {
        Standing { is_back: true, owed_ns: owed_ms * MS }
    }

    /// Where they stand after an interval. Each: weight, milliseconds used, where it stood.
    fn settled(uses: &[(u32, u64, Standing)]) -> Vec<Standing> {
        let use_of = |&(weight, ms, standing)| Use { weight, ns: ms * 1_000_000, standing };
        settle_all(&uses.iter().map(use_of).collect::<Vec<_>>())
    }

    #[test]
    fn who_uses_a_fair_share_steps_back_and_owes_what_was_above() {
        // Three bombs and who serves pages, on two CPUs.
        assert_eq!(
            settled(&[(100, 200, FORWARD), (100, 750, FORWARD), (100, 600, FORWARD), (100, 450, FORWARD)]),
            [FORWARD, back(-250), back(-100), FORWARD]
        );
        // Nobody goes first but who comes next.
        assert_eq!(settled(&[(100, 700, FORWARD), (100, 700, FORWARD)]), [back(0), back(0)]);
        assert_eq!(settled(&[(100, 2, FORWARD), (100, 0, FORWARD)]), [back(0), FORWARD]);
        // Who wants nothing has no share, and makes nobody else's smaller.
        assert_eq!(
            settled(&[(100, 0, FORWARD), (100, 0, FORWARD), (100, 900, FORWARD), (100, 300, FORWARD)]),
            [FORWARD, FORWARD, back(-300), FORWARD]
        );
        assert_eq!(settled(&[]), []);
    }

    #[test]
    fn a_share_goes_by_weight() {
        assert_eq!(settled(&[(100, 700, FORWARD), (900, 900, FORWARD)]), [back(-540), FORWARD]);
        assert_eq!(settled(&[(900, 900, FORWARD), (100, 100, FORWARD)]), [back(0), back(0)]);
    }

    #[test]
    fn who_has_stepped_back_is_owed_what_it_lacks() {
        // It pays back first, and what it has above its share is nobody's loss.
        assert_eq!(settled(&[(100, 300, back(-900)), (100, 1700, back(0))]), [back(-200), back(0)]);
        // What it is owed, it may get so, too.
        assert_eq!(settled(&[(100, 1300, back(800)), (100, 700, back(0))]), [back(500), back(300)]);
        assert_eq!(settled(&[(100, 1300, back(200)), (100, 700, back(0))]), [back(0), back(300)]);
    }

    #[test]
    fn who_is_owed_a_whole_interval_steps_forward() {
        let owed = |owed_ms| Standing { is_back: false, ..back(owed_ms) };
        assert_eq!(settled(&[(100, 10, back(1000)), (100, 1990, back(0))]), [back(1990), back(0)]);
        assert_eq!(settled(&[(100, 0, back(1000)), (100, 2000, back(0))]), [owed(2000), back(0)]);
        assert_eq!(settled(&[(100, 0, back(1900)), (100, 2000, back(0))]), [owed(2000), back(0)]);
        // It takes what it is owed, or does not want it after all.
        assert_eq!(settled(&[(100, 2000, owed(2000)), (100, 0, back(0))]), [back(1000), back(1000)]);
        assert_eq!(settled(&[(100, 10, owed(2000)), (100, 1990, back(0))]), [FORWARD, back(0)]);
    }

    /// What a VPS wants in each interval, in ms of two CPUs' 2000.
    #[derive(Debug, Clone, Copy)]
    enum Wish {
        /// Always the same.
        Steady(u32),
        /// All it can get for some intervals, nothing for some.
        Bursts { works: u32, rests: u32, begins: u32 },
        /// All it can get whenever it has its whole weight.
        WhenForward,
    }

    const ALL: u32 = 4000;

    impl Wish {
        fn of(self, interval: u32, standing: Standing) -> u32 {
            match self {
                Self::Steady(wish) => wish,
                Self::Bursts { works, rests, begins } if (interval + begins) % (works + rests) < works => ALL,
                Self::WhenForward if !standing.is_back => ALL,
                Self::Bursts { .. } | Self::WhenForward => 0,
            }
        }
    }

    /// How the kernel divides two seconds of CPU time, in ms, among those with these weights and wishes: by weight, and what
    /// one does not want is the others'.
    fn divide(wants: &[(f64, u32)]) -> Vec<f64> {
        let (mut has, mut left) = (vec![0.0; wants.len()], 2000.0);
        loop {
            let lack = |it: usize| f64::from(wants[it].1) - has[it];
            let hungry: Vec<usize> = (0..wants.len()).filter(|it| lack(*it) > 0.001).collect();
            let weights: f64 = hungry.iter().map(|it| wants[*it].0).sum();
            if hungry.is_empty() || left < 0.001 {
                return has;
            }
            let given: Vec<f64> =
                hungry.iter().map(|it| (left * wants[*it].0 / weights).min(lack(*it))).collect();
            left -= given.iter().sum::<f64>();
            hungry.iter().zip(given).for_each(|(it, more)| has[*it] += more);
        }
    }

    /// What each has in [`INTERVALS`], in ms, and in how many of them it has its whole weight.
    fn live(vpses: &[(u32, Wish, Standing)]) -> (Vec<f64>, Vec<u32>) {
        let mut standings: Vec<Standing> = vpses.iter().map(|vps| vps.2).collect();
        let (mut sums, mut forward) = (vec![0.0; vpses.len()], vec![0; vpses.len()]);
        for interval in 0..INTERVALS {
            let wants = vpses.iter().zip(&standings).map(|((weight, wish, _), standing)| {
                let weight = if standing.is_back { weight / 10 } else { weight * 10 }; // as `cpu.shares` has it
                (f64::from(weight), wish.of(interval, *standing))
            });
            let has = divide(&wants.collect::<Vec<_>>());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some thousand at most
            let use_of = |it: usize| (vpses[it].0, has[it] as u64, standings[it]);
            standings = settled(&(0..vpses.len()).map(use_of).collect::<Vec<_>>());
            sums.iter_mut().zip(has).for_each(|(sum, more)| *sum += more);
            forward.iter_mut().zip(&standings).for_each(|(sum, it)| *sum += u32::from(!it.is_back));
        }
        (sums, forward)
    }

    const INTERVALS: u32 = 1000;

    /// A VPS's part of what there is in [`INTERVALS`], by weight, in ms.
    fn share(vpses: &[(u32, Wish, Standing)], it: usize) -> f64 {
        let weights: f64 = vpses.iter().map(|vps| f64::from(vps.0)).sum();
        f64::from(INTERVALS) * 2000.0 * f64::from(vpses[it].0) / weights
    }

    #[test]
    fn who_rests_now_and_then_has_no_more_than_its_share() {
        let clever = [
            Wish::Bursts { works: 1, rests: 1, begins: 0 },
            Wish::Bursts { works: 1, rests: 19, begins: 0 },
            Wish::WhenForward,
        ];
        for wish in clever {
            let mut vpses = vec![(100, Wish::Steady(ALL), FORWARD); 9];
            vpses.push((100, wish, FORWARD));
            let (has, _) = live(&vpses);
            assert!(has[9] < 1.02 * share(&vpses, 9), "{wish:?}: {has:?}");
        }
    }

    #[test]
    fn who_wants_little_goes_first_and_who_wants_all_stays_back() {
        let mut vpses = vec![(100, Wish::Steady(ALL), FORWARD); 9];
        vpses[0].2 = Standing { is_back: false, owed_ns: 2000 * MS }; // it takes all of the first interval
        vpses.push((100, Wish::Steady(100), back(-1000)));
        let (_, forward) = live(&vpses);
        assert!(forward[9] > INTERVALS - 50 && forward[..9].iter().all(|it| *it < 2), "{forward:?}");
    }

    fn a_wish() -> impl Strategy<Value = Wish> {
        prop_oneof![
            (1..ALL).prop_map(Wish::Steady),
            Just(Wish::Steady(ALL)),
            (1..30u32, 1..30u32, 0..60u32).prop_map(|(works, rests, begins)| Wish::Bursts {
                works,
                rests,
                begins
            }),
            Just(Wish::WhenForward),
        ]
    }

    fn a_standing() -> impl Strategy<Value = Standing> {
        prop_oneof![Just(FORWARD), (-2000..2000i64).prop_map(back)]
    }

    proptest! {
        /// Whatever the others do, and wherever it begins: who always wants all it can get has its fair share.
        #[test]
        fn nobody_is_kept_from_its_share(
            vpses in vec((100..=1000u32, a_wish(), a_standing()), 1..12)
        ) {
            let (has, _) = live(&vpses);
            for (it, vps) in vpses.iter().enumerate() {
                if let Wish::Steady(ALL) = vps.1 {
                    prop_assert!(has[it] >= 0.95 * share(&vpses, it) - 8000.0, "{it}: {has:?}");
                }
            }
        }

        /// Who want the same all the time have what they want, or what they would have without all this.
        #[test]
        fn nobody_goes_short(
            vpses in vec((100..=1000u32, (1..ALL).prop_map(Wish::Steady), a_standing()), 1..12)
        ) {
            let (has, _) = live(&vpses);
            let wants: Vec<_> = vpses.iter().map(|(weight, wish, _)| (f64::from(*weight), wish.of(0, FORWARD))).collect();
            for (it, whole) in divide(&wants).into_iter().enumerate() {
                prop_assert!(has[it] >= 0.9 * whole * f64::from(INTERVALS) - 8000.0, "{it}: {has:?} {wants:?}");
            }
        }
    }
}
