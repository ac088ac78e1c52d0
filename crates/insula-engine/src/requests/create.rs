//! Making a VPS: from what is asked for to a spec with an image, limits, addresses and ids.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use insula_net::{check_address, next_address};
use insula_runtime::cgroup::plan_limits;
use insula_storage::QuotaKind;
use insula_store::{Store, StoreError};
use insula_types::{
    DesiredPower, Features, ImageRef, InterfaceName, Labels, Limits, MacAddress, NetworkName, NetworkSpec,
    Nic, OperationRecord, Profile, ProfileName, Reason, Supervision, TenantName, VpsId, VpsName, VpsSpec,
};

use crate::journal::execution::{Right, new_record};
use crate::journal::retries::Asked;
use crate::model::job::{Boot, Job};
use crate::requests::changes::hashed;
use crate::vps::handle::Work;
use crate::vps::task::Found;
use crate::{Engine, EngineError, VpsHandle, now_ms};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct CreateVps {
    /// Its name.
    pub name: VpsName,
    /// Its image.
    pub image: ImageRef,
    /// Its profile; absent: the host's default.
    pub profile: Option<ProfileName>,
    /// What differs from the profile.
    pub limits: Limits,
    /// What is open to it; absent: the features of the profile.
    pub features: Option<Features>,
    /// What it calls itself; absent: its name.
    pub hostname: Option<String>,
    /// Its networks; empty: those of the profile.
    pub networks: Vec<NetworkName>,
    /// Addresses of its first interface; empty: the next free one.
    pub addresses: Vec<Ipv4Addr>,
    /// Public keys that may log in as root.
    pub ssh_keys: Vec<String>,
    /// Boot it.
    pub start: bool,
    /// Be done only when it has booted.
    pub wait_ready: bool,
    /// Whose it is.
    pub tenant: Option<TenantName>,
    /// What others note about it.
    pub labels: Labels,
    /// Root's password.
    pub password: Option<String>,
    /// Whether it refuses to be deleted.
    pub delete_protection: bool,
    /// What differs from the profile of what follows when it crashes or the host boots.
    pub supervision: Supervision,
}

