//! Who may open something to a VPS: features make walls lower, and devices are the host's.

use insula_api::{ApiError, Reason};
use insula_types::{Features, Requester, Role};

/// Refuses features that are not there already to who may not decide over them. A profile that has them may be given by
/// everybody who may give profiles.
pub fn check_may_open(requester: &Requester, before: &Features, after: &Features) -> Result<(), ApiError> {
    let opens = after.iter().any(|feature| !before.has(feature));
    let opens_device = after.devices().any(|device| before.devices().all(|there| there != device));
    let (may_not, who_may) = match requester.role {
        Role::SuperAdmin => return Ok(()),
        Role::Operator if opens_device => ("give devices of the host to a VPS", "super-admin"),
        Role::Operator => return Ok(()),
        Role::Billing | Role::Tenant | Role::Viewer if opens => ("open features", "operator or super-admin"),
        Role::Billing | Role::Tenant | Role::Viewer => return Ok(()),
    };
    let message = format!("the role {} may not {may_not}", requester.role);
    Err(ApiError::new(Reason::PermissionDenied, message)
        .with_hint(format!("choose a profile that has them, or ask who has the role {who_may}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_open_what() {
        let features = |words: &[&str]| {
            Features::try_from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let (none, fuse, kvm) = (features(&[]), features(&["fuse"]), features(&["fuse", "device:kvm"]));
        // role, to open a feature, to open a device, to close, to leave as it is
        for (role, feature, device) in [
            (Role::SuperAdmin, true, true),
            (Role::Operator, true, false),
            (Role::Billing, false, false),
            (Role::Tenant, false, false),
            (Role::Viewer, false, false),
        ] {
            let requester = Requester { role, ..Requester::root() };
            let may = |before, after| check_may_open(&requester, before, after).is_ok();
            assert_eq!(may(&none, &fuse), feature, "{role}");
            assert_eq!((may(&none, &kvm), may(&fuse, &kvm)), (device, device), "{role}");
            assert!(may(&kvm, &none) && may(&kvm, &fuse) && may(&kvm, &kvm), "{role}: to close");
        }
        let billing = Requester { role: Role::Billing, ..Requester::root() };
        let refused = check_may_open(&billing, &none, &fuse).unwrap_err();
        assert_eq!(refused.reason(), Some(Reason::PermissionDenied));
    }
}
