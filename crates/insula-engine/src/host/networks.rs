//! The networks of this host: which there are, their bridges and NAT, and the guard against forged addresses.
//!
//! The database says which networks there should be. The agent's settings name one of them, which is put there or
//! changed when the agent begins; others come and go while it runs. [`Networks`] owns the set of those that are made. A
//! change is first in the database and then on the host: what a crash leaves undone, the next agent makes, because it
//! makes all that is in the database. Only a network that no VPS uses is removed, or moved to another range or bridge;
//! the caller holds `assigning`, so that none begins to use it meanwhile. What a VPS is doing is not known here.

mod addresses;
mod configured;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use insula_net::{
    BridgeError, FirewallError, GuestPort, TableName, add_network, add_ports, assignable, check_network,
    ensure_bridge, ensure_bridge_absent, ensure_firewall_absent, ensure_forwarding, ensure_guard, ensure_nat,
    observe_forward_blockers, observe_interface, remove_network, remove_ports,
};
use insula_runtime::plan::host_interface_name;
use insula_store::Store;
use insula_types::{
    NetworkName, NetworkOrigin, NetworkSpec, Nic, NicAddresses, PlacedNic, Profile, Reason, VpsId, VpsSpec,
};

use crate::blocking::blocking;
use crate::error::EngineError;
use crate::host::database::Database;
use crate::host::settings::NetworkSettings;
pub(crate) use addresses::WantedNic;
use addresses::{Assigned, plan_nics, plan_wanted};
use configured::{Seeding, choose, collide, plan_seeding};

/// Set when this agent has switched forwarding on, to be switched off in the end.
const FORWARDING_KEY: &str = "forwarding-was-off";

/// A network and how full it is.
#[derive(Debug, Clone)]
pub struct NetworkView {
    /// As it should be.
    pub spec: NetworkSpec,
    /// How many addresses are assigned.
    pub assigned: u32,
    /// How many can be.
    pub assignable: u32,
}

/// The networks that are made, and what there is of a firewall.
#[derive(Debug)]
pub(crate) struct Networks {
    store: Database,
    table: TableName,
    /// Whether guests are kept from sending from addresses of others.
    guards: bool,
    made: RwLock<BTreeMap<NetworkName, Arc<NetworkSpec>>>,
}

