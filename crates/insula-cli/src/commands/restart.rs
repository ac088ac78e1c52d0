//! `insula restart`

use insula_api::v1::RestartVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::WaitFor;
use crate::operations::run_operations;
use crate::targets::{Targets, states};

/// The arguments of `insula restart`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula restart web1
  insula restart web1 --timeout 10 --wait ready")]
pub struct Restart {
    /// The VPSes to work on.
    #[command(flatten)]
    targets: Targets,
    /// Kill it instead of shutting it down
    #[arg(short, long)]
    force: bool,
    /// State to wait for
    #[arg(long, value_enum, value_name = "STATE", default_value_t = WaitFor::Running)]
    wait: WaitFor,
}

impl Restart {
    /// Shuts the VPSes down and boots them.
    pub async fn run(self, context: &Context) -> Outcome {
        let subjects = self.targets.resolve(context, states::RUNNING).await?;
        run_operations(context, subjects, async |vps, request_id| {
            let request = RestartVpsRequest {
                vps,
                force: self.force,
                timeout: context.guest_timeout(),
                wait_ready: self.wait == WaitFor::Ready,
                request_id,
                validate_only: false,
            };
            Ok(context.client().await?.vps().restart_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
