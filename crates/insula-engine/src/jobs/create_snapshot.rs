//! Take a snapshot of a VPS's root.

use std::sync::Arc;

use insula_types::{OperationRecord, Reason, SnapshotName, VpsId};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{Admission, Context, JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::policy::Request;
use crate::model::step::Step;
use crate::{Engine, EngineError, Power, VpsHandle, now_ms};

/// Take a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CreateSnapshotJob {
    pub vps: VpsId,
    pub snapshot: SnapshotName,
}

impl Engine {
    /// Takes a snapshot; without a name, one named after the time.
    pub async fn create_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: Option<SnapshotName>,
    ) -> Result<OperationRecord, EngineError> {
        let snapshot = name.unwrap_or_else(|| time_name("", now_ms() / 1000));
        self.request(asked, handle, CreateSnapshotJob { vps: handle.id, snapshot }).await
    }

    /// A pool without snapshots copies file by file: what runs meanwhile would change what is copied.
    pub(crate) fn check_copyable(&self, handle: &VpsHandle) -> Result<(), EngineError> {
        if self.pool.abilities().snapshots || handle.observed.borrow().power == Power::Off {
            return Ok(());
        }
        let name = handle.name();
        let message = format!("VPS {:?} is running, and its pool copies file by file", name.as_str());
        Err(EngineError::new(Reason::VpsRunning, message).hint(format!("stop it first: insula stop {name}")))
    }
}

impl JobSpec for CreateSnapshotJob {
    fn target(&self) -> Target {
        Target::Vps(self.vps)
    }

    fn request(&self) -> Option<Request> {
        Some(Request::Snapshot)
    }

    fn check(&mut self, context: &Context<'_>) -> Result<Admission, EngineError> {
        context.check_snapshot_free(&self.snapshot)?;
        let admission = context.admit(self.request())?;
        context.engine.check_copyable(context.vps)?;
        Ok(admission)
    }

    fn snapshot(&self) -> Option<&SnapshotName> {
        Some(&self.snapshot)
    }

    fn plan(&self) -> Plan {
        Plan::undoable([Step::TakeSnapshot(self.snapshot.clone())])
    }
}

/// `20261123-101500`: the time in UTC as a snapshot's name, behind a prefix.
pub(crate) fn time_name(prefix: &str, seconds: i64) -> SnapshotName {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{prefix}{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
        .parse()
        .expect("letters, digits and hyphens")
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil_date(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, so that the day that leap years add is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_without_a_name_is_named_after_the_time() {
        for (seconds, name) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_795_428_900, "20261123-101500"),
        ] {
            assert_eq!(time_name("", seconds).as_str(), name);
        }
    }
}
