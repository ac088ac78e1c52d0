//! Changes what a VPS may use and what is noted about it: all of it or nothing.

use std::sync::Arc;

use insula_types::{OperationRecord, VpsId};
use serde::{Deserialize, Serialize};

use crate::host::features::check_features;
use crate::host::pools::HostPool;
use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::changes::UpdateVps;
use crate::model::checks::check_hostname;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::{Change, Step, Swap, Terms};
use crate::vps::task::SETS_ON_CRASH;
use crate::{Engine, EngineError, VpsHandle};

/// Change what it may use and what is noted about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpdateJob {
    pub vps: VpsId,
    /// What was asked for.
    pub update: Box<UpdateVps>,
    /// What that comes to, with the VPS and the profile as they are when it is checked.
    pub terms: Option<Box<Swap<Terms>>>,
}

impl Engine {
    /// Changes what a VPS may use and what is noted about it: all of it or nothing.
    pub async fn update_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        update: UpdateVps,
    ) -> Result<OperationRecord, EngineError> {
        self.request(asked, handle, UpdateJob { vps: handle.id, update: Box::new(update), terms: None }).await
    }

    /// The terms that an update comes to, if this host can hold them.
    fn change_terms(
        &self,
        pool: &HostPool,
        mut terms: Terms,
        update: &UpdateVps,
    ) -> Result<Terms, EngineError> {
        let profile = self.profiles.find(Some(update.profile.as_ref().unwrap_or(&terms.profile)));
        update.limits.iter().for_each(|change| change.apply(&mut terms.own_limits));
        terms.own_limits.check().map_err(|error| EngineError::invalid("changes.limits", error))?;
        if update.profile.is_some() || !update.limits.is_empty() {
            let profile = profile?;
            terms.limits = terms.own_limits.clone().or(&profile.limits);
            terms.profile = profile.name;
            self.check_enforceable(pool, &terms.limits)?;
        }
        if let Some(change) = &update.features {
            terms.own_features = change.own();
        }
        if update.profile.is_some() || update.features.is_some() {
            let of_profile = || self.profiles.find(Some(&terms.profile)).map(|profile| profile.features);
            terms.features = terms.own_features.clone().map_or_else(of_profile, Ok)?;
            check_features(&terms.features)?;
        }
        update.supervision.iter().for_each(|change| change.apply(&mut terms.own_supervision));
        let own = terms.own_supervision;
        own.check().map_err(|error| EngineError::invalid("changes.supervision", error))?;
        if update.profile.is_some() || !update.supervision.is_empty() {
            terms.supervision = own.or(&self.profiles.find(Some(&terms.profile))?.supervision);
        }
        if let Some(hostname) = &update.hostname {
            terms.hostname = check_hostname(hostname)?;
        }
        terms.labels = update.labels.clone().unwrap_or(terms.labels);
        terms.tenant = update.tenant.clone().unwrap_or(terms.tenant);
        terms.delete_protection = update.delete_protection.unwrap_or(terms.delete_protection);
        Ok(terms)
    }
}

impl JobSpec for UpdateJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Change)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        let mut admission = context.admit(self.request())?;
        let (engine, spec) = (context.engine, context.spec());
        let from = Terms::of(&spec);
        let to = engine.change_terms(engine.pools.of(&spec)?, from.clone(), &self.update)?;
        engine.ids.check(&spec, &to.features)?;
        let terms = Swap { from, to };
        admission.notes = notes(&terms, context);
        self.terms = Some(Box::new(terms));
        Ok(admission)
    }

    /// All limits or none.
    fn plan(&self) -> Plan {
        let Some(terms) = self.terms.as_deref().cloned() else { return Plan::lasting([]) };
        let limits = Swap { from: terms.from.limits.clone(), to: terms.to.limits.clone() };
        let disk = (limits.from.disk != limits.to.disk).then(|| Step::SetDiskLimit(limits.clone()));
        let live = (limits.from != limits.to).then(|| Step::SetLimits(limits.clone()));
        let on_crash = terms.clone().map(|terms| terms.supervision.on_crash.unwrap_or_default());
        let told = (on_crash.from != on_crash.to).then_some(Step::SetOnCrash(on_crash));
        let noted = Step::Change(terms.map(|terms| Change::Terms(Box::new(terms))));
        Plan::undoable(disk.into_iter().chain(live).chain(told).chain([noted]))
    }
}

/// What the client should know about the result.
fn notes(Swap { from, to }: &Swap<Terms>, context: &Context<'_>) -> Vec<String> {
    let is_alive = context.state.is_alive();
    let on_crash = |terms: &Terms| terms.supervision.on_crash.unwrap_or_default();
    let monitor_version = context.vps.observed.borrow().monitor_version;
    let is_old = monitor_version.is_some_and(|version| version < SETS_ON_CRASH);
    let wait = [
        (from.hostname != to.hostname && is_alive, "the host name takes effect at the next start"),
        (from.features != to.features && is_alive, "the features take effect at the next start"),
        (
            on_crash(from) != on_crash(to) && is_old,
            "the VPS runs with an older monitor: on-crash takes effect at the next start",
        ),
    ];
    wait.iter().filter(|(is_so, _)| *is_so).map(|(_, note)| (*note).to_owned()).collect()
}