impl Networks {
    /// Makes the networks what they should be. What works already is not touched: guests that run are guarded all
    /// the time.
    pub(crate) fn open(settings: &NetworkSettings, store: Database) -> Result<Self, EngineError> {
        let table = settings.nft_table.clone();
        let configured = choose(settings, &store)?;
        let used = store.addresses()?.into_iter().map(|address| address.network).collect();
        let seeding = plan_seeding(&configured, store.networks()?, &used);
        say_what_is_odd(&seeding, &configured);
        remove_unnamed(&seeding, &store)?;
        ensure_bridge(&configured).map_err(|error| not_made(&configured, error))?;
        let mut made = BTreeMap::from([(configured.name.clone(), Arc::new(configured.clone()))]);
        for network in seeding.made.into_iter().filter(|network| network.name != configured.name) {
            match ensure_bridge(&network) {
                Ok(_) => drop(made.insert(network.name.clone(), Arc::new(network))),
                Err(error) => tracing::error!("{}", not_made(&network, error).chain()),
            }
        }
        if ensure_forwarding().map_err(|error| not_made(&configured, error))? {
            store.put_setting(FORWARDING_KEY, "1")?;
        }
        ensure_nat(&table, made.values().map(|network| &**network)).map_err(firewall_failed)?;
        for blocker in observe_forward_blockers(&table).map_err(firewall_failed)? {
            tracing::warn!("{blocker}");
        }
        let ports: Vec<GuestPort> = store.vpses()?.iter().flat_map(guest_ports).collect();
        let guards = match ensure_guard(&table, &ports) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!("guests can forge addresses: {}", firewall_failed(error).chain());
                false
            }
        };
        Ok(Self { store, table, guards, made: RwLock::new(made) })
    }

    /// The network of this name.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<NetworkSpec>, EngineError> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.values().find(|network| network.name.as_str() == name).cloned().ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            let names: Vec<&str> = made.keys().map(NetworkName::as_str).collect();
            EngineError::new(Reason::NetworkNotFound, format!("there is no network {shown:?}"))
                .hint(format!("there are {}", names.join(", ")))
        })
    }

    /// All of them, by name.
    pub(crate) fn all(&self) -> Vec<Arc<NetworkSpec>> {
        self.made.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Makes one more.
    pub(crate) fn add(&self, spec: NetworkSpec) -> Result<(), EngineError> {
        self.check_new(&spec)?;
        if self.find(spec.name.as_str()).is_ok() {
            return Err(EngineError::invalid(
                "network",
                format!("a network {:?} already exists", spec.name.as_str()),
            ));
        }
        self.store.put_network(&spec)?;
        self.make(spec.clone()).inspect_err(|_| self.take_back(&spec))
    }

    /// Leaves nothing of a network that could not be made. The caller gets the error that was first.
    fn take_back(&self, spec: &NetworkSpec) {
        let forgotten = self.store.delete_network(&spec.name).map_err(EngineError::from);
        for error in [self.unmake(spec), forgotten].into_iter().filter_map(Result::err) {
            tracing::error!("{}", error.chain());
        }
    }

    /// Changes one to what it should be from now on. Guests that run see other name servers at their next start.
    pub(crate) fn change(&self, spec: NetworkSpec) -> Result<(), EngineError> {
        let before = self.find(spec.name.as_str())?;
        if before.attachment == spec.attachment && before.subnet == spec.subnet {
            self.store.put_network(&spec)?;
            self.keep(spec);
            return Ok(());
        }
        self.check_unused(&before)?;
        self.check_new(&spec)?;
        self.store.put_network(&spec)?;
        self.unmake(&before)?;
        self.make(spec)
    }

    /// Removes one that no VPS uses. The one that the settings name would be back with the next agent.
    pub(crate) fn remove(&self, name: &str) -> Result<(), EngineError> {
        let network = self.find(name)?;
        if network.origin == NetworkOrigin::Settings {
            return Err(EngineError::invalid("network", format!("network {name:?} comes from the settings"))
                .hint("name another in the agent's configuration"));
        }
        self.check_unused(&network)?;
        self.unmake(&network)?;
        Ok(self.store.delete_network(&network.name)?)
    }

    /// Whether a network can be made beside those that there are, but for one of the same name.
    fn check_new(&self, spec: &NetworkSpec) -> Result<(), EngineError> {
        let bridge = check_network(spec).map_err(|refusal| {
            EngineError::new(Reason::FacilityMissing, "this host can't make the network").caused_by(refusal)
        })?;
        let others = self.all();
        let mut others = others.iter().filter(|other| other.name != spec.name);
        if let Some(other) = others.find(|other| collide(other, spec)) {
            let message = format!(
                "network {:?} would share its bridge or addresses with network {:?} ({})",
                spec.name.as_str(),
                other.name.as_str(),
                other.subnet
            );
            return Err(EngineError::invalid("network", message));
        }
        let is_own = |network: &Arc<NetworkSpec>| network.attachment == spec.attachment;
        let is_known = self.find(spec.name.as_str()).is_ok_and(|before| is_own(&before));
        match is_known || !observe_interface(bridge).map_err(|error| not_made(spec, error))? {
            true => Ok(()),
            false => Err(EngineError::invalid(
                "network",
                format!("an interface {bridge} already exists on the host"),
            )),
        }
    }

    /// A network in use stays as it is.
    fn check_unused(&self, network: &NetworkSpec) -> Result<(), EngineError> {
        let addresses = self.store.addresses()?.into_iter();
        let vpses: BTreeSet<_> =
            addresses.filter(|address| address.network == network.name).map(|address| address.vps).collect();
        match vpses.len() {
            0 => Ok(()),
            count => {
                let name = network.name.as_str();
                let message =
                    format!("network {name:?} is used by {count} VPSes, those in the trash included");
                Err(EngineError::invalid("network", message).hint("delete these VPSes first"))
            }
        }
    }

    /// Makes a network of the database on the host.
    fn make(&self, spec: NetworkSpec) -> Result<(), EngineError> {
        ensure_bridge(&spec).map_err(|error| not_made(&spec, error))?;
        add_network(&self.table, &spec).map_err(firewall_failed)?;
        self.keep(spec);
        Ok(())
    }

    fn keep(&self, spec: NetworkSpec) {
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        made.insert(spec.name.clone(), Arc::new(spec));
    }

    /// Takes a network from the host, but not from the database.
    fn unmake(&self, network: &NetworkSpec) -> Result<(), EngineError> {
        self.made.write().unwrap_or_else(PoisonError::into_inner).remove(&network.name);
        let rules = remove_network(&self.table, network).map_err(firewall_failed);
        let bridge = remove_bridge(network); // also after an error
        rules.and(bridge)
    }

    /// The networks that a VPS's interfaces are plugged into, in the order of these.
    pub(crate) fn of(&self, spec: &VpsSpec) -> Result<Vec<Arc<NetworkSpec>>, EngineError> {
        spec.nics.iter().map(|nic| self.find(nic.network.as_str())).collect()
    }

    /// All of them, and how full they are.
    pub(crate) async fn views(&self) -> Result<Vec<NetworkView>, EngineError> {
        let assigned = self.store.run(|store| store.addresses()).await?;
        let view = |spec: Arc<NetworkSpec>| {
            let own = assigned.iter().filter(|address| address.network == spec.name).count();
            NetworkView {
                assigned: u32::try_from(own).unwrap_or(u32::MAX),
                assignable: u32::try_from(assignable(&spec)).unwrap_or(u32::MAX),
                spec: (*spec).clone(),
            }
        };
        Ok(self.all().into_iter().map(view).collect())
    }

    /// The interfaces of a VPS that is made with these networks, or those of its profile.
    pub(crate) fn wanted_nics(
        &self,
        asked: &[NetworkName],
        profile: &Profile,
    ) -> Result<Vec<WantedNic>, EngineError> {
        let names = if asked.is_empty() { &profile.networks } else { asked };
        let wanted = plan_wanted(names)?;
        names.iter().try_for_each(|name| self.find(name.as_str()).map(drop))?;
        Ok(wanted)
    }

    /// The interfaces of a VPS, and addresses for them. These are its own once it is in the database: the caller lets no other
    /// choose until then.
    pub(crate) async fn assign(
        &self,
        vps: &VpsId,
        wanted: &[WantedNic],
        asked: &[IpAddr],
    ) -> Result<(Vec<Nic>, NicAddresses), EngineError> {
        let with_network = |nic: &WantedNic| Ok((nic.clone(), self.find(nic.network.as_str())?));
        let wanted = wanted.iter().map(with_network).collect::<Result<Vec<_>, EngineError>>()?;
        let names: Vec<NetworkName> = wanted.iter().map(|(_, network)| network.name.clone()).collect();
        let observe = move |store: &Store| {
            let mut last = BTreeMap::new();
            for name in names {
                if let Some(address) = store.last_address(name.as_str())? {
                    last.insert(name, address);
                }
            }
            Ok(Assigned { taken: store.addresses()?, last })
        };
        let assigned = self.store.run(observe).await?;
        plan_nics(vps, &wanted, asked, &assigned)
    }

    /// Lets a VPS's interfaces send from its own addresses only.
    pub(crate) async fn guard(&self, spec: &VpsSpec) -> Result<(), EngineError> {
        self.change_guard(spec, add_ports).await
    }

    /// Forgets a VPS's interfaces.
    pub(crate) async fn unguard(&self, spec: &VpsSpec) -> Result<(), EngineError> {
        self.change_guard(spec, remove_ports).await
    }

    async fn change_guard(
        &self,
        spec: &VpsSpec,
        change: fn(&TableName, &[GuestPort]) -> Result<(), FirewallError>,
    ) -> Result<(), EngineError> {
        if !self.guards {
            return Ok(());
        }
        let (table, ports) = (self.table.clone(), guest_ports(spec));
        blocking("guard addresses", move || change(&table, &ports).map_err(firewall_failed)).await
    }

    /// Removes bridges and firewall, and switches forwarding off if it was off before.
    pub(crate) fn take_down(&self) -> Result<(), EngineError> {
        ensure_firewall_absent(&self.table).map_err(firewall_failed)?;
        self.all().iter().try_for_each(|network| remove_bridge(network))?;
        if self.store.setting(FORWARDING_KEY)?.as_deref() == Some("1") {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")
                .map_err(|error| EngineError::internal("failed to switch forwarding off", error))?;
            self.store.put_setting(FORWARDING_KEY, "0")?;
        }
        Ok(())
    }
}

