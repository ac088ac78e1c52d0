//! `insula clone`

use insula_api::v1::CloneVpsRequest;
use std::net::IpAddr;

use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::BootArguments;
use crate::operations::{Subjects, run_operations};

/// The arguments of `insula clone`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula clone web1 web2
  insula clone web1 test --snapshot before-upgrade --start

Of a running VPS, the clone's root is as after a power loss. Its addresses, ids and host keys are its own.")]
pub struct Clone {
    /// A VPS, by name or id
    name: String,
    /// The name of the clone
    #[arg(value_name = "NEW")]
    new_name: String,
    /// The root as it was then, not as it is
    #[arg(long)]
    snapshot: Option<String>,
    /// What it calls itself [default: its name]
    #[arg(long)]
    hostname: Option<String>,
    /// An address of one of its networks; may be repeated. Otherwise the next free one
    #[arg(long = "ip", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    #[command(flatten)]
    boot: BootArguments,
}

impl Clone {
    /// Makes the clone.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = CloneVpsRequest {
            name: self.new_name,
            snapshot: self.snapshot.unwrap_or_default(),
            hostname: self.hostname.unwrap_or_default(),
            ip_addresses: self.addresses.iter().map(ToString::to_string).collect(),
            start: self.boot.starts(),
            wait_ready: self.boot.waits_ready(),
            ..Default::default()
        };
        run_operations(context, Subjects::One(self.name), async |vps, request_id| {
            let request = CloneVpsRequest { vps, request_id, ..request.clone() };
            Ok(context.client().await?.vps().clone_vps(request).await?.into_inner().operation)
        })
        .await
    }
}
