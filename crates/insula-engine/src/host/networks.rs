//! The host's side of the network of VPSes: the bridge, NAT, and the guard against forged addresses.

use insula_net::{
    FirewallError, GuestPort, TableName, apply_guard, apply_guest_port, apply_nat, choose_subnet,
    ensure_bridge, ensure_bridge_absent, ensure_firewall_absent, ensure_forwarding, observe_forward_blockers,
    observe_occupied, remove_guest_port,
};
use insula_runtime::plan::host_interface_name;
use insula_store::Store;
use insula_types::{NetworkSpec, Reason, VpsSpec};

use crate::{Engine, EngineError, Settings};

/// Set when this agent has switched forwarding on, to be switched off in the end.
const FORWARDING_KEY: &str = "forwarding-was-off";

/// What there is of a firewall.
#[derive(Debug)]
pub(crate) struct Firewall {
    table: TableName,
    /// Whether guests are kept from sending from addresses of others.
    guards: bool,
}

/// The network of this host.
pub(crate) struct Opened {
    pub(crate) spec: NetworkSpec,
    pub(crate) firewall: Firewall,
}

/// Makes the network what it should be. Its range is chosen once.
pub(crate) fn open(settings: &Settings, store: &Store) -> Result<Opened, EngineError> {
    let table = settings.network.nft_table.clone();
    let spec = choose(settings, store)?;
    let failed =
        |error| EngineError::internal(format!("failed to make network {:?}", spec.name.as_str()), error);
    ensure_bridge(&spec).map_err(failed)?;
    if ensure_forwarding().map_err(failed)? {
        store.put_setting(FORWARDING_KEY, "1")?;
    }
    apply_nat(&table, std::slice::from_ref(&spec)).map_err(firewall_failed)?;
    for blocker in observe_forward_blockers(&table).map_err(firewall_failed)? {
        tracing::warn!("guests may not reach the world: {blocker}");
    }
    let guards = match apply_guard(&table, &[]) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("guests can forge addresses: {}", firewall_failed(error).chain());
            false
        }
    };
    Ok(Opened { spec, firewall: Firewall { table, guards } })
}

/// The network as it is kept, changed as the settings say.
fn choose(settings: &Settings, store: &Store) -> Result<NetworkSpec, EngineError> {
    let wanted = &settings.network;
    let kept = store.networks()?.into_iter().find(|network| network.name == wanted.name);
    let subnet = match (wanted.subnet, &kept) {
        (Some(subnet), Some(kept)) if subnet != kept.subnet && !store.addresses()?.is_empty() => {
            let message = format!("network.subnet is {subnet}, but VPSes have addresses of {}", kept.subnet);
            return Err(
                EngineError::invalid("network.subnet", message).hint("delete these VPSes, or set it back")
            );
        }
        (Some(subnet), _) => subnet,
        (None, Some(kept)) => kept.subnet,
        (None, None) => {
            let occupied = observe_occupied(&wanted.bridge)
                .map_err(|error| EngineError::internal("failed to look at the host's routes", error))?;
            choose_subnet(&occupied, seed(wanted.bridge.as_str())).ok_or_else(|| {
                EngineError::new(
                    Reason::FacilityMissing,
                    "every private range collides with a route of the host",
                )
                .hint("set network.subnet in the agent's configuration")
            })?
        }
    };
    let dns = wanted.dns.clone().unwrap_or_default();
    let spec = NetworkSpec { name: wanted.name.clone(), bridge: wanted.bridge.clone(), subnet, dns };
    if kept.as_ref() != Some(&spec) {
        store.put_network(&spec)?;
    }
    Ok(spec)
}

/// Two agents of one machine begin to look at different places. FNV-1a.
fn seed(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Engine {
    /// Guards all VPSes anew.
    pub(crate) async fn guard_all(&self) {
        if !self.firewall.guards {
            return;
        }
        let ports: Vec<GuestPort> =
            self.table.all().iter().flat_map(|handle| guest_ports(&handle.spec())).collect();
        let table = self.firewall.table.clone();
        let done =
            crate::blocking("guard addresses", move || apply_guard(&table, &ports).map_err(firewall_failed));
        if let Err(error) = done.await {
            tracing::error!("guests can forge addresses: {}", error.chain());
        }
    }

    /// Lets a VPS's interfaces send from its own addresses only.
    pub(crate) async fn guard(&self, spec: &VpsSpec) -> Result<(), EngineError> {
        self.each_port(spec, apply_guest_port).await
    }

    /// Forgets a VPS's interfaces.
    pub(crate) async fn unguard(&self, spec: &VpsSpec) -> Result<(), EngineError> {
        self.each_port(spec, remove_guest_port).await
    }

    async fn each_port(
        &self,
        spec: &VpsSpec,
        change: fn(&TableName, &GuestPort) -> Result<(), FirewallError>,
    ) -> Result<(), EngineError> {
        if !self.firewall.guards {
            return Ok(());
        }
        let (table, ports) = (self.firewall.table.clone(), guest_ports(spec));
        crate::blocking("guard addresses", move || {
            ports.iter().try_for_each(|port| change(&table, port)).map_err(firewall_failed)
        })
        .await
    }

    /// Removes bridge and firewall, and switches forwarding off if it was off before.
    pub(crate) async fn take_network_down(&self) -> Result<(), EngineError> {
        let (networks, table, store) =
            (self.networks.clone(), self.firewall.table.clone(), self.store.clone());
        crate::blocking("take the network down", move || {
            ensure_firewall_absent(&table).map_err(firewall_failed)?;
            for network in &networks {
                ensure_bridge_absent(network)
                    .map_err(|error| EngineError::internal("failed to remove the bridge", error))?;
            }
            if store.setting(FORWARDING_KEY)?.as_deref() == Some("1") {
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "0")
                    .map_err(|error| EngineError::internal("failed to switch forwarding off", error))?;
                store.put_setting(FORWARDING_KEY, "0")?;
            }
            Ok(())
        })
        .await
    }
}

fn guest_ports(spec: &VpsSpec) -> Vec<GuestPort> {
    let port = |(index, nic): (usize, &insula_types::Nic)| {
        let veth = host_interface_name(&spec.id, index)?;
        Some(GuestPort { veth, mac: nic.mac, addresses: nic.addresses.clone() })
    };
    spec.nics.iter().enumerate().filter_map(port).collect()
}

fn firewall_failed(error: FirewallError) -> EngineError {
    match error {
        FirewallError::NftMissing { .. } => EngineError::new(Reason::FacilityMissing, "there is no firewall")
            .hint("install the package nftables")
            .caused_by(error),
        _ => EngineError::internal("the firewall refused", error),
    }
}
