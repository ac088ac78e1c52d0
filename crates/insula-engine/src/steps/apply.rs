//! What each step of a plan does, and how it is taken back. Every step may run twice, and again after a crash in its
//! middle. What a step knows is in its data and the database: nothing is kept here between steps.

use std::sync::Arc;

use insula_net::{observe_host_dns, render_resolv_conf};
use insula_runtime::cgroup::{CgroupValue, plan_limits};
use insula_runtime::{GuestRoot, ensure_ssh_keys, make_anonymous, set_password};
use insula_storage::Volume;
use insula_types::{ByteSize, DesiredPower, Limits, OperationRecord, Reason, SnapshotName, VpsId, VpsSpec};
use tokio::sync::watch;

use crate::jobs::Job;
use crate::journal::operations::Reporter;
use crate::journal::records::output;
use crate::model::step::{Change, CloneSource, FINGERPRINT_TREE, Output, Step};
use crate::steps::errors::{limit_error, not_prepared, password_error, ssh_keys_error};
use crate::{Engine, EngineError, Power, VpsHandle};

impl Engine {
    /// Does a step.
    pub(crate) async fn apply(
        &self,
        step: &Step,
        job: &Job,
        record: &watch::Sender<OperationRecord>,
        reporter: &Reporter,
    ) -> Result<Option<Output>, EngineError> {
        if let Step::FingerprintTree { definition, staging } = step {
            return self.fingerprint_tree(definition, *staging, reporter).await.map(Some);
        }
        self.act(step, job, record, reporter).await.map(|()| None)
    }

    /// Does a step that finds nothing out.
    async fn act(
        &self,
        step: &Step,
        job: &Job,
        record: &watch::Sender<OperationRecord>,
        reporter: &Reporter,
    ) -> Result<(), EngineError> {
        match step {
            Step::BuildTree { definition, staging } => {
                return self.build_tree(definition, *staging, reporter).await;
            }
            Step::PublishImage { staging, alias } => {
                let Output::Image(image) = output(record, FINGERPRINT_TREE)?;
                return self.publish_image(*image, *staging, alias.clone()).await;
            }
            Step::ForgetImage(image) => return self.images.forget(*image).await,
            Step::RemoveImageVolume(image) => return self.remove_everywhere(Volume::Image(*image)).await,
            _ => {}
        }
        let handle = match (self.target(job), step) {
            (Err(_), Step::ForgetVps) => return Ok(()), // by an agent that died right after it
            (found, _) => found?,
        };
        match step {
            Step::ReserveVps | Step::ReserveSnapshot(_) => Ok(()), // written down together with the operation
            Step::GuardAddresses => self.networks.guard(&handle.spec()).await,
            Step::CloneRoot => {
                let spec = handle.spec();
                self.clone_root(&spec, Volume::Image(spec.image)).await
            }
            Step::CloneFrom(source) => self.clone_from(&handle.spec(), source).await,
            Step::WriteGuestFiles => self.write_guest_files(&handle.spec(), job).await,
            Step::SetPassword { user, hash } => self.set_root_password(&handle, user, hash).await,
            Step::WriteSshKeys { add, remove } => self.write_ssh_keys(&handle, add, remove).await,
            Step::Launch => self.launch(&handle).await,
            Step::AwaitReady => handle.await_ready(self.settings.ready_timeout()).await,
            Step::ShutDown { force, timeout } => {
                self.change_spec(&handle.id, |spec| spec.power = DesiredPower::Off).await?;
                self.autostarts.forgo(&handle.id).await?;
                handle.shut_down(*force, *timeout).await
            }
            Step::SetPaused(paused) => handle.set_paused(*paused).await,
            Step::SetDiskLimit(limits) => self.set_disk_limit(&handle, limits.to.disk).await,
            Step::SetLimits(limits) => self.set_limits(&handle, &limits.from, &limits.to).await,
            Step::SetOnCrash(on_crash) => handle.set_on_crash(on_crash.to).await,
            Step::Change(change) => self.make_change(&handle.id, &change.to).await,
            Step::RemoveSnapshotVolumes => self.remove_snapshot_volumes(&handle).await,
            Step::RemoveRoot => self.remove_volume(&handle, Volume::Root(handle.id)).await,
            Step::ForgetVps => self.forget_vps(&handle, now(record)).await,
            Step::TakeSnapshot(name) => {
                let (root, snapshot) = (Volume::Root(handle.id), Volume::Snapshot(handle.id, name.clone()));
                self.pools
                    .of(&handle.spec())?
                    .work(move |pool| pool.ensure_clone(&root, &snapshot).map(drop))
                    .await
            }
            // Journals of older agents may stop at any of the three. Each does all that is left to do.
            Step::CloneIncoming(_)
            | Step::CloneIncomingImage(_)
            | Step::RetireRoot
            | Step::InstallIncoming => self.replace_root(&handle, job).await,
            Step::RemoveOutgoing => {
                let id = handle.id;
                self.pools.of(&handle.spec())?.work(move |pool| pool.commit_replacement(id)).await
            }
            Step::RemoveSnapshotVolume(name) => {
                self.remove_volume(&handle, Volume::Snapshot(handle.id, name.clone())).await
            }
            Step::ForgetSnapshot(name) => self.forget_snapshot(&handle, name.clone()).await,
            Step::BuildTree { .. }
            | Step::FingerprintTree { .. }
            | Step::PublishImage { .. }
            | Step::ForgetImage(_)
            | Step::RemoveImageVolume(_) => {
                Ok(()) // done above
            }
        }
    }

