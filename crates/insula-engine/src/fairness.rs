//! VPSes that take much of a full host step back.
//!
//! Weights alone give each VPS its share over time, but who wants little waits as long for a CPU as who wants all of it: a
//! page that takes 10 ms to make takes three or four times as long beside programs that never stop. So, while the CPUs are
//! full, a VPS that uses its fair share or more has a hundredth of its weight. The others get what they want at once,
//! and as that is less than their shares, those who step back still have theirs together, and divide them as their
//! weights say.
//!
//! Nothing is kept: weights are written again and again while the CPUs are full, and whole when they no longer are. An
//! agent begins with whole weights, whatever a dead one has left.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use insula_types::VpsId;

use crate::pressure::{Alarm, FULL, Gauge};
use crate::{Engine, EngineError, VpsHandle};

/// How long it is counted what VPSes use.
const INTERVAL: Duration = Duration::from_secs(1);

/// Who uses less CPU time than this in an interval wants none, and has no share of it: in ns.
const LEAST_NS: u64 = 1_000_000;

/// What a VPS has used in an interval.
#[derive(Debug, Clone, Copy)]
struct Use {
    vps: VpsId,
    weight: u32,
    ns: u64,
    /// Whether it had stepped back: then it may have wanted more than it has used.
    is_back: bool,
}

/// Who steps back: who uses its fair share or more, which is a part of what all have used, by weight, of those who want
/// any. One alone does, too, for whoever comes next. Who has stepped back stays there until it uses less than a quarter of
/// its share. An interval in which another used too much says nothing of that: who has stepped back may have been pushed
/// aside.
fn plan_back(uses: &[Use]) -> BTreeSet<VpsId> {
    let wants_any = |it: &&Use| it.ns >= LEAST_NS || it.is_back;
    let all_ns: u128 = uses.iter().filter(wants_any).map(|it| u128::from(it.ns)).sum();
    let all_weights: u128 = uses.iter().filter(wants_any).map(|it| u128::from(it.weight)).sum();
    let uses_part = |it: &Use, part: u128| {
        it.ns >= LEAST_NS && u128::from(it.ns) * all_weights * part >= all_ns * u128::from(it.weight)
    };
    let is_news = uses.iter().any(|it| !it.is_back && uses_part(it, 1));
    let is_back = |it: &&Use| uses_part(it, 1) || it.is_back && (is_news || uses_part(it, 4));
    uses.iter().filter(is_back).map(|it| it.vps).collect()
}

/// What is known from one interval to the next.
#[derive(Debug, Default)]
struct Account {
    /// The counters of CPU time, in ns.
    counted: HashMap<VpsId, u64>,
    /// Who has stepped back.
    back: BTreeSet<VpsId>,
}

impl Account {
    /// Takes the counters in, and what follows from them. Who was not there before has used nothing yet.
    fn settle(&mut self, counters: &[(Arc<VpsHandle>, u64)]) {
        let use_of = |(handle, ns): &(Arc<VpsHandle>, u64)| Use {
            vps: handle.id,
            weight: handle.spec().limits.cpu_weight.unwrap_or(100),
            ns: self.counted.get(&handle.id).map_or(0, |before| ns.saturating_sub(*before)),
            is_back: self.back.contains(&handle.id),
        };
        let uses: Vec<Use> = counters.iter().map(use_of).collect();
        self.back = plan_back(&uses);
        self.counted = counters.iter().map(|(handle, ns)| (handle.id, *ns)).collect();
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
        let engine = self.clone();
        tokio::spawn(async move {
            let Err(error) = engine.stay_fair(alarm).await;
            tracing::error!("VPSes no longer step back: {}", error.chain());
        });
    }

    async fn stay_fair(&self, alarm: Alarm) -> Result<Infallible, EngineError> {
        let left = self.alive().iter().map(|handle| handle.id).collect();
        self.give_shares(left, BTreeSet::new()).await?;
        loop {
            let rung = alarm.rung().await;
            rung.map_err(|error| EngineError::internal("failed to wait for pressure", error))?;
            self.share_full_host().await?;
        }
    }

    /// Until the CPUs are no longer full.
    #[allow(clippy::disallowed_methods)] // a time is what is measured
    async fn share_full_host(&self) -> Result<(), EngineError> {
        let (mut gauge, mut account) = (Gauge::new(), Account::default());
        account.settle(&self.count_cpu_time().await?);
        loop {
            tokio::time::sleep(INTERVAL).await;
            if gauge.read().is_none_or(|pressure| pressure < FULL) {
                return self.give_shares(account.back, BTreeSet::new()).await;
            }
            let before = account.back.clone();
            account.settle(&self.count_cpu_time().await?);
            self.give_shares(before, account.back.clone()).await?;
        }
    }

    fn alive(&self) -> Vec<Arc<VpsHandle>> {
        let mut handles = self.table.all();
        handles.retain(|handle| handle.state().is_alive());
        handles
    }

