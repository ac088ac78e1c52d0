//! `insula network`

use clap::{Args, Subcommand};
use insula_api::v1::{GetNetworkRequest, ListNetworksRequest};

use crate::columns::NETWORK_COLUMNS;
use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::missing;
use crate::table::ColumnChoice;

/// The commands of `insula network`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula network list
  insula network show default")]
pub enum Network {
    /// List networks
    #[command(visible_alias = "ls")]
    List(List),
    /// Show the details of a network
    Show(Show),
}

/// The arguments of `insula network list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula network list
  insula network list -o json")]
pub struct List {
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula network show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula network show default")]
pub struct Show {
    /// Name of the network
    network: String,
}

impl Network {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let answer =
            context.client().await?.networks().list_networks(ListNetworksRequest {}).await?.into_inner();
        let empty = "There is no network.";
        context.print_list(&answer, &answer.networks, NETWORK_COLUMNS, &self.columns, empty)
    }
}

impl Show {
    async fn run(self, context: &Context) -> Outcome {
        let request = GetNetworkRequest { network: self.network };
        let network = context.client().await?.networks().get_network(request).await?.into_inner().network;
        context.print_item(&network.ok_or_else(|| missing("network"))?, NETWORK_COLUMNS)
    }
}
