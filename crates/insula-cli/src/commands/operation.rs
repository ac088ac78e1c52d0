//! `insula operation`

use clap::{Args, Subcommand};
use insula_api::v1::operation::State;
use insula_api::v1::{CancelOperationRequest, GetOperationRequest, ListOperationsRequest};
use insula_api::{ApiError, Reason};

use crate::columns::OPERATION_COLUMNS;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::operations::{Subjects, error_of, missing, print_operation, run_operations, wait_for_end};
use crate::requests;
use crate::table::ColumnChoice;

/// The commands of `insula operation`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula operation list
  insula operation wait $(insula start web1 --async)
  insula operation cancel 01932c07-5a5e-7c31-b6a3-2f6e4f5a9b10")]
pub enum Operation {
    /// List operations, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Show the details of an operation
    Show(Show),
    /// Wait until operations are done; fails if one of them fails
    Wait(Wait),
    /// Cancel an operation and undo what it has done; refused past the point of no return
    Cancel(Cancel),
}

/// The arguments of `insula operation list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula operation list
  insula operation list --vps web1 --limit 1000 -o json
  insula operation list --unfinished")]
pub struct List {
    /// Number of entries, at most 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    /// Only those about this VPS, by name or id
    #[arg(long, value_name = "NAME")]
    vps: Option<String>,
    /// Only operations that are not done
    #[arg(long)]
    unfinished: bool,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula operation show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula operation show 01932c07-5a5e-7c31-b6a3-2f6e4f5a9b10")]
pub struct Show {
    /// Id of the operation
    id: String,
}

/// The arguments of `insula operation wait`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula operation wait 01932c07-5a5e-7c31-b6a3-2f6e4f5a9b10 --timeout 5m")]
pub struct Wait {
    /// Ids of the operations
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

/// The arguments of `insula operation cancel`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula operation cancel 01932c07-5a5e-7c31-b6a3-2f6e4f5a9b10

Waits until everything is undone; with --async, only requests the cancellation.")]
pub struct Cancel {
    /// Id of the operation
    id: String,
}

impl Operation {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Wait(wait) => wait.run(context).await,
            Self::Cancel(cancel) => cancel.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let request = ListOperationsRequest {
            page_size: self.limit,
            page_token: String::new(),
            vps: self.vps.unwrap_or_default(),
            unfinished: self.unfinished,
        };
        let answer = context.client().await?.operations().list_operations(request).await?.into_inner();
        let empty = "There are no operations yet.";
        context.print_list(&answer, &answer.operations, OPERATION_COLUMNS, &self.columns, empty)
    }
}

impl Show {
    async fn run(self, context: &Context) -> Outcome {
        let operation = get(context, self.id).await?.ok_or_else(|| missing("operation"))?;
        context.print_item(&operation, OPERATION_COLUMNS)
    }
}

impl Wait {
    async fn run(self, context: &Context) -> Outcome {
        if context.global.no_wait {
            return Err(Failure::usage("'--async' makes no sense with 'operation wait'"));
        }
        run_operations(context, Subjects::named(self.ids), async |id, _| get(context, id).await).await
    }
}

impl Cancel {
    async fn run(self, context: &Context) -> Outcome {
        let asked = requests::repeat(context, async || {
            let request = CancelOperationRequest { id: self.id.clone() };
            Ok(context.client().await?.operations().cancel_operation(request).await?.into_inner().operation)
        });
        let operation = asked.await?.ok_or_else(|| missing("operation"))?;
        if context.global.no_wait {
            return print_operation(context, &operation);
        }
        let operation = wait_for_end(context, operation).await?;
        let cancelled = operation.error.as_ref().map(ApiError::from).and_then(|error| error.reason());
        match (operation.state(), cancelled) {
            (State::Failed, Some(Reason::Cancelled)) => {
                print_operation(context, &operation) // as requested
            }
            (State::Succeeded, _) => {
                let message = format!("operation {} was done before it could be cancelled", operation.id);
                Err(ApiError::new(Reason::NotCancellable, message).into())
            }
            _ => Err(error_of(&operation).into()),
        }
    }
}

async fn get(context: &Context, id: String) -> Outcome<Option<insula_api::v1::Operation>> {
    let request = GetOperationRequest { id };
    Ok(context.client().await?.operations().get_operation(request).await?.into_inner().operation)
}
