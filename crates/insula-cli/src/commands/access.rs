//! `insula access`

use clap::{Args, Subcommand};
use insula_api::v1::{
    self, CreateAccessTokenRequest, CreateAccessTokenResponse, GetCallerRequest, ListClientsRequest,
    RevokeClientRequest,
};
use insula_types::{EnrollmentToken, Role};
use std::time::Duration;

use crate::columns::{CALLER_COLUMNS, CLIENT_COLUMNS};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::global::Format;
use crate::operations::{Subjects, run_operations};
use crate::output::print;
use crate::requests;
use crate::table::ColumnChoice;
use crate::text::{parse_duration, printable, time};

/// The commands of `insula access`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula access token create panel --role billing
  insula access list
  insula access revoke panel")]
pub enum Access {
    /// Manage one-time tokens, with which new clients get their certificates
    #[command(subcommand)]
    Token(Token),
    /// List clients, and tokens that no client has used yet
    #[command(visible_alias = "ls")]
    List(List),
    /// Revoke the access of clients, or tokens, at once
    Revoke(Revoke),
    /// Show which client the agent takes this command for
    Whoami(Whoami),
}

/// The commands of `insula access token`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula access token create panel --role billing")]
pub enum Token {
    /// Create a token for a new client and print it
    Create(CreateToken),
}

/// The arguments of `insula access token create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula access token create panel --role billing
  insula access token create acme-admin --role tenant --tenant acme --ttl 7d
  insula access token create laptop --role operator | ssh laptop insula remote add vps1 --token -

Roles: a super-admin may do everything; an operator everything but manage access; billing creates, suspends \
and meters VPSes; a tenant runs its own VPSes; a viewer only reads. The token works once: whoever uses it \
first becomes the client.")]
pub struct CreateToken {
    /// Name of the client
    name: String,
    /// Role of the client: super-admin, operator, billing, tenant or viewer
    #[arg(long)]
    role: Role,
    /// Tenant whose VPSes the client may use; for the role tenant
    #[arg(long, required_if_eq("role", "tenant"))]
    tenant: Option<String>,
    /// Lifetime of the token, such as 12h or 7d [default: 1d]
    #[arg(long = "ttl", value_name = "TIME", value_parser = parse_duration)]
    time_to_live: Option<Duration>,
}

/// The arguments of `insula access list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula access list
  insula access list --revoked")]
pub struct List {
    /// Include revoked clients
    #[arg(long)]
    revoked: bool,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula access revoke`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula access revoke panel")]
pub struct Revoke {
    /// Clients or tokens, by name or id
    #[arg(value_name = "CLIENT", required = true)]
    clients: Vec<String>,
}

/// The arguments of `insula access whoami`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula access whoami --host vps1")]
pub struct Whoami {}

impl Access {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Token(Token::Create(create)) => create.run(context).await,
            Self::List(list) => list.run(context).await,
            Self::Revoke(revoke) => revoke.run(context).await,
            Self::Whoami(whoami) => whoami.run(context).await,
        }
    }
}

impl CreateToken {
    async fn run(self, context: &Context) -> Outcome {
        let time_to_live = self.time_to_live.map(prost_types::Duration::try_from).transpose();
        let request = CreateAccessTokenRequest {
            name: self.name,
            role: v1::Role::from(self.role).into(),
            tenant: self.tenant.unwrap_or_default(),
            time_to_live: time_to_live.map_err(|error| Failure::usage(format!("invalid --ttl: {error}")))?,
            request_id: String::new(),
        };
        let answer = requests::send(context, async |request_id| {
            let request = CreateAccessTokenRequest { request_id, ..request.clone() };
            Ok(context.client().await?.access().create_access_token(request).await?.into_inner())
        });
        show_token(context, &answer.await?)
    }
}

/// Prints the token alone on standard output, so that it can be piped; the rest goes to standard error.
fn show_token(context: &Context, answer: &CreateAccessTokenResponse) -> Outcome {
    if matches!(context.global.output, Format::Json | Format::Yaml) {
        return context.print_value(&insula_api::json::to_json(answer));
    }
    let client = answer.client.clone().unwrap_or_default();
    let (name, until) = (printable(&client.name), time(client.expire_time.as_ref()));
    let names_agent = answer.token.parse().is_ok_and(|token: EnrollmentToken| !token.addresses.is_empty());
    let url = if names_agent { "" } else { " URL" }; // the agent does not listen on the network itself
    context.note(&format!("With this token {name} gets its certificate, once, until {until}:"));
    context.note(&format!("insula remote add NAME{url} --token -"));
    print(format!("{}\n", printable(&answer.token)).as_bytes())
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        const EMPTY: &str = "There is no client. To add one: insula access token create NAME --role operator";
        let request = ListClientsRequest { show_revoked: self.revoked };
        let answer = context.client().await?.access().list_clients(request).await?.into_inner();
        context.print_list(&answer, &answer.clients, CLIENT_COLUMNS, &self.columns, EMPTY)
    }
}

impl Revoke {
    async fn run(self, context: &Context) -> Outcome {
        run_operations(context, Subjects::named(self.clients), async |client, request_id| {
            let request = RevokeClientRequest { client, request_id };
            Ok(context.client().await?.access().revoke_client(request).await?.into_inner().operation)
        })
        .await
    }
}

impl Whoami {
    async fn run(self, context: &Context) -> Outcome {
        let caller = context.client().await?.access().get_caller(GetCallerRequest {}).await?.into_inner();
        context.print_item(&caller, CALLER_COLUMNS)
    }
}
