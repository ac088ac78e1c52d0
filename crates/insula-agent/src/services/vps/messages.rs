//! The two largest messages of `VpsService`, as the engine takes them.

use std::collections::{BTreeMap, BTreeSet};

use insula_api::convert::{features, limits, parse, parse_all, parse_optional, supervision};
use insula_api::{ApiError, v1};
use insula_engine::{CreateVps, FeatureChange, UpdateVps};
use insula_types::{Features, LabelError, Labels};

use crate::services::mask::{
    SUPERVISION_PATHS, limit_changes, limit_paths, limits_with_values, paths, supervision_changes,
    supervision_with_values,
};

/// What a request to create a VPS asks for.
pub(super) fn create_request(request: v1::CreateVpsRequest) -> Result<CreateVps, ApiError> {
    Ok(CreateVps {
        name: parse("name", &request.name)?,
        image: parse("image", &request.image)?,
        profile: parse_optional("profile", &request.profile)?,
        limits: limits("limits", request.limits.unwrap_or_default())?,
        features: own_features("features", request.features)?,
        hostname: Some(request.hostname).filter(|name| !name.is_empty()),
        networks: parse_all("networks", &request.networks)?,
        addresses: parse_all("ip_addresses", &request.ip_addresses)?,
        ssh_keys: request.ssh_keys,
        start: request.start,
        wait_ready: request.wait_ready,
        tenant: parse_optional("tenant", &request.tenant)?,
        labels: labels("labels", request.labels)?,
        password: Some(request.password).filter(|password| !password.is_empty()),
        delete_protection: request.delete_protection,
        supervision: supervision("supervision", request.supervision.unwrap_or_default())?,
    })
}

/// The changes that a request names in its mask, or gives values for.
pub(super) fn update_request(request: v1::UpdateVpsRequest) -> Result<UpdateVps, ApiError> {
    let changes = request.changes.unwrap_or_default();
    let fields = [
        ("profile", !changes.profile.is_empty()),
        ("limits", false), // each limit is a field of its own
        ("labels", !changes.labels.is_empty()),
        ("tenant", !changes.tenant.is_empty()),
        ("hostname", !changes.hostname.is_empty()),
        ("delete_protection", changes.delete_protection),
        ("features", changes.features.is_some()),
        ("supervision", false), // so is each part of it
    ];
    let known: Vec<&str> =
        fields.iter().map(|(path, _)| *path).chain(limit_paths()).chain(SUPERVISION_PATHS).collect();
    let with_values = fields.into_iter().filter(|(_, has_value)| *has_value).map(|(path, _)| path);
    let with_values = with_values.chain(limits_with_values(changes.limits.as_ref()));
    let with_values = with_values.chain(supervision_with_values(changes.supervision.as_ref()));
    let paths = paths(request.update_mask, &known, with_values)?;
    if paths.is_empty() {
        return Err(ApiError::invalid_field("update_mask", "the request changes nothing"));
    }
    Ok(UpdateVps {
        limits: limit_changes("changes.limits", &paths, changes.limits)?,
        supervision: supervision_changes("changes.supervision", &paths, changes.supervision)?,
        profile: named(&paths, "profile", || parse("changes.profile", &changes.profile))?,
        features: named(&paths, "features", || {
            let own = own_features("changes.features", changes.features)?;
            Ok(own.map_or(FeatureChange::OfProfile, FeatureChange::Own))
        })?,
        labels: named(&paths, "labels", || labels("changes.labels", changes.labels))?,
        tenant: named(&paths, "tenant", || parse_optional("changes.tenant", &changes.tenant))?,
        hostname: paths.contains("hostname").then_some(changes.hostname),
        delete_protection: paths.contains("delete_protection").then_some(changes.delete_protection),
    })
}

/// Reads a field that may be changed, if the paths name it.
fn named<T>(
    paths: &BTreeSet<&str>,
    path: &str,
    read: impl FnOnce() -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    paths.contains(path).then(read).transpose()
}

/// Parses a VPS's own list of features, if the request has one.
fn own_features(field: &str, list: Option<v1::FeatureList>) -> Result<Option<Features>, ApiError> {
    list.map(|list| features(&format!("{field}.features"), list.features)).transpose()
}

fn labels(field: &str, labels: BTreeMap<String, String>) -> Result<Labels, ApiError> {
    labels.try_into().map_err(|error: LabelError| ApiError::invalid_field(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(mask: &[&str], changes: v1::VpsChanges) -> Result<UpdateVps, ApiError> {
        let paths = mask.iter().map(ToString::to_string).collect();
        update_request(v1::UpdateVpsRequest {
            update_mask: Some(prost_types::FieldMask { paths }),
            changes: Some(changes),
            ..v1::UpdateVpsRequest::default()
        })
    }

    #[test]
    fn a_mask_decides_what_changes_and_without_one_the_values_do() {
        let changes = || v1::VpsChanges {
            profile: "small".to_owned(),
            hostname: "web".to_owned(),
            ..v1::VpsChanges::default()
        };
        let profile = Some("small".parse().unwrap());
        let hostname = Some("web".to_owned());
        assert_eq!(
            update(&["profile"], changes()).unwrap(),
            UpdateVps { profile: profile.clone(), ..UpdateVps::default() }
        );
        assert_eq!(update(&[], changes()).unwrap(), UpdateVps { profile, hostname, ..UpdateVps::default() });
    }

    #[test]
    fn a_field_that_is_named_and_has_no_value_is_reset() {
        let named = ["tenant", "features", "labels", "delete_protection"];
        assert_eq!(
            update(&named, v1::VpsChanges::default()).unwrap(),
            UpdateVps {
                tenant: Some(None),
                features: Some(FeatureChange::OfProfile),
                labels: Some(Labels::default()),
                delete_protection: Some(false),
                ..UpdateVps::default()
            }
        );
    }

    #[test]
    fn a_wrong_update_names_its_field() {
        let wrong = v1::VpsChanges { profile: "No such".to_owned(), ..v1::VpsChanges::default() };
        for (mask, changes, field) in [
            (vec![], v1::VpsChanges::default(), "update_mask"),
            (vec!["id"], v1::VpsChanges::default(), "update_mask"),
            (vec!["profile"], wrong, "changes.profile"),
        ] {
            assert_eq!(update(&mask, changes).unwrap_err().fields[0].field, field);
        }
    }
}