    /// Takes a step back, whether it was done, half done, or not begun.
    pub(crate) async fn undo(
        &self,
        step: &Step,
        job: &Job,
        record: &watch::Sender<OperationRecord>,
    ) -> Result<(), EngineError> {
        if let Step::BuildTree { staging, .. } = step {
            return self.remove_everywhere(Volume::Staging(*staging)).await;
        }
        let Ok(handle) = self.target(job) else { return Ok(()) };
        match step {
            Step::ReserveVps => self.forget_vps(&handle, now(record)).await,
            Step::GuardAddresses => self.networks.unguard(&handle.spec()).await,
            Step::CloneRoot | Step::CloneFrom(_) => {
                self.remove_volume(&handle, Volume::Root(handle.id)).await
            }
            Step::SetDiskLimit(limits) => self.set_disk_limit(&handle, limits.from.disk).await,
            Step::SetLimits(limits) => self.set_limits(&handle, &limits.to, &limits.from).await,
            Step::SetOnCrash(on_crash) => handle.set_on_crash(on_crash.from).await,
            Step::Change(change) => self.make_change(&handle.id, &change.from).await,
            Step::ReserveSnapshot(name) => self.forget_snapshot(&handle, name.clone()).await,
            Step::TakeSnapshot(name) => {
                self.remove_volume(&handle, Volume::Snapshot(handle.id, name.clone())).await?;
                self.forget_snapshot(&handle, name.clone()).await
            }
            Step::CloneIncoming(_)
            | Step::CloneIncomingImage(_)
            | Step::RetireRoot
            | Step::InstallIncoming => {
                let id = handle.id;
                self.pools.of(&handle.spec())?.work(move |pool| pool.undo_replacement(id)).await
            }
            _ => Ok(()),
        }
    }

    /// The VPS that the job works on.
    pub(crate) fn target(&self, job: &Job) -> Result<Arc<VpsHandle>, EngineError> {
        let gone = || EngineError::new(Reason::VpsNotFound, format!("VPS {} no longer exists", job.target()));
        job.target().vps().and_then(|vps| self.table.by_id(&vps)).ok_or_else(gone)
    }

    async fn clone_root(&self, spec: &VpsSpec, from: Volume) -> Result<(), EngineError> {
        let pool = self.pools.of(spec)?;
        let (id, limit, owner) = (spec.id, spec.limits.disk, pool.ids_on_disk(spec));
        pool.work(move |pool| {
            if let Some(ids) = owner {
                pool.set_owner(id, ids)?;
            }
            pool.ensure_clone(&from, &Volume::Root(id))?;
            match limit {
                Some(_) => pool.set_limit(id, limit),
                None => Ok(()),
            }
        })
        .await
    }

