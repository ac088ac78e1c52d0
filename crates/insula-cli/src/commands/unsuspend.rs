//! `insula unsuspend`

use insula_api::v1::UnsuspendVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::{Subjects, run_operations};

/// The arguments of `insula unsuspend`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula unsuspend web1")]
pub struct Unsuspend {
    /// VPSes, by name or id
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Only if the VPS is unchanged: its etag, as `insula show` prints it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl Unsuspend {
    /// Ends the hold.
    pub async fn run(self, context: &Context) -> Outcome {
        let etag = self.etag.unwrap_or_default();
        run_operations(context, Subjects::named(self.names), async |vps, request_id| {
            let request = UnsuspendVpsRequest { vps, etag: etag.clone(), request_id, validate_only: false };
            Ok(context.client().await?.vps().unsuspend_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
