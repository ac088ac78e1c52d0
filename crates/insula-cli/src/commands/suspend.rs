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

Only clients that may unsuspend a VPS can start it while it is suspended. It stays suspended when the host reboots.")]
pub struct Suspend {
    /// VPSes, by name or id
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Reason, shown to people
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Kill it instead of shutting it down
    #[arg(short, long)]
    force: bool,
    /// Only if the VPS is unchanged: its etag, as `insula show` prints it
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