    /// Clones the root of another VPS, or a snapshot of it. What makes a machine one of a kind is not cloned.
    async fn clone_from(&self, spec: &VpsSpec, source: &CloneSource) -> Result<(), EngineError> {
        if let Some(handle) = self.table.by_id(&source.vps) {
            self.pools.of(spec)?.check_source(&handle.spec())?;
        }
        let from = match &source.snapshot {
            Some(snapshot) => Volume::Snapshot(source.vps, snapshot.clone()),
            None => {
                // Since it was asked for, somebody may have started it.
                self.table.by_id(&source.vps).map_or(Ok(()), |handle| self.check_copyable(&handle))?;
                Volume::Root(source.vps)
            }
        };
        self.clone_root(spec, from).await?;
        self.in_root(spec, |root| make_anonymous(root).map_err(not_prepared)).await
    }

    async fn set_root_password(&self, handle: &VpsHandle, user: &str, hash: &str) -> Result<(), EngineError> {
        let (user, hash) = (user.to_owned(), hash.to_owned());
        self.in_root(&handle.spec(), move |root| set_password(root, &user, &hash).map_err(password_error))
            .await
    }

    async fn write_ssh_keys(
        &self,
        handle: &VpsHandle,
        add: &[String],
        remove: &[String],
    ) -> Result<(), EngineError> {
        let (add, remove) = (add.to_vec(), remove.to_vec());
        let write =
            move |root: &GuestRoot| ensure_ssh_keys(root, &add, &remove).map(drop).map_err(ssh_keys_error);
        self.in_root(&handle.spec(), write).await
    }

    /// Works in a VPS's root, from a thread that may block. The root is not trusted: paths are resolved inside of it.
    async fn in_root(
        &self,
        spec: &VpsSpec,
        work: impl FnOnce(&GuestRoot) -> Result<(), EngineError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let (pool, id) = (self.pools.of(spec)?.driver().clone(), spec.id);
        crate::blocking("work in the root", move || {
            let volume = Volume::Root(id);
            let root = GuestRoot::at(pool.open(&volume)?, pool.lasting_path(&volume));
            work(&root.with_owner(pool.owner(id)?))
        })
        .await
    }

    async fn set_disk_limit(&self, handle: &VpsHandle, limit: Option<ByteSize>) -> Result<(), EngineError> {
        let id = handle.id;
        self.pools.of(&handle.spec())?.work(move |pool| pool.set_limit(id, limit)).await
    }

    /// Gives what runs its limits; what does not gets them when it is started.
    async fn set_limits(
        &self,
        handle: &Arc<VpsHandle>,
        from: &Limits,
        to: &Limits,
    ) -> Result<(), EngineError> {
        if handle.observed.borrow().power == Power::Off {
            return Ok(());
        }
        handle.remember_limits(self.plan_limits(to)?).await?;
        let (layout, id, limits) = (self.layout.clone(), handle.id, to.clone());
        let changed =
            crate::blocking("change limits", move || layout.change_limits(&id, &limits).map_err(limit_error));
        if let Err(error) = changed.await {
            handle.remember_limits(self.plan_limits(from)?).await?;
            return Err(error);
        }
        Ok(())
    }

    fn plan_limits(&self, limits: &Limits) -> Result<Vec<CgroupValue>, EngineError> {
        plan_limits(&self.layout, limits).map_err(|error| {
            EngineError::new(Reason::FacilityMissing, "the host can't enforce the limits").caused_by(error)
        })
    }

    /// Changes what is written down: a new version, unless it is so already.
    async fn make_change(&self, id: &VpsId, change: &Change) -> Result<(), EngineError> {
        let make = |spec: &mut VpsSpec| {
            let before = spec.clone();
            change.apply(spec);
            if *spec != before {
                spec.revision += 1;
            }
        };
        self.change_spec(id, make).await
    }

