//! `insula remote`

use clap::{Args, Subcommand};
use insula_api::v1::{EnrollClientRequest, EnrollClientResponse};
use insula_api::{ApiError, Client, ConnectError, Reason};
use insula_types::EnrollmentToken;
use prost_types::Timestamp;
use rcgen::KeyPair;
use serde_json::json;

use crate::columns::role;
use crate::context::Context;
use crate::failure::{Failure, Outcome, REMOTE_IS_AWAY};
use crate::prompt::read_secret;
use crate::remotes::{Credentials, Remote as KnownRemote, Remotes, authority, certificate_request};
use crate::requests;
use crate::table::{Column, ColumnChoice, Shown};
use crate::text::printable;

/// The commands of `insula remote`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula remote add vps1 https://vps1.example.org:8443
  insula list --host vps1
  INSULA_HOST=vps1 insula list

Remotes are kept in INSULA_CONFIG_DIR, or else in ~/.config/insula. Certificates are renewed automatically.")]
pub enum Remote {
    /// Add a remote agent: a one-time token gets the certificate
    Add(Add),
    /// List remotes
    #[command(visible_alias = "ls")]
    List(List),
    /// Remove remotes and their certificates from this machine
    #[command(visible_alias = "rm")]
    Remove(Remove),
}

/// The arguments of `insula remote add`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula remote add vps1 https://vps1.example.org:8443       # asks for the token
  insula remote add vps1 --token - < token
  ssh root@vps1 insula access token create laptop --role operator | insula remote add vps1 --token -

`insula access token create` on the agent's host makes the token. The token names the agent's CA, so that nobody can \
impersonate the agent. Other users of this machine can see arguments: let the command ask for the token, or use --token -.")]
pub struct Add {
    /// Name for the remote on this machine
    name: String,
    /// URL of the agent, https://HOST:PORT [default: from the token]
    url: Option<String>,
    /// Token, or - to read it from standard input [default: ask for it]
    #[arg(long, hide_default_value = true, default_value = "-")]
    token: String,
}

/// The arguments of `insula remote list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula remote list")]
pub struct List {
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula remote remove`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula remote remove vps1")]
pub struct Remove {
    /// Names of the remotes
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

impl Remote {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Add(add) => add.run(context).await,
            Self::List(list) => list.run(context),
            Self::Remove(remove) => remove.run(context),
        }
    }
}

impl Add {
    async fn run(self, context: &Context) -> Outcome {
        let remotes = Remotes::open()?;
        remotes.check_free(&self.name)?; // before the token is used up
        let named = self.url.as_deref().map(authority).transpose().map_err(Failure::usage)?;
        let text = match &*self.token {
            "-" => read_secret(context, "Token: ").await?,
            token => token.to_owned(),
        };
        let token: EnrollmentToken =
            text.trim().parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let key = KeyPair::generate().map_err(|error| {
            let message = "failed to make a key";
            ApiError::new(Reason::Internal, message).with_causes([error.to_string()])
        })?;
        let (authority, client) = reach(named, &token).await?;
        let answer = enroll(context, &client, &token, &key).await?;
        let credentials = Credentials {
            authority,
            ca_pem: answer.ca_certificate,
            certificate_pem: answer.certificate,
            key_pem: key.serialize_pem(),
        };
        remotes.add(&self.name, &credentials)?;
        let client = answer.client.unwrap_or_default();
        let who = format!("{} ({})", printable(&client.name), role(client.role()));
        context.note(&format!(
            "{}: added; the agent at {} knows this client as {who}",
            self.name, credentials.authority
        ));
        Ok(())
    }
}

/// Connects to the given URL, or else to an address of the token, which may have several.
async fn reach(named: Option<String>, token: &EnrollmentToken) -> Outcome<(String, Client)> {
    let mut candidates = named.map_or_else(|| token.addresses.clone(), |named| vec![named]).into_iter();
    let first = candidates
        .next()
        .ok_or_else(|| Failure::usage("the token does not say where the agent is: give its URL, too"))?;
    let mut result = try_address(first, token).await;
    for address in candidates {
        if matches!(result, Err(ConnectError::Unreachable { .. })) {
            result = try_address(address, token).await;
        }
    }
    result.map_err(|error| Failure::from(error).with_hint_if_lost(REMOTE_IS_AWAY))
}

async fn try_address(address: String, token: &EnrollmentToken) -> Result<(String, Client), ConnectError> {
    let client = Client::connect_to_enroll(&address, token.ca).await?;
    Ok((address, client))
}

/// Gets the certificate. The same key gets the same certificate, so a lost answer does no harm.
async fn enroll(
    context: &Context,
    client: &Client,
    token: &EnrollmentToken,
    key: &KeyPair,
) -> Outcome<EnrollClientResponse> {
    let certificate_request = certificate_request(key)?;
    requests::repeat(context, async || {
        let (token, certificate_request) = (token.to_string(), certificate_request.clone());
        let request = EnrollClientRequest { token, certificate_request };
        Ok(client.access().enroll_client(request).await?.into_inner())
    })
    .await
}

/// The columns of a remote.
struct Row {
    name: String,
    url: String,
    expires: String,
}

const COLUMNS: &[Column<Row>] = &[
    Column { name: "name", shown: Shown::Usually, value: |row| row.name.clone() },
    Column { name: "url", shown: Shown::Usually, value: |row| row.url.clone() },
    Column { name: "expires", shown: Shown::Usually, value: |row| row.expires.clone() },
];

impl List {
    fn run(self, context: &Context) -> Outcome {
        let rows = Remotes::open()?.all()?.iter().map(row).collect::<Outcome<Vec<_>>>()?;
        let object = |row: &Row| json!({ "name": row.name, "url": row.url, "expireTime": row.expires });
        let value = || json!({ "remotes": rows.iter().map(object).collect::<Vec<_>>() });
        let empty = "There is no remote. To add one: insula remote add NAME URL";
        context.print_rows(value, &rows, COLUMNS, &self.columns, empty)
    }
}

fn row(remote: &KnownRemote) -> Outcome<Row> {
    let expires = Timestamp { seconds: remote.expires_at()?, nanos: 0 }.to_string();
    Ok(Row { name: remote.name.clone(), url: remote.url(), expires })
}

impl Remove {
    fn run(self, context: &Context) -> Outcome {
        let remotes = Remotes::open()?;
        for name in &self.names {
            remotes.find(name)?.remove()?;
            context.note(&format!("{name}: removed; to revoke its access as well: insula access revoke"));
        }
        Ok(())
    }
}
