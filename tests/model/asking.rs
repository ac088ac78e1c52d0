//! Turns the model's acts into requests.

use insula_api::{Client, v1};
use tonic::Status;

use super::machine::Act;

/// How long a guest may take to end before it is killed. Its init may not have set up its trap yet.
const STOP_TIMEOUT: prost_types::Duration = prost_types::Duration { seconds: 3, nanos: 0 };

/// Calls a method that starts an operation: `ask!(client.service().method, Request { fields })`.
macro_rules! ask {
    ($client:ident.$service:ident.$method:ident($request:ident { $($fields:tt)* }), $id:ident) => {{
        #[allow(clippy::needless_update)] // some have no more fields
        let request = v1::$request { $($fields)*, request_id: $id.into(), ..Default::default() };
        $client.$service().$method(request).await?.into_inner().operation
    }};
}

impl Act {
    /// Sends the request, and returns the operation that it has started.
    pub async fn send(&self, client: &Client, id: &str) -> Result<v1::Operation, Status> {
        let operation = match self.clone() {
            Self::Create { .. } | Self::Clone { .. } | Self::Rebuild { .. } => {
                self.send_making(client, id).await?
            }
            Self::Take { .. } | Self::Restore { .. } | Self::Forget { .. } => {
                self.send_snapshot(client, id).await?
            }
            Self::Start { vps, override_suspension } => {
                ask!(client.vps.start_vps(StartVpsRequest { vps, override_suspension, wait_ready: true }), id)
            }
            Self::Stop { vps, force } => {
                ask!(client.vps.stop_vps(StopVpsRequest { vps, force, timeout: Some(STOP_TIMEOUT) }), id)
            }
            Self::Restart { vps } => {
                let timeout = Some(STOP_TIMEOUT);
                ask!(client.vps.restart_vps(RestartVpsRequest { vps, timeout, wait_ready: true }), id)
            }
            Self::Pause { vps } => ask!(client.vps.pause_vps(PauseVpsRequest { vps }), id),
            Self::Resume { vps } => ask!(client.vps.resume_vps(ResumeVpsRequest { vps }), id),
            Self::Update { vps, profile, memory_mib, label } => {
                let changes = Some(v1::VpsChanges {
                    profile: profile.unwrap_or_default(),
                    limits: memory_mib.map(memory),
                    labels: label.map(|label| ("model".to_owned(), label)).into_iter().collect(),
                    ..Default::default()
                });
                ask!(client.vps.update_vps(UpdateVpsRequest { vps, changes }), id)
            }
            Self::Rename { vps, name } => {
                ask!(client.vps.rename_vps(RenameVpsRequest { vps, new_name: name }), id)
            }
            Self::Suspend { vps } => {
                let (reason, timeout) = ("unpaid".to_owned(), Some(STOP_TIMEOUT));
                ask!(client.vps.suspend_vps(SuspendVpsRequest { vps, reason, timeout }), id)
            }
            Self::Unsuspend { vps } => ask!(client.vps.unsuspend_vps(UnsuspendVpsRequest { vps }), id),
            Self::Password { vps } => {
                ask!(client.vps.set_vps_password(SetVpsPasswordRequest { vps, password: "Sesam".into() }), id)
            }
            Self::Trash { vps, force } => ask!(client.vps.delete_vps(DeleteVpsRequest { vps, force }), id),
            Self::Delete { vps, force } => {
                ask!(client.vps.delete_vps(DeleteVpsRequest { vps, force, now: true }), id)
            }
            Self::Undelete { vps, name } => {
                let new_name = name.unwrap_or_default();
                ask!(client.vps.undelete_vps(UndeleteVpsRequest { vps, new_name }), id)
            }
        };
        Ok(operation.expect("an operation"))
    }

    async fn send_making(&self, client: &Client, id: &str) -> Result<Option<v1::Operation>, Status> {
        let image = "debian-12".to_owned();
        Ok(match self.clone() {
            Self::Create { name, memory_mib, start } => {
                let limits = memory_mib.map(memory);
                ask!(
                    client.vps.create_vps(CreateVpsRequest { name, image, limits, start, wait_ready: start }),
                    id
                )
            }
            Self::Clone { vps, name, snapshot, start } => {
                let snapshot = snapshot.unwrap_or_default();
                ask!(
                    client.vps.clone_vps(CloneVpsRequest { vps, name, snapshot, start, wait_ready: start }),
                    id
                )
            }
            Self::Rebuild { vps, force, start } => {
                ask!(
                    client.vps.rebuild_vps(RebuildVpsRequest { vps, image, force, start, wait_ready: start }),
                    id
                )
            }
            _ => None,
        })
    }

    async fn send_snapshot(&self, client: &Client, id: &str) -> Result<Option<v1::Operation>, Status> {
        Ok(match self.clone() {
            Self::Take { vps, snapshot } => {
                ask!(client.snapshots.create_snapshot(CreateSnapshotRequest { vps, snapshot }), id)
            }
            Self::Restore { vps, snapshot } => {
                ask!(client.snapshots.restore_snapshot(RestoreSnapshotRequest { vps, snapshot }), id)
            }
            Self::Forget { vps, snapshot } => {
                ask!(client.snapshots.delete_snapshot(DeleteSnapshotRequest { vps, snapshot }), id)
            }
            _ => None,
        })
    }
}

fn memory(mib: u64) -> v1::Limits {
    v1::Limits { memory_bytes: Some(mib << 20), ..Default::default() }
}