impl Engine {
    /// Makes a VPS. Whatever is wrong with the request is said before anything is touched.
    pub async fn create_vps(
        &self,
        asked: &Asked,
        request: CreateVps,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || self.create_now(asked, request)).await
    }

    async fn create_now(&self, asked: &Asked, request: CreateVps) -> Result<OperationRecord, EngineError> {
        let image = self.image(&request.image)?;
        let profile = self.profile(request.profile.as_ref())?;
        let limits = request.limits.clone().or(&profile.limits);
        limits.check().map_err(|error| EngineError::invalid("limits", error))?;
        self.check_enforceable(&limits)?;
        let features = request.features.clone().unwrap_or(profile.features.clone());
        self.check_features(&features)?;
        request.supervision.check().map_err(|error| EngineError::invalid("supervision", error))?;
        let hostname = check_hostname(request.hostname.as_deref().unwrap_or(request.name.as_str()))?;
        let ssh_keys =
            request.ssh_keys.iter().map(|key| check_ssh_key(key)).collect::<Result<Vec<_>, _>>()?;
        let networks = self.networks_of(&request.networks, &profile)?;
        self.check_room().await?;
        let password = match &request.password {
            Some(password) => Some(hashed(password).await?),
            None => None,
        };

        let assigning = self.assigning.lock().await;
        self.check_name(&request.name)?;
        let id = VpsId::new();
        let nics = self.assign_addresses(&id, &networks, &request.addresses).await?;
        let spec = VpsSpec {
            id,
            name: request.name,
            hostname,
            image: image.fingerprint,
            init: image.init,
            pool: self.settings.pool.name.clone(),
            profile: profile.name,
            limits,
            own_limits: request.limits,
            ids: self.assign_ids(&features).await?,
            features,
            own_features: request.features,
            supervision: request.supervision.or(&profile.supervision),
            own_supervision: request.supervision,
            nics,
            ssh_keys,
            power: DesiredPower::Off,
            created_at: now_ms() / 1000,
            tenant: request.tenant,
            labels: request.labels,
            delete_protection: request.delete_protection,
            suspension: None,
            trash: None,
            revision: 1,
        };
        let boot = request.start.then_some(Boot { wait_ready: request.wait_ready });
        let record = self.reserve(asked, spec, Job::CreateVps { vps: id, password, boot }, None).await?;
        drop(assigning);
        Ok(record)
    }

    pub(crate) fn check_name(&self, name: &VpsName) -> Result<(), EngineError> {
        match self.table.find(name.as_str()) {
            Ok(_) => Err(name_taken(name)),
            Err(_) => Ok(()),
        }
    }

    /// Writes the VPS down together with the operation, and begins. Nobody else may work on `source` meanwhile.
    pub(crate) async fn reserve(
        &self,
        asked: &Asked,
        spec: VpsSpec,
        job: Job,
        source: Option<&Arc<VpsHandle>>,
    ) -> Result<OperationRecord, EngineError> {
        let digest = self.digest(asked);
        let record = new_record(asked, digest, &job, spec.name.as_str(), spec.tenant.clone());
        if asked.validate_only {
            return Ok(record);
        }
        let work = Work::new(record.id, record.kind, Some(spec.id));
        let source = source.map(|source| source.claim(work)).transpose()?;
        let kept = spec.clone();
        let write = move |store: &Store, record: &OperationRecord| {
            store.insert_vps(&kept, record).map_err(|error| match &error {
                StoreError::Taken { what, .. } if what.contains("vps.name") => name_taken(&kept.name),
                _ => EngineError::from(error),
            })
        };
        let right = move |engine: &Engine| {
            let claim = engine.adopt(spec, vec![], Found::default()).claim(work)?;
            Ok(Right::Now(source.into_iter().chain([claim]).collect()))
        };
        self.begin(record, job, write, right).await
    }

    pub(crate) fn networks_of(
        &self,
        asked: &[NetworkName],
        profile: &Profile,
    ) -> Result<Vec<&NetworkSpec>, EngineError> {
        let names = if asked.is_empty() { &profile.networks } else { asked };
        let unique: BTreeSet<_> = names.iter().collect();
        if unique.len() != names.len() {
            return Err(EngineError::invalid("networks", "a network is named twice"));
        }
        names.iter().map(|name| self.network(name.as_str())).collect()
    }

    /// A limit that can't be enforced is refused, never ignored.
    pub(crate) fn check_enforceable(&self, limits: &Limits) -> Result<(), EngineError> {
        self.judge_limits(limits).map_err(|error| {
            let can_be_held = |profile: &Profile| self.judge_limits(&profile.limits).is_ok();
            let profiles: Vec<_> = self.profiles().into_iter().filter(can_be_held).collect();
            match profiles.is_empty() {
                true => error,
                false => error.hint(format!(
                    "ask for no such limit; of the profiles, this host can hold {}",
                    list(profiles.iter().map(|profile| &profile.name))
                )),
            }
        })
    }

    fn judge_limits(&self, limits: &Limits) -> Result<(), EngineError> {
        if limits.disk.is_some() && self.pool.abilities().quota == QuotaKind::None {
            return Err(EngineError::new(Reason::FacilityMissing, "the pool can't enforce a disk limit")
                .hint("use a pool on btrfs, or a profile without a disk limit"));
        }
        plan_limits(&self.layout, limits).map(drop).map_err(|error| {
            EngineError::new(Reason::FacilityMissing, "the host can't enforce the limits").caused_by(error)
        })
    }

    /// A clone takes next to nothing, but a pool without any room can't even hold that.
    pub(crate) async fn check_room(&self) -> Result<(), EngineError> {
        const LEAST: u64 = 64 << 20;
        let free = self.room().await?.free;
        match free.bytes() < LEAST {
            true => {
                let name = &self.settings.pool.name;
                let message = format!("pool {:?} has {free} free", name.as_str());
                Err(EngineError::new(Reason::PoolFull, message)
                    .hint("delete VPSes or snapshots, or enlarge the pool"))
            }
            false => Ok(()),
        }
    }

    /// An address from each network; those that were asked for from the first.
    pub(crate) async fn assign_addresses(
        &self,
        vps: &VpsId,
        networks: &[&NetworkSpec],
        asked: &[Ipv4Addr],
    ) -> Result<Vec<Nic>, EngineError> {
        if networks.is_empty() && !asked.is_empty() {
            return Err(EngineError::invalid(
                "ip_addresses",
                "an address needs a network, and the VPS has none",
            ));
        }
        let taken = self.store(|store| store.addresses()).await?;
        let mut nics = vec![];
        for (index, network) in (0_u8..).zip(networks) {
            let taken: BTreeSet<Ipv4Addr> = taken
                .iter()
                .filter(|other| other.network == network.name)
                .map(|other| other.address)
                .collect();
            let addresses = match index == 0 && !asked.is_empty() {
                true => check_asked(network, asked, &taken)?,
                false => vec![self.next_address(network, &taken).await?],
            };
            let name: InterfaceName = format!("eth{index}").parse().expect("a short word");
            nics.push(Nic {
                name,
                network: network.name.clone(),
                mac: MacAddress::of(vps, index),
                addresses,
            });
        }
        Ok(nics)
    }

    async fn next_address(
        &self,
        network: &NetworkSpec,
        taken: &BTreeSet<Ipv4Addr>,
    ) -> Result<Ipv4Addr, EngineError> {
        let name = network.name.to_string();
        let last = self.store(move |store| store.last_address(&name)).await?;
        next_address(network, |address| taken.contains(&address), last).ok_or_else(|| {
            let message =
                format!("network {:?} ({}) has no free address", network.name.as_str(), network.subnet);
            EngineError::new(Reason::AddressesExhausted, message).hint("delete VPSes, or use another network")
        })
    }
}

