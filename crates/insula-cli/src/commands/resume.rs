//! `insula resume`

use insula_api::v1::ResumeVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::run_operations;
use crate::targets::{Targets, states};

/// The arguments of `insula resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula resume web1
  insula resume --all")]
pub struct Resume {
    /// The VPSes to work on.
    #[command(flatten)]
    targets: Targets,
}

impl Resume {
    /// Thaws the processes.
    pub async fn run(self, context: &Context) -> Outcome {
        let subjects = self.targets.resolve(context, states::PAUSED).await?;
        run_operations(context, subjects, async |vps, request_id| {
            let request = ResumeVpsRequest { vps, request_id, validate_only: false };
            Ok(context.client().await?.vps().resume_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