    /// Writes what the guest must find on its first boot.
    async fn write_guest_files(&self, spec: &VpsSpec, job: &Job) -> Result<(), EngineError> {
        let mut files = self.guest_files(spec)?;
        if let Job::CloneVps(_) = job {
            files.retain(|(path, ..)| *path != SSH_KEYS); // the root has those of the VPS it was cloned from
        }
        self.in_root(spec, move |root| {
            files.iter().try_for_each(|(path, mode, contents)| {
                root.ensure_file(path, *mode, contents.as_bytes()).map(drop).map_err(not_prepared)
            })
        })
        .await
    }

    fn guest_files(&self, spec: &VpsSpec) -> Result<Vec<(&'static str, u32, String)>, EngineError> {
        let name = &spec.hostname;
        let hosts =
            format!("127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n");
        let mut files = vec![("etc/hostname", 0o644, format!("{name}\n")), ("etc/hosts", 0o644, hosts)];
        if !spec.nics.is_empty() {
            let networks = self.networks.of(spec)?;
            let nics: Vec<_> = spec.nics.iter().zip(networks.iter().map(|network| &**network)).collect();
            files.push(("etc/resolv.conf", 0o644, render_resolv_conf(&nics, &observe_host_dns())));
        }
        if !spec.ssh_keys.is_empty() {
            files.push((SSH_KEYS, 0o600, spec.ssh_keys.join("\n") + "\n"));
        }
        Ok(files)
    }

    /// Puts a copy of what the job wants in the place of the root, and keeps the old one.
    async fn replace_root(&self, handle: &VpsHandle, job: &Job) -> Result<(), EngineError> {
        let id = handle.id;
        let from = job.plan().steps.into_iter().find_map(|step| match step {
            Step::CloneIncoming(snapshot) => Some(Volume::Snapshot(id, snapshot)),
            Step::CloneIncomingImage(image) => Some(Volume::Image(image)),
            _ => None,
        });
        let Some(from) = from else { return Ok(()) }; // no other job replaces a root
        self.pools.of(&handle.spec())?.work(move |pool| pool.replace_root(id, &from).map(drop)).await
    }

    async fn remove_volume(&self, handle: &VpsHandle, volume: Volume) -> Result<(), EngineError> {
        self.pools.of(&handle.spec())?.remove(volume).await
    }

    /// Removes a volume of no VPS, whichever pool it is in.
    async fn remove_everywhere(&self, volume: Volume) -> Result<(), EngineError> {
        for pool in self.pools.all() {
            pool.remove(volume.clone()).await?;
        }
        Ok(())
    }

    async fn remove_snapshot_volumes(&self, handle: &VpsHandle) -> Result<(), EngineError> {
        let (id, names) = (handle.id, snapshot_names(handle));
        let pool = self.pools.of(&handle.spec())?;
        pool.work(move |pool| {
            names.into_iter().try_for_each(|name| pool.ensure_absent(&Volume::Snapshot(id, name)).map(drop))
        })
        .await
    }

    /// The rule for its interfaces goes in the same step: an agent that begins makes the rules of all VPSes that it knows,
    /// so that a step of its own before this one would not be enough. It goes first: what is forgotten is forgotten whole.
    async fn forget_vps(&self, handle: &VpsHandle, record: OperationRecord) -> Result<(), EngineError> {
        self.networks.unguard(&handle.spec()).await?;
        let id = handle.id;
        self.store(move |store| store.delete_vps(&id, &record)).await?;
        self.table.remove(&id);
        Ok(())
    }

    async fn forget_snapshot(&self, handle: &VpsHandle, name: SnapshotName) -> Result<(), EngineError> {
        let (id, forgotten) = (handle.id, name.clone());
        self.store(move |store| store.delete_snapshot(&id, &forgotten)).await?;
        handle.snapshots().retain(|snapshot| snapshot.name != name);
        Ok(())
    }
}

/// The record as it is now; the lock is not held any longer.
fn now(record: &watch::Sender<OperationRecord>) -> OperationRecord {
    record.borrow().clone()
}

fn snapshot_names(handle: &VpsHandle) -> Vec<SnapshotName> {
    handle.snapshots().iter().map(|snapshot| snapshot.name.clone()).collect()
}

/// Where sshd looks for the keys that may log in as root.
const SSH_KEYS: &str = "root/.ssh/authorized_keys";