/// The addresses that were asked for, if the network may assign all of them and none is taken.
fn check_asked(
    network: &NetworkSpec,
    asked: &[Ipv4Addr],
    taken: &BTreeSet<Ipv4Addr>,
) -> Result<Vec<Ipv4Addr>, EngineError> {
    let mut seen = BTreeSet::new();
    for address in asked {
        check_address(network, *address)
            .map_err(|refusal| EngineError::new(Reason::AddressOutOfRange, refusal.to_string()))?;
        if taken.contains(address) {
            let message = format!("address {address} belongs to another VPS");
            return Err(EngineError::new(Reason::AddressInUse, message).hint("see insula list"));
        }
        if !seen.insert(*address) {
            return Err(EngineError::invalid("ip_addresses", format!("address {address} is named twice")));
        }
    }
    Ok(asked.to_vec())
}

/// RFC 1123 section 2.1: labels of letters, digits and hyphens; at most 64 bytes in all, `HOST_NAME_MAX` of Linux.
pub(crate) fn check_hostname(text: &str) -> Result<String, EngineError> {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    match text.len() <= 64 && text.split('.').all(label) {
        true => Ok(text.to_owned()),
        false => {
            let shown: String = text.chars().take(80).collect();
            let rule = "expected labels of letters, digits and hyphens with dots between them, 64 characters at most";
            Err(EngineError::invalid("hostname", format!("invalid host name {shown:?}: {rule}")))
        }
    }
}

/// One line of authorized_keys (sshd(8)) without options: a type, the key, perhaps a comment.
pub(crate) fn check_ssh_key(text: &str) -> Result<String, EngineError> {
    const KINDS: [&str; 4] = ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"];
    let key = text.trim();
    let mut words = key.split(' ');
    let kind = words.next().is_some_and(|kind| KINDS.iter().any(|known| kind.starts_with(known)));
    let body = words.next().is_some_and(|body| {
        body.len() >= 16 && body.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
    });
    match kind && body && key.len() <= 16_384 && !key.contains(char::is_control) {
        true => Ok(key.to_owned()),
        false if key.contains("PRIVATE KEY") => Err(EngineError::invalid(
            "ssh_keys",
            "this is a private key; keep it, and use the file that ends in .pub",
        )),
        false => Err(EngineError::invalid("ssh_keys", "not a public key in the form of authorized_keys")
            .hint("expected a line such as: ssh-ed25519 AAAA… comment")),
    }
}

pub(crate) fn name_taken(name: &VpsName) -> EngineError {
    EngineError::new(Reason::VpsExists, format!("there is a VPS {:?} already", name.as_str()))
        .hint("choose another name, or delete it")
}

/// Names for a hint.
pub(crate) fn list<T: std::fmt::Display>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_labels_with_dots() {
        for good in ["web1", "web1.example.com", "A-1"] {
            assert!(check_hostname(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "a..b", "-a", "a-", "a b", "a\nb", "a_b", &"a".repeat(65)] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_public_and_one_line() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ admin@example";
        assert_eq!(check_ssh_key(&format!(" {key}\n")).unwrap(), key);
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn";
        assert!(check_ssh_key(private).unwrap_err().to_string().contains("private"));
        for bad in
            ["", "ssh-ed25519", "ssh-ed25519 short", "command=\"x\" ssh-rsa AAAA", &format!("{key}\n{key}")]
        {
            assert!(check_ssh_key(bad).is_err(), "{bad}");
        }
    }
}
