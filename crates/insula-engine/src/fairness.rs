//! VPSes that take much of a full host step back.
//!
//! Weights alone give each VPS its share over time, but who wants little waits as long for a CPU as who wants all of it: a
//! page that takes 10 ms to make takes three or four times as long beside programs that never stop. So, while the CPUs are
//! full, a VPS that uses more than half of its fair share has a hundredth of its weight. The others get what they want at
//! once. They want less than half of everything together, and those that step back share the rest as their weights say.
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
    /// Whether it has stepped back already: it steps forward at a quarter of its share, lest it goes to and fro.
    is_back: bool,
}

/// Who steps back. A fair share is a part of what all have used, by weight, of those that want any.
fn plan_back(uses: &[Use]) -> BTreeSet<VpsId> {
    let active = || uses.iter().filter(|it| it.ns >= LEAST_NS);
    let all_ns: u128 = active().map(|it| u128::from(it.ns)).sum();
    let all_weights: u128 = active().map(|it| u128::from(it.weight)).sum();
    let is_greedy = |it: &&Use| {
        let parts = if it.is_back { 4 } else { 2 };
        u128::from(it.ns) * all_weights * parts > all_ns * u128::from(it.weight)
    };
    active().filter(is_greedy).map(|it| it.vps).collect()
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

    /// Who steps back, by place. Each: weight, milliseconds used, whether it has stepped back.
    fn back(uses: &[(u32, u64, bool)]) -> Vec<usize> {
        let use_of = |&(weight, ms, is_back)| Use { vps: VpsId::new(), weight, ns: ms * MS, is_back };
        let uses: Vec<Use> = uses.iter().map(use_of).collect();
        let planned = plan_back(&uses);
        (0..uses.len()).filter(|place| planned.contains(&uses[*place].vps)).collect()
    }

    #[test]
    fn who_uses_more_than_half_of_a_fair_share_steps_back() {
        // Three bombs and who serves pages, on two CPUs.
        assert_eq!(
            back(&[(100, 200, false), (100, 800, false), (100, 600, false), (100, 400, false)]),
            [1, 2, 3]
        );
        // All want all: nobody goes first.
        assert_eq!(back(&[(100, 700, false), (100, 650, false), (100, 650, false)]), [0, 1, 2]);
        // Who wants nothing has no share, and makes nobody else's smaller.
        assert_eq!(back(&[(100, 0, false), (100, 0, false), (100, 900, false), (100, 300, false)]), [2]);
        assert_eq!(back(&[(100, 0, true), (100, 0, false)]), Vec::<usize>::new());
        assert_eq!(back(&[]), Vec::<usize>::new());
    }

    #[test]
    fn a_share_goes_by_weight() {
        assert_eq!(back(&[(100, 900, false), (900, 700, false)]), [0]);
        assert_eq!(back(&[(900, 900, false), (100, 100, false)]), [0, 1]);
    }

    #[test]
    fn who_has_stepped_back_steps_forward_at_a_quarter() {
        assert_eq!(back(&[(100, 400, false), (100, 1600, false)]), [1]);
        assert_eq!(back(&[(100, 400, true), (100, 1600, false)]), [0, 1]);
        assert_eq!(back(&[(100, 200, true), (100, 1800, false)]), [1]);
    }

    proptest::proptest! {
        #[test]
        fn those_who_step_back_have_half_of_all_at_least(uses in proptest::collection::vec((1..=10_000u32, 0..100_000u64), 1..20)) {
            let uses: Vec<_> = uses.into_iter().map(|(weight, ms)| (weight, ms, false)).collect();
            let of_back: u64 = back(&uses).iter().map(|place| uses[*place].1).sum();
            let all: u64 = uses.iter().map(|(_, ms, _)| ms).sum();
            proptest::prop_assert!(of_back * 2 >= all);
        }
    }
}
