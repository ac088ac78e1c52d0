//! `insula stop`

use insula_api::v1::StopVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::run_operations;
use crate::targets::{Targets, states};

/// The arguments of `insula stop`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula stop web1
  insula stop web1 --timeout 5m
  insula stop --all --force")]
pub struct Stop {
    /// The VPSes to work on.
    #[command(flatten)]
    targets: Targets,
    /// Kill it instead of shutting it down
    #[arg(short, long)]
    force: bool,
}

impl Stop {
    /// Shuts the VPSes down.
    pub async fn run(self, context: &Context) -> Outcome {
        let subjects = self.targets.resolve(context, states::STOPPABLE).await?;
        run_operations(context, subjects, async |vps, request_id| {
            let request = StopVpsRequest {
                vps,
                force: self.force,
                timeout: context.guest_timeout(),
                request_id,
                validate_only: false,
            };
            Ok(context.client().await?.vps().stop_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
