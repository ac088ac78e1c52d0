//! Points in time of a VPS's root: taken, gone back to, removed; and what is made of a root: clones and new roots.

use std::sync::Arc;

use insula_store::{Store, StoreError};
use insula_types::{ImageRef, OperationRecord, Reason, SnapshotInfo, SnapshotName};

use crate::journal::retries::Asked;
use crate::model::job::{Boot, Job};
use crate::model::step::Swap;
use crate::{Engine, EngineError, Power, VpsHandle, now_ms};

impl Engine {
    /// Takes a snapshot; without a name, one named after the time.
    pub async fn create_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: Option<SnapshotName>,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let snapshot = name.unwrap_or_else(|| time_name("", now_ms() / 1000));
            let job = Job::CreateSnapshot { vps: handle.id, snapshot: snapshot.clone() };
            self.request_with_snapshot(asked, handle, job, snapshot).await
        })
        .await
    }

    /// Gives a stopped VPS a new root from an image; by force also one that runs. The old root becomes a snapshot.
    pub async fn rebuild_vps(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        image: ImageRef,
        force: bool,
        boot: Option<Boot>,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let (image, spec) = (self.image(&image)?, handle.spec());
            let snapshot = time_name("before-rebuild-", now_ms() / 1000);
            let image = Swap { from: (spec.image, spec.init), to: (image.fingerprint, image.init) };
            let job = Job::RebuildVps { vps: handle.id, image, snapshot: snapshot.clone(), force, boot };
            self.request_with_snapshot(asked, handle, job, snapshot).await
        })
        .await
    }

    /// Begins a job that takes a snapshot: its row is written together with the operation.
    async fn request_with_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        job: Job,
        name: SnapshotName,
    ) -> Result<OperationRecord, EngineError> {
        if handle.snapshots().iter().any(|other| other.name == name) {
            return Err(snapshot_taken(&name));
        }
        let info = SnapshotInfo { vps: handle.id, name, created_at: now_ms() / 1000, size: None };
        let kept_in = handle.clone();
        let write = move |store: &Store, record: &OperationRecord| {
            store.insert_snapshot(&info, record).map_err(|error| match error {
                StoreError::Taken { what, .. } if what.contains("snapshot") => snapshot_taken(&info.name),
                other => EngineError::from(other),
            })?;
            kept_in.snapshots().push(info);
            Ok(())
        };
        self.request_now(asked, handle, job, write).await
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

    /// Takes the root of a stopped VPS back to a snapshot.
    pub async fn restore_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: SnapshotName,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            check_snapshot(handle, &name)?;
            let job = Job::RestoreSnapshot { vps: handle.id, snapshot: name };
            self.request_now(asked, handle, job, crate::requests::vps::journal).await
        })
        .await
    }

    /// Removes a snapshot.
    pub async fn delete_snapshot(
        &self,
        asked: &Asked,
        handle: &Arc<VpsHandle>,
        name: SnapshotName,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            check_snapshot(handle, &name)?;
            let job = Job::DeleteSnapshot { vps: handle.id, snapshot: name };
            self.request_now(asked, handle, job, crate::requests::vps::journal).await
        })
        .await
    }
}

pub(crate) fn check_snapshot(handle: &VpsHandle, name: &SnapshotName) -> Result<(), EngineError> {
    match handle.snapshots().iter().any(|snapshot| snapshot.name == *name) {
        true => Ok(()),
        false => {
            let vps = handle.name();
            let message = format!("VPS {:?} has no snapshot {:?}", vps.as_str(), name.as_str());
            Err(EngineError::new(Reason::SnapshotNotFound, message)
                .hint(format!("see insula snapshot list {vps}")))
        }
    }
}

fn snapshot_taken(name: &SnapshotName) -> EngineError {
    EngineError::new(Reason::SnapshotExists, format!("there is a snapshot {:?} already", name.as_str()))
        .hint("choose another name, or delete it")
}

/// `20261123-101500`: the time in UTC as a snapshot's name, behind a prefix.
fn time_name(prefix: &str, seconds: i64) -> SnapshotName {
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
