//! `insula rename`

use insula_api::v1::RenameVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::{Subjects, run_operations};

/// The arguments of `insula rename`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula rename web1 shop

The host name stays the same. To change it as well: insula set shop hostname=shop")]
pub struct Rename {
    /// VPS, by name or id
    name: String,
    /// New name
    #[arg(value_name = "NEW")]
    new_name: String,
    /// Only if the VPS is unchanged: its etag, as `insula show` prints it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl Rename {
    /// Renames the VPS.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = RenameVpsRequest {
            new_name: self.new_name,
            etag: self.etag.unwrap_or_default(),
            ..Default::default()
        };
        run_operations(context, Subjects::One(self.name), async |vps, request_id| {
            let request = RenameVpsRequest { vps, request_id, ..request.clone() };
            Ok(context.client().await?.vps().rename_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
