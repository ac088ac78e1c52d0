//! `insula version`

use insula_api::json::to_json;
use insula_api::v1::{GetHostRequest, Host};
use serde_json::json;

use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::global::Format;
use crate::operations::missing;
use crate::output::print;
use crate::text::printable;

/// The arguments of `insula version`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula version
  insula version -o json

The command's version is shown even without an agent; the exit code says whether the agent answers.")]
pub struct Version {}

/// The version of this command.
const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Version {
    /// Shows the versions.
    pub async fn run(self, context: &Context) -> Outcome {
        let host = host(context).await;
        match context.global.output {
            Format::Table | Format::Csv => print(render(host.as_ref().ok()).as_bytes())?,
            _ => {
                context.print_value(&json!({ "client": VERSION, "host": host.as_ref().ok().map(to_json) }))?
            }
        }
        host.map(|_| ())
    }
}

async fn host(context: &Context) -> Result<Host, Failure> {
    let answer = context.client().await?.host().get_host(GetHostRequest {}).await?.into_inner();
    answer.host.ok_or_else(|| missing("host"))
}

fn render(host: Option<&Host>) -> String {
    let agent = host.map(|host| {
        let (name, version, kernel) =
            (printable(&host.name), printable(&host.version), printable(&host.kernel));
        // An older agent does not send it.
        let id = Some(printable(&host.id)).filter(|id| !id.is_empty());
        let id = id.map(|id| format!("host: {id}\n")).unwrap_or_default();
        let (cgroups, apparmor) = (printable(&host.cgroup_mode), printable(&host.apparmor));
        format!("agent: {version} on {name}, Linux {kernel}, {cgroups} cgroups\nAppArmor: {apparmor}\n{id}")
    });
    format!("insula: {VERSION}\n{}", agent.unwrap_or_default())
}