/// What an administrator should know of the networks that the settings do not name.
fn say_what_is_odd(seeding: &Seeding, configured: &NetworkSpec) {
    let unnamed =
        |network: &&NetworkSpec| network.origin == NetworkOrigin::Settings && network.name != configured.name;
    for NetworkSpec { name, .. } in seeding.made.iter().filter(unnamed) {
        tracing::warn!("network {name} is kept: the settings no longer name it, but VPSes use it");
    }
    for NetworkSpec { name, subnet, .. } in &seeding.colliding {
        tracing::error!(
            "network {name} ({subnet}) was not made: another network has its bridge or its addresses. VPSes in it can't start"
        );
    }
}

/// Removes what came from settings of before, and nobody uses. A bridge that another network has stays.
fn remove_unnamed(seeding: &Seeding, store: &Store) -> Result<(), EngineError> {
    for network in &seeding.removed {
        tracing::info!("network {} is removed: the settings no longer name it", network.name);
        let others = seeding.made.iter().chain(&seeding.colliding);
        if others.clone().all(|other| other.attachment != network.attachment) {
            remove_bridge(network)?;
        }
        store.delete_network(&network.name)?;
    }
    Ok(())
}

fn remove_bridge(network: &NetworkSpec) -> Result<(), EngineError> {
    let Some(bridge) = network.attachment.bridge() else { return Ok(()) };
    ensure_bridge_absent(bridge)
        .map(drop)
        .map_err(|error| EngineError::internal("failed to remove the bridge", error))
}

fn guest_ports(spec: &VpsSpec) -> Vec<GuestPort> {
    let port = |(index, PlacedNic { nic, addresses })| {
        let veth = host_interface_name(&spec.id, index)?;
        Some(GuestPort { veth, mac: nic.mac, addresses: addresses.to_vec() })
    };
    spec.placed_nics().enumerate().filter_map(port).collect()
}

fn not_made(network: &NetworkSpec, error: BridgeError) -> EngineError {
    EngineError::internal(format!("failed to make network {:?}", network.name.as_str()), error)
}

fn firewall_failed(error: FirewallError) -> EngineError {
    match error {
        FirewallError::NftMissing { .. } => EngineError::new(Reason::FacilityMissing, "there is no firewall")
            .hint("install the package nftables")
            .caused_by(error),
        _ => EngineError::internal("the firewall refused", error),
    }
}

#[cfg(test)]
mod tests;
