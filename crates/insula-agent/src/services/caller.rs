//! A call that was admitted. This file carries out the answers of [`authorize`], as an error, as an
//! object that seems not to exist, or as a filter. It decides nothing.

use std::sync::Arc;

use insula_api::access::{Action, Decision, Extra, Method, Object, Refusal, authorize};
use insula_api::{ApiError, Reason};
use insula_engine::{EngineError, VpsHandle};
use insula_types::{Features, OperationId, OperationRecord, Requester, TenantName, VpsSpec};
use tonic::{Request, Status};

use crate::status::status;

/// The caller of a method.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The client that calls.
    pub requester: Requester,
    /// The method that is called.
    pub method: &'static Method,
}

impl Caller {
    /// The caller of a request. The guard in front of all services has put it there.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let unknown = || ApiError::new(Reason::Unauthenticated, "the caller has not authenticated").into();
        request.extensions().get::<Self>().cloned().ok_or_else(unknown)
    }

    fn decide(&self, object: Object<'_>) -> Decision<'_> {
        authorize(Some(&self.requester), Action::Call(self.method), object)
    }

    /// Checks that the caller may apply the call to this object. If the object is hidden from it,
    /// the error is `missing`.
    pub fn reach(&self, object: Object<'_>, missing: impl FnOnce() -> Status) -> Result<(), Status> {
        match self.decide(object) {
            Decision::Allowed { .. } => Ok(()),
            Decision::Forbidden(refusal) => Err(ApiError::from(refusal).into()),
            Decision::Hidden => Err(missing()),
        }
    }

    /// Finds the VPS that a client means. A VPS of another tenant is not found.
    pub fn find(
        &self,
        found: Result<Arc<VpsHandle>, EngineError>,
        text: &str,
    ) -> Result<Arc<VpsHandle>, Status> {
        let handle = found.map_err(status)?;
        self.reach(object(&handle.spec()), || status(insula_engine::no_such_vps(text)))?;
        Ok(handle)
    }

    /// Finds the operation that a client means.
    pub fn find_operation(
        &self,
        id: OperationId,
        record: OperationRecord,
    ) -> Result<OperationRecord, Status> {
        let missing =
            || ApiError::new(Reason::OperationNotFound, format!("there is no operation {id}")).into();
        self.reach(Object::Operation { tenant: record.tenant.as_ref() }, missing)?;
        Ok(record)
    }

    /// Whether lists show the VPS to this caller.
    pub fn sees(&self, spec: &VpsSpec) -> bool {
        matches!(self.decide(object(spec)), Decision::Allowed { .. })
    }

    /// The tenant to which lists are restricted, if they are.
    pub fn within(&self) -> Option<&TenantName> {
        match self.decide(Object::Host) {
            Decision::Allowed { within } => within,
            Decision::Forbidden(_) | Decision::Hidden => self.requester.tenant.as_ref(),
        }
    }

    /// The tenant to which lists are restricted, or else the one that was asked for.
    pub fn within_or(&self, asked: &str) -> Result<Option<TenantName>, Status> {
        let asked: Option<TenantName> = insula_api::convert::parse_optional("tenant", asked)?;
        Ok(self.within().cloned().or(asked))
    }

    /// Checks that the caller may have something that the call asks for in addition.
    pub fn may_also(&self, extra: Extra, object: Object<'_>) -> Result<(), Refusal> {
        match authorize(Some(&self.requester), Action::Extra(extra), object) {
            Decision::Allowed { .. } | Decision::Hidden => Ok(()), // what is hidden was not found before
            Decision::Forbidden(refusal) => Err(refusal),
        }
    }

    /// Checks that the caller may open the features that are in `after` and not in `before`. For
    /// the features of a profile this is not needed: any caller that may assign profiles may assign
    /// them.
    pub fn may_open(&self, before: &Features, after: &Features) -> Result<(), ApiError> {
        if after.iter().any(|feature| !before.has(feature)) {
            self.may_also(Extra::OpenFeature, Object::Host)?;
        }
        if after.devices().any(|device| before.devices().all(|there| there != device)) {
            self.may_also(Extra::GiveDevice, Object::Host)?;
        }
        Ok(())
    }
}

/// A VPS as an object for [`authorize`].
pub fn object(spec: &VpsSpec) -> Object<'_> {
    Object::Vps { name: &spec.name, tenant: spec.tenant.as_ref() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use insula_types::Role;

    #[test]
    fn who_may_open_what() {
        let features = |words: &[&str]| {
            Features::try_from(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let (none, fuse, kvm) = (features(&[]), features(&["fuse"]), features(&["fuse", "device:kvm"]));
        let method = Method::of("/insula.v1.VpsService/UpdateVps").unwrap();
        // role, may open a feature, may open a device
        for (role, feature, device) in [
            (Role::SuperAdmin, true, true),
            (Role::Operator, true, false),
            (Role::Billing, false, false),
            (Role::Tenant, false, false),
            (Role::Viewer, false, false),
        ] {
            let caller = Caller { requester: Requester { role, ..Requester::root() }, method };
            let may = |before, after| caller.may_open(before, after).is_ok();
            assert_eq!(may(&none, &fuse), feature, "{role}");
            assert_eq!((may(&none, &kvm), may(&fuse, &kvm)), (device, device), "{role}");
            assert!(may(&kvm, &none) && may(&kvm, &fuse) && may(&kvm, &kvm), "{role}: to close");
        }
    }
}
