//! `insula doctor`

use insula_api::v1::ListPoolsRequest;
use insula_api::{ApiError, Reason};
use serde_json::{Value as Json, json};
use std::time::Duration;

use crate::context::Context;
use crate::doctor::fix::{FILE, Raise, apply, plan_raises};
use crate::doctor::{Finding, State, examine};
use crate::failure::{Failure, Outcome};
use crate::global::Format;
use crate::output::print;
use crate::table::{Column, ColumnChoice, Shown};

/// How long an agent may take to answer. The host is checked even without one.
const AGENT_LIMIT: Duration = Duration::from_secs(5);

/// The arguments of `insula doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  insula doctor
  sudo insula doctor --fix
  insula doctor -o json

Checks the host that it runs on; an agent is not needed. Each finding is ok, costs something, or is missing. Exits \
with 1 if something is missing that VPSes need. docs/doctor.md explains every finding.")]
pub struct Doctor {
    /// Raise kernel settings that are too low, now and for the next boot
    #[arg(long)]
    fix: bool,
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

const COLUMNS: &[Column<Finding>] = &[
    Column { name: "check", shown: Shown::Usually, value: |finding| finding.check.name.to_owned() },
    Column { name: "state", shown: Shown::Usually, value: |finding| finding.state.as_str().to_owned() },
    Column { name: "found", shown: Shown::Usually, value: |finding| finding.value.render() },
    Column { name: "what", shown: Shown::Usually, value: |finding| finding.check.what.to_owned() },
    Column { name: "costs", shown: Shown::WhenAsked, value: |finding| finding.check.costs.to_owned() },
    Column { name: "fix", shown: Shown::WhenAsked, value: |finding| finding.check.fix.to_owned() },
];

impl Doctor {
    /// Looks, and fixes if that was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        if context.global.host.is_some() {
            return Err(Failure::usage(
                "doctor looks at the host that it runs on: run it there, without --host",
            ));
        }
        let quota = tokio::time::timeout(AGENT_LIMIT, pool_quota(context)).await.ok().flatten();
        let mut findings = examine(quota.as_deref());
        let raises = match self.fix {
            true => {
                let raises = fix(context, &findings)?;
                findings = examine(quota.as_deref());
                raises
            }
            false => vec![],
        };
        let value = || as_json(&findings, &raises);
        context.print_rows(value, &findings, COLUMNS, &self.columns, "")?;
        if context.global.output == Format::Table && self.columns.is_usual() {
            print(advice(&findings).as_bytes())?;
        }
        match findings.iter().any(|finding| finding.state == State::Missing) {
            true => Err(Failure::Exit(1)),
            false => Ok(()),
        }
    }
}

/// The answer of this host's agent about its pool; nothing if no agent answers.
async fn pool_quota(context: &Context) -> Option<String> {
    let client = context.client().await.ok()?;
    let answer = client.storage().list_pools(ListPoolsRequest {}).await.ok()?.into_inner();
    answer.pools.into_iter().next().map(|pool| pool.quota)
}

fn fix(context: &Context, findings: &[Finding]) -> Outcome<Vec<Raise>> {
    if !rustix::process::geteuid().is_root() {
        let error = ApiError::new(Reason::PermissionDenied, "only root may raise kernel settings");
        return Err(error.with_hint("sudo insula doctor --fix").into());
    }
    let raises = plan_raises(findings);
    apply(&raises).map_err(|(what, error)| Failure::io(what, &error))?;
    for Raise { key, from, to } in &raises {
        context.note(&format!("{key}: raised from {from} to {to}, and in {FILE}"));
    }
    if raises.is_empty() {
        context.note("There is nothing to fix automatically.");
    }
    Ok(raises)
}

/// What each finding that is not ok costs, and what to do about it.
fn advice(findings: &[Finding]) -> String {
    let unwell = findings.iter().filter(|finding| finding.state != State::Ok);
    let lines = unwell.map(|Finding { check, state, .. }| {
        format!("\n{} ({})\n  costs: {}\n  to do: {}\n", check.name, state.as_str(), check.costs, check.fix)
    });
    lines.collect()
}

fn as_json(findings: &[Finding], raises: &[Raise]) -> Json {
    let checks = findings.iter().map(|Finding { check, value, state }| {
        json!({
            "name": check.name, "state": state.as_str(), "found": value.render(), "what": check.what,
            "costs": check.costs, "fix": check.fix,
        })
    });
    let raised = raises.iter().map(|Raise { key, from, to }| json!({ "key": key, "from": from, "to": to }));
    json!({ "checks": checks.collect::<Vec<_>>(), "raised": raised.collect::<Vec<_>>() })
}
