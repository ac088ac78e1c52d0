//! Where an operation goes on after its agent has died, also when the plan of its job is another by now.
//!
//! A record names its steps. A step is done when its name stands before that of the step under way, wherever it stands in
//! the plan of this version. Agents before schema version 4 named no steps: their records go on by number.

use std::collections::BTreeSet;

use insula_storage::Volume;
use insula_types::{OperationRecord, OperationState};

use crate::jobs::Job;
use crate::model::plan::Plan;
use crate::model::step::{Output, Step};

/// Fits a record to the plan of this version: its steps, and which of them is under way.
pub(crate) fn fit(record: &mut OperationRecord, plan: &Plan) {
    let names = names(plan);
    if !record.step_names.is_empty() && record.step_names != names {
        let under_way = record.step as usize;
        let begun = record.step_names.get(..=under_way).unwrap_or(&record.step_names);
        let done = record.step_names.get(..under_way).unwrap_or(&record.step_names);
        let step = match record.state {
            // What was not begun may be taken back, too: it does nothing.
            OperationState::Undoing => {
                names[..plan.commit].iter().rposition(|name| begun.contains(name)).unwrap_or(0)
            }
            _ => names.iter().position(|name| !done.contains(name)).unwrap_or(names.len()),
        };
        record.step = u32::try_from(step).unwrap_or(u32::MAX);
    }
    describe(record, plan);
}

/// Notes the steps of a plan in a record.
pub(crate) fn describe(record: &mut OperationRecord, plan: &Plan) {
    record.steps = plan.steps.iter().map(|step| step.message().to_owned()).collect();
    record.step_names = names(plan);
}

fn names(plan: &Plan) -> Vec<String> {
    let names: Vec<String> = plan.steps.iter().map(|step| step.name().to_owned()).collect();
    debug_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "a name is that of one step");
    names
}

/// The volumes of an unfinished operation that belong to no VPS: they are not taken for what nobody needs.
pub(crate) fn held_volumes(record: &OperationRecord) -> Vec<Volume> {
    let plan = serde_json::from_str(&record.request).map(|job: Job| job.plan());
    let staging = plan.into_iter().flat_map(|plan| plan.steps).filter_map(|step| match step {
        Step::BuildTree { staging, .. } => Some(Volume::Staging(staging)),
        _ => None,
    });
    let published = record.outputs.values().filter_map(|output| match serde_json::from_str(output) {
        Ok(Output::Image(image)) => Some(Volume::Image(image.fingerprint)),
        Err(_) => None,
    });
    staging.chain(published).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::{OperationKind, Requester, SnapshotName};

    use crate::Asked;
    use crate::journal::records::blank_record;

    fn plan() -> Plan {
        let one: SnapshotName = "one".parse().unwrap();
        let steps =
            vec![Step::CloneIncoming(one), Step::RetireRoot, Step::InstallIncoming, Step::RemoveOutgoing];
        Plan { steps, commit: 3 }
    }

    /// The step that a record goes on with which had these steps and was at one of them.
    fn goes_on(state: OperationState, names: &[&str], step: u32) -> u32 {
        let asked = Asked::by(Requester::root());
        let kind = OperationKind::RestoreSnapshot;
        let mut record = blank_record(kind, String::new(), "web1", &asked, String::new());
        record.step_names = names.iter().map(ToString::to_string).collect();
        (record.state, record.step) = (state, step);
        fit(&mut record, &plan());
        assert_eq!(record.step_names[..2], ["clone-incoming", "retire-root"]);
        assert_eq!(record.steps.len(), 4);
        record.step
    }

    #[test]
    fn an_operation_goes_on_where_its_own_list_says() {
        let same = ["clone-incoming", "retire-root", "install-incoming", "remove-outgoing"];
        for (names, step, expected) in [
            (&same[..], 2, 2),
            (&[], 2, 2), // by number: the agent before named no steps
            (&["check", "clone-incoming", "retire-root", "install-incoming"], 2, 1), // one that is gone was done
            (&["check", "clone-incoming"], 0, 0),                                    // … and was under way
            (&["retire-root", "install-incoming"], 1, 0), // one that came since is made up for
            (&["clone-incoming", "install-incoming", "remove-outgoing"], 1, 1), // … in the middle
            (&["remove-outgoing", "install-incoming", "retire-root", "clone-incoming", "end"], 4, 4), // all is done
            (&same[..2], 9, 2),
        ] {
            assert_eq!(goes_on(OperationState::Running, names, step), expected, "{names:?} at {step}");
        }
    }

    #[test]
    fn what_was_begun_is_taken_back_and_nothing_after_the_point_of_no_return() {
        for (names, step, expected) in [
            (&["clone-incoming", "check", "retire-root"][..], 2, 1),
            (&["clone-incoming", "check", "retire-root"], 1, 0),
            (&["check", "end"], 1, 0),
            (&["remove-outgoing", "clone-incoming"], 0, 0),
        ] {
            assert_eq!(goes_on(OperationState::Undoing, names, step), expected, "{names:?} at {step}");
        }
    }
}
