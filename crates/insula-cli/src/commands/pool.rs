//! `insula pool`

use clap::{Args, Subcommand};
use insula_api::v1::{GetPoolRequest, ListPoolsRequest};

use crate::columns::POOL_COLUMNS;
use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::missing;
use crate::table::ColumnChoice;

/// The commands of `insula pool`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula pool list
  insula pool show default")]
pub enum Pool {
    /// List storage pools
    #[command(visible_alias = "ls")]
    List(List),
    /// Show the details of a storage pool
    Show(Show),
}

/// The arguments of `insula pool list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula pool list
  insula pool list -o json")]
pub struct List {
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula pool show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula pool show default")]
pub struct Show {
    /// Name of the pool
    pool: String,
}

impl Pool {
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
        let answer = context.client().await?.storage().list_pools(ListPoolsRequest {}).await?.into_inner();
        let empty = "There is no pool.";
        context.print_list(&answer, &answer.pools, POOL_COLUMNS, &self.columns, empty)
    }
}

impl Show {
    async fn run(self, context: &Context) -> Outcome {
        let request = GetPoolRequest { pool: self.pool };
        let pool = context.client().await?.storage().get_pool(request).await?.into_inner().pool;
        context.print_item(&pool.ok_or_else(|| missing("pool"))?, POOL_COLUMNS)
    }
}
