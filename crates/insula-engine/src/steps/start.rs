//! Booting a VPS: its plan, from its spec and the host's networks, and the ids that it needs before.

use std::sync::Arc;

use insula_net::{check_network, observe_host_dns, render_guest_network};
use insula_runtime::{
    GuestInput, GuestNic, HostInput, RebootPolicy, RootPlan, RunFile, StartEnd, StartInput, StartPlan,
    plan_start,
};
use insula_storage::Volume;
use insula_types::{Attachment, DesiredPower, NetworkSpec, PlacedNic, Reason, VpsSpec};

use crate::host::features::observe_devices;
use crate::{Engine, EngineError, Power, VpsHandle};

impl Engine {
    /// Notes that the VPS should run, and executes its init. Nothing to do when it lives.
    pub(crate) async fn launch(&self, handle: &Arc<VpsHandle>) -> Result<(), EngineError> {
        self.change_spec(&handle.id, |spec| spec.power = DesiredPower::On).await?;
        if handle.observed.borrow().power != Power::Off {
            return Ok(());
        }
        self.ensure_ids(handle).await?;
        let plan = self.plan_start(&handle.spec())?;
        let launched = handle.launch(plan, self.settings.start_timeout()).await;
        self.spares.refill();
        launched
    }

    /// Sees to it that a VPS that is off has as many ids as its features need.
    async fn ensure_ids(&self, handle: &VpsHandle) -> Result<(), EngineError> {
        let _alone = self.assigning.lock().await;
        let spec = handle.spec();
        if self.ids.suffice(&spec, &spec.features) {
            return Ok(());
        }
        self.ids.check(&spec, &spec.features)?;
        let ids = self.ids.assign(&spec.features, &self.table.taken_ids()).await?;
        let mut longer = (*spec).clone();
        longer.placement.ids = ids;
        let kept = longer.clone();
        self.store(move |store| store.exchange_ids(&kept)).await?;
        self.table.change(handle, longer);
        Ok(())
    }

    fn plan_start(&self, spec: &VpsSpec) -> Result<StartPlan, EngineError> {
        let networks = self.networks.of(spec)?;
        let nics: Vec<(PlacedNic<'_>, &NetworkSpec)> =
            spec.placed_nics().zip(networks.iter().map(|network| &**network)).collect();
        let files = render_guest_network(&nics, &observe_host_dns()).into_iter().map(|file| RunFile {
            path: file.path.to_string_lossy().into_owned(),
            mode: file.mode,
            contents: file.contents,
        });
        let devices = observe_devices(&spec.features)?;
        let pool = self.pools.of(spec)?.driver();
        let root = RootPlan {
            // The monitor boots from its plan again when no agent is there to open the root for it.
            upper: pool.lasting_path(&Volume::Root(spec.id)),
            lower: vec![],
            has_shifted_ids: pool.owner(spec.id)?.is_some(),
        };
        let input = StartInput {
            id: spec.id,
            guest: GuestInput {
                hostname: &spec.hostname,
                limits: &spec.limits,
                features: &spec.features,
                init: spec.init,
                nics: nics.iter().map(|(nic, network)| guest_nic(*nic, network)).collect(),
                run_files: files.collect(),
                environment: vec![],
            },
            host: HostInput {
                ids: spec.placement.ids,
                root,
                attachments: nics
                    .iter()
                    .map(|(_, network)| attachment_of(network))
                    .collect::<Result<_, _>>()?,
                devices: &devices,
                is_nested: self.is_nested,
                layout: &self.layout,
                run_dir: &self.settings.run_dir,
                reboots: RebootPolicy {
                    on_crash: spec.supervision.on_crash.unwrap_or_default(),
                    ..self.settings.reboots.policy()
                },
                policy: self.policy.as_deref().ok(),
            },
            end: StartEnd::Boot,
        };
        plan_start(&input).map_err(|error| {
            EngineError::new(
                Reason::StartFailed,
                format!("failed to plan the start of VPS {:?}", spec.name.as_str()),
            )
            .caused_by(error)
        })
    }
}

/// How an interface in the network is connected, if this host can.
fn attachment_of(network: &NetworkSpec) -> Result<Attachment, EngineError> {
    match check_network(network) {
        Ok(_) => Ok(network.attachment.clone()),
        Err(refusal) => {
            Err(EngineError::new(Reason::FacilityMissing, "this host can't connect the VPS")
                .caused_by(refusal))
        }
    }
}

/// An interface as the guest sees it.
fn guest_nic(PlacedNic { nic, addresses }: PlacedNic<'_>, network: &NetworkSpec) -> GuestNic {
    let prefix = network.subnet.prefix_len();
    GuestNic {
        name: nic.name.clone(),
        mac: nic.mac,
        addresses: addresses.iter().map(|address| (*address, prefix)).collect(),
        gateway: nic.default_route.then(|| network.gateway()),
    }
}
