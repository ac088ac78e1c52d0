//! `insula undelete`

use insula_api::v1::UndeleteVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::{Subjects, run_operations};

/// The arguments of `insula undelete`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula undelete web1
  insula undelete web1 --as web1-old
  insula list --deleted")]
pub struct Undelete {
    /// VPS in the trash, by id or by its former name; of several with the name, the one deleted last
    name: String,
    /// New name [default: the former one]
    #[arg(long = "as", value_name = "NEW")]
    new_name: Option<String>,
}

impl Undelete {
    /// Takes the VPS out of the trash.
    pub async fn run(self, context: &Context) -> Outcome {
        let new_name = self.new_name.unwrap_or_default();
        run_operations(context, Subjects::One(self.name), async |vps, request_id| {
            let new_name = new_name.clone();
            let request = UndeleteVpsRequest { vps, new_name, request_id, validate_only: false };
            Ok(context.client().await?.vps().undelete_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
