//! `insula list`

use insula_api::v1::{ListVpsesRequest, ListVpsesResponse};
use insula_types::VpsState;

use crate::columns::VPS_COLUMNS;
use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::parse_label;
use crate::table::ColumnChoice;
use crate::targets::{list_vpses, states_filter};

/// The arguments of `insula list`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula list
  insula list --state running,ready --columns name,address,uptime
  insula list --tenant acme --label env=prod
  insula list --filter 'profile!=small AND labels.env=\"prod\"'
  insula list -o json | jq -r '.vpses[].name'")]
pub struct List {
    /// Only VPSes in these states, separated by commas
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    states: Vec<VpsState>,
    /// Only VPSes of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only VPSes with this label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_label)]
    labels: Vec<(String, String)>,
    /// Only VPSes with this profile
    #[arg(long)]
    profile: Option<String>,
    /// Only VPSes that match: state, tenant, profile, name, image or labels.KEY, compared by = or != and joined by AND
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Include VPSes in the trash
    #[arg(long)]
    deleted: bool,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

impl List {
    /// Lists the VPSes.
    pub async fn run(self, context: &Context) -> Outcome {
        let request = self.request();
        let empty = match request.filter.is_empty() {
            true => "There is no VPS yet. To create one: insula create web1 --image debian-12 --start",
            false => "There is no such VPS.",
        };
        let vpses = list_vpses(context, request).await?;
        let message = ListVpsesResponse { vpses, next_page_token: String::new() };
        context.print_list(&message, &message.vpses, VPS_COLUMNS, &self.columns, empty)
    }

    fn request(&self) -> ListVpsesRequest {
        let equal = |name: &str, value: &str| format!("{name}={}", quoted(value));
        let labels = self.labels.iter().map(|(key, value)| equal(&format!("labels.{key}"), value));
        let conditions = states_filter(&self.states)
            .into_iter()
            .chain(self.tenant.iter().map(|tenant| equal("tenant", tenant)))
            .chain(self.profile.iter().map(|profile| equal("profile", profile)))
            .chain(labels)
            .chain(self.filter.clone());
        ListVpsesRequest {
            filter: conditions.collect::<Vec<_>>().join(" AND "),
            show_deleted: self.deleted || self.states.contains(&VpsState::Deleted),
            ..Default::default()
        }
    }
}

/// A text as a quoted string of a filter (AIP-160).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::List;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        list: List,
    }

    #[test]
    fn flags_become_a_filter() {
        for (typed, filter) in [
            (&[][..], ""),
            (&["--state", "ready"], "state=ready"),
            (&["--tenant", "acme", "--profile", "small"], "tenant=\"acme\" AND profile=\"small\""),
            (
                &["--label", "a/b=c \"d\"\\", "--label", "env="],
                "labels.a/b=\"c \\\"d\\\"\\\\\" AND labels.env=\"\"",
            ),
            (&["--filter", "name!=web1", "--tenant", "acme"], "tenant=\"acme\" AND name!=web1"),
        ] {
            let Typed { list } = Typed::parse_from(["list"].iter().chain(typed));
            assert_eq!(list.request().filter, filter);
        }
    }

    #[test]
    fn who_asks_for_deleted_ones_sees_the_trash() {
        for (typed, shows) in [(&["--deleted"][..], true), (&["--state", "deleted"], true), (&[], false)] {
            let Typed { list } = Typed::parse_from(["list"].iter().chain(typed));
            assert_eq!(list.request().show_deleted, shows);
        }
    }
}
