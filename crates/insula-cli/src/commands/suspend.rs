//! `insula suspend`

use insula_api::v1::SuspendVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::{Subjects, run_operations};

/// The arguments of `insula suspend`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula suspend web1 --reason 'invoice 4711 is overdue'
  insula suspend web1 --reason abuse --force

Nobody may start it then but who may unsuspend it. It stays suspended when the host boots.")]
pub struct Suspend {
    /// VPSes, by name or id
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Why, for people
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Kill it instead of shutting it down
    #[arg(short, long)]
    force: bool,
    /// Only if nobody has changed the VPS since: what `insula show` says
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl Suspend {
    /// Holds the VPSes.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = SuspendVpsRequest {
            reason: self.reason,
            force: self.force,
            timeout: context.guest_timeout(),
            etag: self.etag.unwrap_or_default(),
            ..Default::default()
        };
        run_operations(context, Subjects::named(self.names), async |vps, request_id| {
            let request = SuspendVpsRequest { vps, request_id, ..request.clone() };
            Ok(context.client().await?.vps().suspend_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
