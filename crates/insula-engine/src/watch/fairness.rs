//! VPSes that take much of a full host step back.
//!
//! Weights alone give each VPS its share over time. But a VPS that wants little of a CPU waits as long for it as one that
//! wants all: a page that takes 10 ms to make takes three or four times as long beside programs that never stop. So, while
//! the CPUs are full, a VPS that uses its fair share or more has a hundredth of its weight. The others get what they want
//! at once. As that is less than their shares, those that step back still have theirs together, and divide them as their
//! weights say.
//!
//! An account is kept of each, so that resting for a second does not make up for taking all the CPUs in the next: what was
//! taken above the share at whole weight is paid back first. See `docs/adr/0014`.
//!
//! The task that [`Fairness`] begins owns these accounts, and nothing of them is kept for long. Weights are written again
//! and again while the CPUs are full, and whole when they no longer are, or when the agent ends. An agent that begins
//! writes whole weights, whatever a dead one has left.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use insula_runtime::CgroupLayout;
use insula_types::VpsId;

use crate::EngineError;
use crate::vps::handle::VpsHandle;
use crate::vps::table::Table;
use crate::watch::pressure::{Alarm, FULL, Gauge};
use crate::watch::standing::{Standing, Use, settle_all};

/// How long it is counted what VPSes use.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of a VPS from one interval to the next.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// The counter of its CPU time, in ns.
    counter_ns: u64,
    standing: Standing,
}

/// What is known of all VPSes, including those that have stopped and may come back.
#[derive(Debug, Default)]
struct Account(HashMap<VpsId, Entry>);

impl Account {
    /// Takes in the counters, and settles where each VPS stands. A VPS that is new has used nothing yet.
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

/// Lets VPSes step back. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Fairness {
    layout: CgroupLayout,
    table: Arc<Table>,
    /// The VPSes that have a hundredth of their weight now. `None` before any may, and after the agent's end.
    stepped_back: Arc<Mutex<Option<BTreeSet<VpsId>>>>,
}

impl Fairness {
    pub(crate) fn new(layout: CgroupLayout, table: Arc<Table>) -> Self {
        Self { layout, table, stepped_back: Arc::default() }
    }

    fn stepped_back(&self) -> MutexGuard<'_, Option<BTreeSet<VpsId>>> {
        self.stepped_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the task that lets VPSes step back while the host is full.
    pub(crate) fn begin(&self) {
        let alarm = match Alarm::set() {
            Ok(alarm) => alarm,
            Err(error) => {
                tracing::warn!(
                    "VPSes that use much of a full host don't step back: there is no pressure stall information: {error}"
                );
                return;
            }
        };
        // What a dead agent has left. Said before the task begins, or an agent that ends at once would be told too late.
        let alive = self.alive().iter().map(|handle| handle.id).collect();
        *self.stepped_back() = Some(alive);
        let fairness = self.clone();
        tokio::spawn(async move {
            let Err(error) = fairness.stay_fair(alarm).await;
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
        let fairness = self.clone();
        let giving = move || {
            let mut stepped_back = fairness.stepped_back();
            let Some(before) = stepped_back.as_mut() else { return };
            before.union(&back).for_each(|vps| fairness.give_share(vps, back.contains(vps)));
            *before = back;
        };
        // It can't fail but by a panic, which has been reported.
        let _ = tokio::task::spawn_blocking(giving).await;
    }

    /// Gives all their whole shares, as nobody will look after them until the next agent does.
    pub(crate) async fn end(&self) {
        let fairness = self.clone();
        let giving = move || {
            let mut stepped_back = fairness.stepped_back();
            stepped_back.take().into_iter().flatten().for_each(|vps| fairness.give_share(&vps, false));
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
