//! Field masks (AIP-134): which fields of a request shall be changed.

use std::collections::BTreeSet;

use insula_api::convert::amount;
use insula_api::{ApiError, v1};
use insula_engine::{LimitChange, SupervisionChange};
use insula_types::Limit;
use prost_types::FieldMask;

/// The paths of all limits.
pub fn limit_paths() -> impl Iterator<Item = &'static str> {
    Limit::ALL.iter().map(|limit| limit.row().path)
}

/// The paths that a mask names. Without a mask, the paths of all fields that have a value.
pub fn paths(
    mask: Option<FieldMask>,
    known: &[&'static str],
    with_values: impl IntoIterator<Item = &'static str>,
) -> Result<BTreeSet<&'static str>, ApiError> {
    let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
        return Ok(with_values.into_iter().collect());
    };
    let find = |path: &String| {
        known.iter().copied().find(|known| known == path).ok_or_else(|| {
            let shown: String = path.chars().take(80).collect();
            ApiError::invalid_field("update_mask", format!("there is no field {shown:?} to change"))
                .with_hint(format!("there are {}", known.join(", ")))
        })
    };
    mask.paths.iter().map(find).collect()
}

/// The changes of limits, for the limits that the paths name.
pub fn limit_changes(
    field: &str,
    paths: &BTreeSet<&str>,
    limits: Option<v1::Limits>,
) -> Result<Vec<LimitChange>, ApiError> {
    let limits = insula_api::convert::limits(field, limits.unwrap_or_default())?;
    if paths.contains("limits") {
        return Ok(vec![LimitChange::All(Box::new(limits))]);
    }
    let named = Limit::ALL.iter().filter(|limit| paths.contains(limit.row().path));
    Ok(named.map(|limit| LimitChange::One(*limit, limits.get(*limit))).collect())
}

/// The paths of the limits that have a value.
pub fn limits_with_values(limits: Option<&v1::Limits>) -> impl Iterator<Item = &'static str> {
    let limits = limits.copied().unwrap_or_default();
    let has_value = move |limit: &&Limit| amount(&limits, **limit).is_some();
    Limit::ALL.iter().filter(has_value).map(|limit| limit.row().path)
}

/// The paths of all fields of supervision.
pub const SUPERVISION_PATHS: [&str; 4] = [
    "supervision.on_crash",
    "supervision.autostart",
    "supervision.autostart_priority",
    "supervision.autostart_delay",
];

/// The changes of supervision, for the fields that the paths name.
pub fn supervision_changes(
    field: &str,
    paths: &BTreeSet<&str>,
    supervision: Option<v1::Supervision>,
) -> Result<Vec<SupervisionChange>, ApiError> {
    let new = insula_api::convert::supervision(field, supervision.unwrap_or_default())?;
    if paths.contains("supervision") {
        return Ok(vec![SupervisionChange::All(new)]);
    }
    let changes = [
        SupervisionChange::OnCrash(new.on_crash),
        SupervisionChange::Autostart(new.autostart),
        SupervisionChange::AutostartPriority(new.autostart_priority),
        SupervisionChange::AutostartDelay(new.autostart_delay_s),
    ];
    let named = SUPERVISION_PATHS.iter().zip(changes).filter(|(path, _)| paths.contains(*path));
    Ok(named.map(|(_, change)| change).collect())
}

/// The paths of the fields of supervision that have a value.
pub fn supervision_with_values(supervision: Option<&v1::Supervision>) -> impl Iterator<Item = &'static str> {
    let supervision = supervision.copied().unwrap_or_default();
    let has = [
        supervision.on_crash != 0,
        supervision.autostart != 0,
        supervision.autostart_priority.is_some(),
        supervision.autostart_delay.is_some(),
    ];
    SUPERVISION_PATHS.into_iter().zip(has).filter(|(_, has)| *has).map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["limits", "limits.memory_bytes", "profile"];

    fn mask(paths: &[&str]) -> Option<FieldMask> {
        Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() })
    }

    #[test]
    fn a_mask_names_fields_that_are_there() {
        assert_eq!(paths(mask(&["profile"]), &KNOWN, []).unwrap(), ["profile"].into());
        assert_eq!(paths(None, &KNOWN, ["profile"]).unwrap(), ["profile"].into());
        assert_eq!(paths(mask(&[]), &KNOWN, ["limits"]).unwrap(), ["limits"].into());
        assert!(paths(mask(&["id"]), &KNOWN, []).is_err());
        assert!(paths(mask(&["*"]), &KNOWN, []).is_err());
    }

    #[test]
    fn what_follows_is_named_one_by_one() {
        let message = v1::Supervision { autostart_priority: Some(3), ..Default::default() };
        let both = ["supervision.on_crash", "supervision.autostart_priority"].into();
        assert_eq!(
            supervision_changes("supervision", &both, Some(message)).unwrap(),
            [SupervisionChange::OnCrash(None), SupervisionChange::AutostartPriority(Some(3))]
        );
        let with_values = supervision_with_values(Some(&message)).collect::<Vec<_>>();
        assert_eq!(with_values, ["supervision.autostart_priority"]);
        let all = supervision_changes("supervision", &["supervision"].into(), None).unwrap();
        assert_eq!(all, [SupervisionChange::All(Default::default())]);
    }

    #[test]
    fn a_limit_that_is_named_and_has_no_value_is_taken_away() {
        let limits = Some(v1::Limits { memory_bytes: Some(1 << 30), ..Default::default() });
        let both = ["limits.memory_bytes", "limits.cpu_milli"].into();
        assert_eq!(
            limit_changes("limits", &both, limits).unwrap(),
            [LimitChange::One(Limit::Cpus, None), LimitChange::One(Limit::Memory, Some(1 << 30))]
        );
        assert_eq!(limits_with_values(limits.as_ref()).collect::<Vec<_>>(), ["limits.memory_bytes"]);
        let absurd = Some(v1::Limits { cpu_milli: Some(1), ..Default::default() });
        assert!(limit_changes("limits", &["limits"].into(), absurd).is_err());
    }
}
