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

A clone of a running VPS has the root that a power loss would leave. The clone gets addresses, ids and host keys \
of its own.")]
pub struct Clone {
    /// VPS, by name or id
    name: String,
    /// Name of the clone
    #[arg(value_name = "NEW")]
    new_name: String,
    /// Clone this snapshot instead of the current root
    #[arg(long)]
    snapshot: Option<String>,
    /// Host name of the guest [default: the name of the clone]
    #[arg(long)]
    hostname: Option<String>,
    /// Address from one of its networks; may be repeated [default: the next free one]
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
