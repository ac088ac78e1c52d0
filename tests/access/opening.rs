//! Features can be opened by roles that decide over the host, and by no others.

use insula_api::{Reason, v1};
use insula_testkit::Image;
use tonic::Status;
use v1::Role;

use super::client::{enroll, host, reason};

fn list(features: &[&str]) -> Option<v1::FeatureList> {
    Some(v1::FeatureList { features: features.iter().map(|word| (*word).to_owned()).collect() })
}

#[test]
fn a_feature_is_opened_by_who_decides_over_the_host() {
    let host = host().image(Image::Debian12).start();
    host.insula_ok(&["create", "web1", "--image", "debian-12", "--tenant", "acme"]);
    let create = |features: Option<v1::FeatureList>| v1::CreateVpsRequest {
        name: "new1".into(),
        image: "debian-12".into(),
        features,
        validate_only: true,
        ..Default::default()
    };
    let update = |features: Option<v1::FeatureList>| v1::UpdateVpsRequest {
        vps: "web1".into(),
        changes: Some(v1::VpsChanges { features, ..Default::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["features".into()] }),
        validate_only: true,
        ..Default::default()
    };
    let profile = |features: &[&str]| v1::CreateProfileRequest {
        profile: Some(v1::Profile {
            name: "new1".into(),
            networks: vec!["default".into()],
            features: list(features).unwrap().features,
            ..Default::default()
        }),
        validate_only: true,
        ..Default::default()
    };
    let outcome = |result: Result<(), Status>| result.map_err(|status| reason(&status));
    const DENIED: Result<(), Option<Reason>> = Err(Some(Reason::PermissionDenied));
    for (role, tenant, opens, gives_devices) in [
        (Role::SuperAdmin, "", Ok(()), Ok(())),
        (Role::Operator, "", Ok(()), DENIED),
        (Role::Billing, "", DENIED, DENIED),
        (Role::Tenant, "acme", DENIED, DENIED),
        (Role::Viewer, "", DENIED, DENIED),
    ] {
        let remote = enroll(&host, &format!("{role:?}").to_lowercase(), role, tenant);
        let client = remote.client();
        for (features, expected) in [(&["fuse"], opens), (&["device:loop-control"], gives_devices)] {
            host.block_on(async {
                let created = client.vps().create_vps(create(list(features))).await.map(drop);
                assert_eq!(outcome(created), expected, "{role:?} creates with {features:?}");
                let updated = client.vps().update_vps(update(list(features))).await.map(drop);
                assert_eq!(outcome(updated), expected, "{role:?} changes to {features:?}");
                let made = client.profiles().create_profile(profile(features)).await.map(drop);
                assert_eq!(outcome(made), expected, "{role:?} makes a profile with {features:?}");
            });
        }
        if role == Role::Billing {
            let closed = host.block_on(client.vps().update_vps(update(list(&[])))).map(drop);
            assert_eq!(outcome(closed), Ok(()), "to close is no harm");
            let usual = host.block_on(client.vps().create_vps(create(None))).map(drop);
            assert_eq!(outcome(usual), Ok(()));
        }
    }
    assert_eq!(host.vpses().len(), 1, "only looked at");
}
