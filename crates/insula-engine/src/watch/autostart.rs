//! VPSes after the host's boot: which are started, in which order, and how many at a time.
//!
//! The list is made once for each boot of the host, which is known by its boot id; an agent that is restarted starts
//! nothing but what is left of the list. It is in the database before the first start, and each VPS leaves it when its
//! start is accepted, or when somebody stops it before its turn. [`Autostarts`] owns the list, and starts VPSes only by the
//! [`Starter`] that it is given.
//!
//! As many guests boot at once as the host has CPUs. More are added one by one while CPU time is left, as the kernel's
//! pressure stall information tells (Documentation/accounting/psi.rst): guests that wait for a network or a disk hold
//! nobody up, and those that compute are not slowed down by others.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use insula_types::{Autostart, DesiredPower, VpsId, VpsSpec};
use serde::{Deserialize, Serialize};

use crate::EngineError;
use crate::host::database::Database;
use crate::host::nested::read_boot_id;
use crate::vps::handle::{Power, VpsHandle};
use crate::vps::table::Table;
use crate::watch::pressure::Gauge;

/// The setting in the database.
const KEY: &str = "autostart";
/// Where agents before kept the boot id alone.
const OLD_KEY: &str = "boot-id";

/// How long pressure is measured before it is decided upon.
const INTERVAL: Duration = Duration::from_millis(200);
/// For how long a guest counts as booting: one that never says that it is ready holds nobody up for longer.
const LONGEST_BOOT: Duration = Duration::from_secs(60);
/// The CPUs' pressure above which no further guest is started: the share of time in which something waited for a CPU, in
/// thousandths.
const MOST_PRESSURE: u64 = 500;
/// The most guests that boot at once, however little they compute.
const MOST_BOOTS: usize = 64;

/// Executes the init of a VPS, and waits until that is done.
pub(crate) trait Starter: Send + Sync + 'static {
    /// Whoever works on the VPS just now is waited for.
    fn start(&self, handle: &Arc<VpsHandle>) -> impl Future<Output = Result<(), EngineError>> + Send;
}

/// What is left to start.
#[derive(Debug)]
pub(crate) struct Autostarts {
    store: Database,
    table: Arc<Table>,
    is_nested: bool,
    pending: tokio::sync::Mutex<Pending>,
}

/// As it is in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    /// The boot of the host that it is for.
    boot_id: String,
    /// In their order.
    vpses: Vec<VpsId>,
}

/// What follows for a VPS when its host boots.
pub fn starts_with_host(spec: &VpsSpec) -> bool {
    let is_held = spec.suspension.is_some() || spec.trash.is_some();
    !is_held
        && match spec.supervision.autostart.unwrap_or_default() {
            Autostart::AsItWas => spec.power == DesiredPower::On,
            Autostart::Yes => true,
            Autostart::No => false,
        }
}

/// The higher priorities first; those of one priority by name.
fn plan_order(mut specs: Vec<Arc<VpsSpec>>) -> Vec<VpsId> {
    specs.retain(|spec| starts_with_host(spec));
    specs.sort_by(|a, b| (Reverse(priority(a)), &a.name, a.id).cmp(&(Reverse(priority(b)), &b.name, b.id)));
    specs.iter().map(|spec| spec.id).collect()
}

fn priority(spec: &VpsSpec) -> i32 {
    spec.supervision.autostart_priority.unwrap_or_default()
}

/// Whether one more guest may boot beside those that do. `pressure`: the share of the time in which something waited for a
/// CPU, in thousandths; `None` where nothing tells.
fn has_room(booting: usize, cpus: usize, pressure: Option<u64>) -> bool {
    match pressure {
        _ if booting < cpus => true,
        Some(pressure) => booting < MOST_BOOTS.max(cpus) && pressure < MOST_PRESSURE,
        None => false,
    }
}

impl Autostarts {
    pub(crate) fn new(store: Database, table: Arc<Table>, is_nested: bool) -> Self {
        Self { store, table, is_nested, pending: tokio::sync::Mutex::default() }
    }

    fn boot_id(&self) -> Result<String, EngineError> {
        read_boot_id(self.is_nested)
            .map_err(|error| EngineError::internal("failed to read the id of the host's boot", error))
    }

    /// Whether the host has been booted since the last agent began, or nothing is known of that.
    pub(crate) async fn was_host_booted(&self) -> Result<bool, EngineError> {
        let boot_id = self.boot_id()?;
        let (kept, old) = self.store.run(|store| Ok((store.setting(KEY)?, store.setting(OLD_KEY)?))).await?;
        let kept: Option<Pending> = kept.and_then(|json| serde_json::from_str(&json).ok());
        Ok(kept.is_none_or(|kept| kept.boot_id != boot_id) && old.as_deref() != Some(&*boot_id))
    }

