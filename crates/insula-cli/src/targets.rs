//! Which VPSes a command works on.

use insula_api::v1::{ListVpsesRequest, Vps};
use insula_types::VpsState;

use crate::context::Context;
use crate::failure::Outcome;
use crate::operations::Subjects;

/// Some VPSes by name, or all.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Targets {
    /// VPSes, by name or id
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// All VPSes whose state allows it
    #[arg(long)]
    all: bool,
}

impl Targets {
    /// The named VPSes, or with `--all` those in one of these states.
    pub async fn resolve(self, context: &Context, states: &[VpsState]) -> Outcome<Subjects> {
        if !self.all {
            return Ok(Subjects::named(self.names));
        }
        let found = list_vpses_in(context, states).await?;
        if found.is_empty() {
            context.note("There is no VPS in a state that allows this.");
        }
        Ok(Subjects::Many(found.into_iter().map(|vps| vps.name).collect()))
    }
}

/// All VPSes in one of these states.
async fn list_vpses_in(context: &Context, states: &[VpsState]) -> Outcome<Vec<Vps>> {
    let filter = states_filter(states).unwrap_or_default();
    list_vpses(context, ListVpsesRequest { filter, ..Default::default() }).await
}

/// All VPSes that the request selects, from all of its pages.
pub async fn list_vpses(context: &Context, mut request: ListVpsesRequest) -> Outcome<Vec<Vps>> {
    let mut service = context.client().await?.vps();
    let mut vpses = vec![];
    loop {
        let page = service.list_vpses(request.clone()).await?.into_inner();
        vpses.extend(page.vpses);
        if page.next_page_token.is_empty() {
            return Ok(vpses);
        }
        request.page_token = page.next_page_token;
    }
}

/// The filter for some states; `None` for all. Filters have no OR: for several states, it excludes all others.
pub fn states_filter(states: &[VpsState]) -> Option<String> {
    match states {
        [] => None,
        [one] => Some(format!("state={one}")),
        several => {
            let others = VpsState::ALL.into_iter().filter(|state| !several.contains(state));
            Some(others.map(|state| format!("state!={state}")).collect::<Vec<_>>().join(" AND "))
        }
    }
}

/// The states in which a VPS can be started, and so on.
pub mod states {
    use super::VpsState;

    /// Those without a process.
    pub const STARTABLE: &[VpsState] = &[VpsState::Stopped, VpsState::Failed];
    /// Those with processes.
    pub const STOPPABLE: &[VpsState] =
        &[VpsState::Starting, VpsState::Waiting, VpsState::Running, VpsState::Ready, VpsState::Paused];
    /// Those whose processes run.
    pub const RUNNING: &[VpsState] = &[VpsState::Running, VpsState::Ready];
    /// Those whose processes are frozen.
    pub const PAUSED: &[VpsState] = &[VpsState::Paused];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_states_are_none_of_the_others() {
        assert_eq!(states_filter(&[]), None);
        assert_eq!(states_filter(&[VpsState::Ready]).unwrap(), "state=ready");
        let filter = states_filter(states::RUNNING).unwrap();
        assert_eq!(filter.matches(" AND ").count(), VpsState::ALL.len() - 3, "{filter}");
        assert!(
            !filter.contains("ready") && !filter.contains("running") && filter.contains("state!=stopped")
        );
    }
}
