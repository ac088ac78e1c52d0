//! `insula audit`

use clap::{Args, Subcommand};
use insula_api::json::to_json;
use insula_api::v1::{ListAuditEntriesRequest, VerifyAuditLogRequest, VerifyAuditLogResponse};
use insula_api::{ApiError, Reason};

use crate::columns::AUDIT_COLUMNS;
use crate::context::Context;
use crate::failure::Outcome;
use crate::global::Format;
use crate::output::print;
use crate::table::ColumnChoice;
use crate::text::printable;

/// The arguments of `insula audit`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  insula audit
  insula audit --object web1 --limit 1000
  insula audit verify")]
pub struct Audit {
    /// What to do; otherwise: list.
    #[command(subcommand)]
    command: Option<AuditCommand>,
    /// What to list.
    #[command(flatten)]
    list: List,
}

/// The commands of `insula audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// List the entries of the audit log, newest first
    #[command(visible_alias = "ls")]
    List(List),
    /// Check by the chain of hashes that no entry was changed or removed from the middle
    Verify(Verify),
}

/// The arguments of `insula audit list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula audit list --requester panel
  insula audit list --object web1 --columns time,requester,action,result -o csv")]
pub struct List {
    /// Only entries of this requester: `root`, `insulad`, or the name of a client
    #[arg(long, value_name = "NAME")]
    requester: Option<String>,
    /// Only entries about this object: its id, or the name it had at the time
    #[arg(long, value_name = "NAME")]
    object: Option<String>,
    /// Number of entries, at most 1000
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(i32).range(1..=1000))]
    limit: i32,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula audit verify

Exits with 1 if the chain is broken. Keep the printed head in another place: it proves later that no entry was \
removed from the end.")]
pub struct Verify {}

impl Audit {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self.command {
            None => self.list.run(context).await,
            Some(AuditCommand::List(list)) => list.run(context).await,
            Some(AuditCommand::Verify(verify)) => verify.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let request = ListAuditEntriesRequest {
            page_size: self.limit,
            page_token: String::new(),
            requester: self.requester.unwrap_or_default(),
            object: self.object.unwrap_or_default(),
        };
        let answer = context.client().await?.access().list_audit_entries(request).await?.into_inner();
        let empty = "There is no such entry.";
        context.print_list(&answer, &answer.entries, AUDIT_COLUMNS, &self.columns, empty)
    }
}

impl Verify {
    async fn run(self, context: &Context) -> Outcome {
        let request = VerifyAuditLogRequest {};
        let answer = context.client().await?.access().verify_audit_log(request).await?.into_inner();
        match context.global.output {
            Format::Table | Format::Csv => print(render(&answer).as_bytes())?,
            _ => context.print_value(&to_json(&answer))?,
        }
        answer.broken_at.map_or(Ok(()), |entry| {
            let message =
                format!("the audit log was tampered with: entry {entry} does not follow the one before");
            Err(ApiError::new(Reason::Internal, message).into())
        })
    }
}

fn render(answer: &VerifyAuditLogResponse) -> String {
    let state = if answer.broken_at.is_some() { "broken" } else { "whole" };
    format!("chain: {state}\nentries: {}\nhead: {}\n", answer.entries, printable(&answer.head))
}
