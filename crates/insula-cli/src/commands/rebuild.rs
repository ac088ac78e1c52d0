//! `insula rebuild`

use insula_api::v1::RebuildVpsRequest;

use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::BootArguments;
use crate::operations::{Subjects, run_operations};
use crate::prompt::confirm;
use crate::text::printable;

/// The arguments of `insula rebuild`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula rebuild web1 --image debian-13 --start
  insula rebuild web1 --image debian-12 --force --yes --wait ready

Addresses, keys and limits stay the same. The old root becomes a snapshot.")]
pub struct Rebuild {
    /// VPS, by name or id
    name: String,
    /// Image: an alias, a fingerprint, or at least the first twelve digits of one
    #[arg(long)]
    image: String,
    /// Kill it first if it is running
    #[arg(short, long)]
    force: bool,
    /// Don't ask for confirmation at a terminal
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    boot: BootArguments,
    /// Only if the VPS is unchanged: its etag, as `insula show` prints it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl Rebuild {
    /// Gives the VPS its new root.
    pub async fn run(self, context: &Context) -> Outcome {
        let name = printable(&self.name);
        let what = format!("{name} gets a new root; its current root becomes a snapshot.");
        confirm(context, &what, self.yes).await?;
        let request = RebuildVpsRequest {
            image: self.image,
            force: self.force,
            start: self.boot.starts(),
            wait_ready: self.boot.waits_ready(),
            etag: self.etag.unwrap_or_default(),
            ..Default::default()
        };
        run_operations(context, Subjects::One(self.name), async |vps, request_id| {
            let request = RebuildVpsRequest { vps, request_id, ..request.clone() };
            Ok(context.client().await?.vps().rebuild_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