    /// The counters of all VPSes that run, in ns: a small file of the kernel each.
    async fn count_cpu_time(&self) -> Result<Vec<(Arc<VpsHandle>, u64)>, EngineError> {
        let (layout, handles) = (self.layout.clone(), self.alive());
        let count = move |handle: Arc<VpsHandle>| layout.observe_cpu_ns(&handle.id).map(|ns| (handle, ns));
        crate::blocking("count CPU time", move || Ok(handles.into_iter().filter_map(count).collect())).await
    }

    /// Gives those that step back their part, and those that did before, and no longer do, their whole share. Written
    /// each time, as other limits and a guest's reboot write whole shares meanwhile.
    async fn give_shares(&self, before: BTreeSet<VpsId>, back: BTreeSet<VpsId>) -> Result<(), EngineError> {
        let engine = self.clone();
        crate::blocking("give shares of CPU", move || {
            for vps in before.union(&back) {
                let Some(handle) = engine.table.by_id(vps) else { continue };
                let steps_back = back.contains(vps);
                if let Err(error) = engine.layout.set_cpu_share(vps, &handle.spec().limits, steps_back) {
                    let error = EngineError::internal("failed to give a share of CPU", error);
                    tracing::warn!(%vps, "{}", error.chain());
                }
            }
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const NOBODY: Vec<usize> = vec![];

    /// Who steps back, by place. Each: weight, milliseconds used, whether it has stepped back.
    fn back(uses: &[(u32, u64, bool)]) -> Vec<usize> {
        let use_of = |&(weight, ms, is_back)| Use { vps: VpsId::new(), weight, ns: ms * MS, is_back };
        let uses: Vec<Use> = uses.iter().map(use_of).collect();
        let planned = plan_back(&uses);
        (0..uses.len()).filter(|place| planned.contains(&uses[*place].vps)).collect()
    }

    #[test]
    fn who_uses_a_fair_share_steps_back() {
        // Three bombs and who serves pages, on two CPUs.
        assert_eq!(
            back(&[(100, 200, false), (100, 750, false), (100, 600, false), (100, 450, false)]),
            [1, 2]
        );
        assert_eq!(
            back(&[(100, 200, false), (100, 400, true), (100, 300, true), (100, 900, false)]),
            [1, 2, 3]
        );
        // Nobody goes first but who comes next.
        assert_eq!(back(&[(100, 700, false), (100, 700, false)]), [0, 1]);
        assert_eq!(back(&[(100, 2, false), (100, 0, false)]), [0]);
        // Who wants nothing has no share, and makes nobody else's smaller.
        assert_eq!(back(&[(100, 0, false), (100, 0, false), (100, 900, false), (100, 300, false)]), [2]);
        assert_eq!(back(&[(100, 0, true), (100, 0, false)]), NOBODY);
        assert_eq!(back(&[]), NOBODY);
    }

    #[test]
    fn a_share_goes_by_weight() {
        assert_eq!(back(&[(100, 700, false), (900, 900, false)]), [0]);
        assert_eq!(back(&[(900, 900, false), (100, 99, false)]), [0]);
    }

    #[test]
    fn who_has_stepped_back_steps_forward_at_a_quarter_unless_it_was_pushed_aside() {
        assert_eq!(back(&[(100, 250, true), (100, 1750, true)]), [0, 1]);
        assert_eq!(back(&[(100, 249, true), (100, 1751, true)]), [1]);
        assert_eq!(back(&[(100, 20, true), (100, 1980, false)]), [0, 1]);
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

    /// The same when some have stepped back.
    fn divide_among(vpses: &[(u32, u32, bool)], is_back: &[bool]) -> Vec<f64> {
        let weight = |weight: u32, is_back: bool| f64::from(weight) / if is_back { 100.0 } else { 1.0 };
        let wants = vpses.iter().zip(is_back).map(|(vps, is_back)| (weight(vps.0, *is_back), vps.1));
        divide(&wants.collect::<Vec<_>>())
    }

    proptest::proptest! {
        /// Wherever it begins, it comes to rest, and then everybody has what it wants, or its fair share.
        #[test]
        fn nobody_goes_short(
            vpses in proptest::collection::vec((1..=1000u32, 1..4000u32, proptest::bool::ANY), 1..12)
        ) {
            let mut is_back: Vec<bool> = vpses.iter().map(|vps| vps.2).collect();
            for _ in 0..2 * vpses.len() + 2 {
                let has = divide_among(&vpses, &is_back);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // some thousand at most
                let use_of = |it: usize| (vpses[it].0, has[it] as u64, is_back[it]);
                let planned = back(&(0..vpses.len()).map(use_of).collect::<Vec<_>>());
                is_back = (0..vpses.len()).map(|it| planned.contains(&it)).collect();
            }
            let (has, whole) = (divide_among(&vpses, &is_back), divide_among(&vpses, &vec![false; vpses.len()]));
            for (it, vps) in vpses.iter().enumerate() {
                let least = 0.9 * whole[it].min(f64::from(vps.1)) - 2.0; // what is read are whole milliseconds
                proptest::prop_assert!(has[it] >= least, "{it}: {has:?} {whole:?} {is_back:?}");
            }
        }
    }
}
