//! `insula start`

use insula_api::v1::StartVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::WaitFor;
use crate::operations::run_operations;
use crate::targets::{Targets, states};

/// The arguments of `insula start`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula start web1 web2
  insula start --all --wait ready
  insula start web1 --override-suspension     # to save data; it stays suspended")]
pub struct Start {
    /// The VPSes to work on.
    #[command(flatten)]
    targets: Targets,
    /// State to wait for
    #[arg(long, value_enum, value_name = "STATE", default_value_t = WaitFor::Running)]
    wait: WaitFor,
    /// Start it even if it is suspended; only for clients that may unsuspend it
    #[arg(long)]
    override_suspension: bool,
}

impl Start {
    /// Boots the VPSes.
    pub async fn run(self, context: &Context) -> Outcome {
        let wait_ready = self.wait == WaitFor::Ready;
        let subjects = self.targets.resolve(context, states::STARTABLE).await?;
        run_operations(context, subjects, async |vps, request_id| {
            let request = StartVpsRequest {
                vps,
                wait_ready,
                override_suspension: self.override_suspension,
                request_id,
                validate_only: false,
            };
            Ok(context.client().await?.vps().start_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
