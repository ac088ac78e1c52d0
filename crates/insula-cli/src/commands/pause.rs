//! `insula pause`

use insula_api::v1::PauseVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::run_operations;
use crate::targets::{Targets, states};

/// The arguments of `insula pause`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula pause web1
  insula pause --all")]
pub struct Pause {
    /// The VPSes to work on.
    #[command(flatten)]
    targets: Targets,
}

impl Pause {
    /// Freezes the processes.
    pub async fn run(self, context: &Context) -> Outcome {
        let subjects = self.targets.resolve(context, states::RUNNING).await?;
        run_operations(context, subjects, async |vps, request_id| {
            let request = PauseVpsRequest { vps, request_id, validate_only: false };
            Ok(context.client().await?.vps().pause_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
