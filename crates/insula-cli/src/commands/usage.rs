//! `insula usage`

use insula_api::v1::{GetUsageRequest, ListUsageRequest};

use crate::columns::USAGE_COLUMNS;
use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::missing;
use crate::table::ColumnChoice;

/// The arguments of `insula usage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula usage
  insula usage web1
  insula usage --tenant acme -o csv --columns name,received,sent

CPU time and traffic are counted since the VPS was started.")]
pub struct Usage {
    /// VPS, by name or id [default: all VPSes]
    name: Option<String>,
    /// Only VPSes of this tenant
    #[arg(long, conflicts_with = "name")]
    tenant: Option<String>,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

impl Usage {
    /// Shows the usage.
    pub async fn run(self, context: &Context) -> Outcome {
        let mut service = context.client().await?.usage();
        if let Some(vps) = self.name {
            let usage = service.get_usage(GetUsageRequest { vps }).await?.into_inner().usage;
            return context.print_item(&usage.ok_or_else(|| missing("usage"))?, USAGE_COLUMNS);
        }
        let request = ListUsageRequest { tenant: self.tenant.unwrap_or_default() };
        let answer = service.list_usage(request).await?.into_inner();
        context.print_list(&answer, &answer.usage, USAGE_COLUMNS, &self.columns, "There is no VPS.")
    }
}
