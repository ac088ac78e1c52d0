//! `insula show`

use insula_api::v1::{GetUsageRequest, GetVpsRequest, Vps, VpsUsage};

use crate::columns::{USAGE_COLUMNS, VPS_COLUMNS};
use crate::context::Context;
use crate::failure::Outcome;
use crate::global::Format;
use crate::operations::missing;
use crate::output::print;
use crate::table::{facts, render_facts};

/// The arguments of `insula show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula show web1
  insula show web1 -o json | jq -r '.interfaces[0].ipAddresses[0]'

Usage is in the table only; programs get it from: insula usage web1 -o json")]
pub struct Show {
    /// VPS, by name or id
    name: String,
}

impl Show {
    /// Shows the VPS.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = GetVpsRequest { vps: self.name };
        let vps = context.client().await?.vps().get_vps(request).await?.into_inner().vps;
        let vps = vps.ok_or_else(|| missing("VPS"))?;
        if context.global.output != Format::Table {
            return context.print_item(&vps, VPS_COLUMNS);
        }
        // A client that may see the VPS, but not its usage, gets the rest.
        let request = GetUsageRequest { vps: vps.id.clone() };
        let usage = context.client().await?.usage().get_usage(request).await.ok();
        print(render(&vps, usage.and_then(|usage| usage.into_inner().usage).as_ref()).as_bytes())
    }
}

fn render(vps: &Vps, usage: Option<&VpsUsage>) -> String {
    let mut known = facts(VPS_COLUMNS, vps);
    let used = usage.map(|usage| facts(USAGE_COLUMNS, usage)).unwrap_or_default();
    for (name, value) in used {
        if known.iter().all(|(other, _)| *other != name) && name != "time" {
            known.push((name, value));
        }
    }
    render_facts(&known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_api::v1::{Limits, Suspension, VpsState};

    #[test]
    fn a_vps_is_shown_with_what_it_uses_and_nothing_twice() {
        let vps = Vps {
            name: "web1".into(),
            id: "0193".into(),
            host: "0192".into(),
            epoch: 2,
            state: VpsState::Suspended.into(),
            tenant: "acme".into(),
            labels: [("env", "prod"), ("a/b", "\x1b[2J")].map(|(k, v)| (k.into(), v.into())).into(),
            own_limits: Some(Limits {
                cpu_milli: Some(1500),
                disk_bytes: Some(20 << 30),
                ..Default::default()
            }),
            suspension: Some(Suspension {
                reason: "unpaid\nreally".into(),
                was_running: true,
                ..Default::default()
            }),
            etag: "r3".into(),
            ..Default::default()
        };
        let usage = VpsUsage {
            vps: "0193".into(),
            vps_name: "web1".into(),
            memory_bytes: 100_000_000,
            memory_limit_bytes: 1 << 30,
            received_bytes: 999,
            sent_bytes: 5 << 30,
            ..Default::default()
        };
        insta::assert_snapshot!(render(&vps, Some(&usage)));
    }
}