    /// Begins to start what should run, when the host has been booted since; goes on with what a dead agent has left of it.
    pub(crate) async fn begin(self: &Arc<Self>, starter: impl Starter) -> Result<(), EngineError> {
        let boot_id = self.boot_id()?;
        let (kept, old) = self.store.run(|store| Ok((store.setting(KEY)?, store.setting(OLD_KEY)?))).await?;
        let kept: Option<Pending> = kept.and_then(|json| serde_json::from_str(&json).ok());
        let vpses = match kept {
            Some(kept) if kept.boot_id == boot_id => kept.vpses,
            _ if old.as_deref() == Some(&*boot_id) => vec![],
            _ => plan_order(self.table.all().iter().map(|handle| handle.spec()).collect()),
        };
        let mut pending = self.pending.lock().await;
        for handle in vpses.iter().filter_map(|vps| self.own(vps)) {
            handle.awaits_autostart.store(true, Ordering::Relaxed);
        }
        *pending = Pending { boot_id, vpses: vpses.clone() };
        self.keep_pending(&pending).await?;
        drop(pending);
        if !vpses.is_empty() {
            let autostarts = self.clone();
            tokio::spawn(async move { autostarts.start_all(vpses, &starter).await });
        }
        Ok(())
    }

    /// Takes a VPS off the list, as its start was accepted, or as it is not to be started.
    pub(crate) async fn forgo(&self, vps: &VpsId) -> Result<(), EngineError> {
        let mut pending = self.pending.lock().await;
        if let Some(place) = pending.vpses.iter().position(|other| other == vps) {
            pending.vpses.remove(place);
            self.keep_pending(&pending).await?;
        }
        if let Some(handle) = self.table.by_id(vps) {
            handle.awaits_autostart.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// A VPS of this host. One of another stays on the list: its turn comes when it lives here.
    fn own(&self, vps: &VpsId) -> Option<Arc<VpsHandle>> {
        self.table.by_id(vps).filter(|handle| !handle.is_elsewhere())
    }

    async fn keep_pending(&self, pending: &Pending) -> Result<(), EngineError> {
        let json = serde_json::to_string(pending).map_err(|error| {
            EngineError::internal("failed to record which VPSes are to be started", error)
        })?;
        self.store.run(move |store| store.put_setting(KEY, &json)).await
    }

    /// Starts VPSes one after the other, as many at a time as the host bears.
    async fn start_all(&self, vpses: Vec<VpsId>, starter: &impl Starter) {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let (mut gauge, mut booting) = (Gauge::new(), FuturesUnordered::new());
        let mut begun = i32::MAX;
        for vps in vpses {
            let Some(handle) = self.own(&vps) else { continue };
            let (spec, mut delay) = (handle.spec(), Duration::ZERO);
            if handle.awaits_autostart.load(Ordering::Relaxed) && starts_with_host(&spec) {
                wait_for_room(&mut booting, cpus, &mut gauge).await;
                if priority(&spec) < begun {
                    begun = priority(&spec);
                    tracing::info!("starting VPSes of autostart priority {begun}");
                }
                match starter.start(&handle).await {
                    Ok(()) => booting.push(boot_of(handle.clone())),
                    Err(error) => {
                        tracing::error!(%vps, "failed to start it after the host's boot: {}", error.chain());
                    }
                }
                delay = Duration::from_secs(spec.supervision.autostart_delay_s.unwrap_or_default().into());
            }
            if let Err(error) = self.forgo(&vps).await {
                tracing::error!(%vps, "{}", error.chain());
            }
            pause(delay).await;
        }
    }
}

/// The boot of a guest: over when it is ready, has ended, or takes too long.
fn boot_of(handle: Arc<VpsHandle>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut observed = handle.observed.clone();
        let is_booting = |power| matches!(power, Power::Starting | Power::Running);
        let over = observed.wait_for(|observed| !is_booting(observed.power));
        let _ = tokio::time::timeout(LONGEST_BOOT, over).await; // however it ends, it is over
    })
}

async fn wait_for_room(
    booting: &mut FuturesUnordered<BoxFuture<'static, ()>>,
    cpus: usize,
    gauge: &mut Gauge,
) {
    while booting.len() >= cpus {
        // What began last must have computed for a while before it shows.
        gauge.read();
        let is_one_less = tokio::select! {
            over = booting.next() => over.is_some(),
            () = pause(INTERVAL) => false,
        };
        if is_one_less || has_room(booting.len(), cpus, gauge.read()) {
            return;
        }
    }
}

#[allow(clippy::disallowed_methods)] // a time is what is asked for
async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_boot_as_the_host_bears() {
        for (booting, cpus, pressure, expected) in [
            (0, 1, None, true),
            (1, 1, None, false),
            (3, 4, None, true),
            (4, 4, None, false),
            // The CPUs have always something to do.
            (1, 2, Some(1000), true),
            (2, 2, Some(500), false),
            (2, 2, Some(499), true),
            (40, 2, Some(0), true),
            (MOST_BOOTS, 2, Some(0), false),
            (MOST_BOOTS, 128, Some(1000), true),
            (127, 128, None, true),
            (128, 128, Some(0), false),
        ] {
            assert_eq!(has_room(booting, cpus, pressure), expected, "{booting} {cpus} {pressure:?}");
        }
    }
}
