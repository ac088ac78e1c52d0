//! `insula delete`

use insula_api::v1::{DeleteVpsRequest, GetVpsRequest, Operation};

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::{Subjects, run_operations_and_tell};
use crate::prompt::confirm;
use crate::text::{printable, time};

/// The arguments of `insula delete`. There is no `--all`, on purpose.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula delete web1
  insula delete web1 web2 --force
  insula delete web1 --now --yes

A VPS in the trash keeps its data and addresses. `insula undelete` restores it until it expires.")]
pub struct Delete {
    /// VPSes, by name or id
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Kill it first if it is running
    #[arg(short, long)]
    force: bool,
    /// Remove it for good with its data, snapshots and addresses, bypassing the trash. Name a VPS in the trash by its id
    #[arg(long)]
    now: bool,
    /// With --now at a terminal: don't ask for confirmation
    #[arg(short, long)]
    yes: bool,
    /// Only if the VPS is unchanged: its etag, as `insula show` prints it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl Delete {
    /// Removes the VPSes.
    pub async fn run(self, context: &Context) -> Outcome {
        let what = format!("All data of {} will be lost for good.", printable(&self.names.join(", ")));
        confirm(context, &what, self.yes || !self.now).await?;
        let request = DeleteVpsRequest {
            force: self.force,
            now: self.now,
            etag: self.etag.unwrap_or_default(),
            ..Default::default()
        };
        let begin = async |vps, request_id| {
            let request = DeleteVpsRequest { vps, request_id, ..request.clone() };
            Ok(context.client().await?.vps().delete_vps(request).await?.into_inner().operation)
        };
        let tell = async |operation: &Operation| way_back(context, operation).await;
        run_operations_and_tell(context, Subjects::named(self.names), begin, tell).await
    }
}

/// How to restore a VPS, and until when; nothing if it was removed for good.
async fn way_back(context: &Context, operation: &Operation) -> Option<String> {
    let request = GetVpsRequest { vps: operation.target.clone() };
    let answer = context.client().await.ok()?.vps().get_vps(request).await.ok()?;
    let until = time(answer.into_inner().vps?.expire_time.as_ref());
    let name = &operation.target_name;
    (!until.is_empty()).then(|| format!("to restore it until {until}: insula undelete {name}"))
}
