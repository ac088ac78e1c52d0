//! Decides whether a requester may do something. Pure: table and facts in, decision out.

use insula_types::{Reason, Requester, TenantName, VpsName};

use super::table::{Extra, Method, OPEN_METHOD, Scope};
use crate::ApiError;

/// What the requester wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Call a method.
    Call(&'static Method),
    /// Get something that a call asks for in addition.
    Extra(Extra),
}

/// The object of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// Something that belongs to the host. Also used while the message has not been read yet.
    Host,
    /// A VPS, or something that belongs to one, such as a snapshot.
    Vps {
        /// The name of the VPS.
        name: &'a VpsName,
        /// The tenant that owns the VPS.
        tenant: Option<&'a TenantName>,
    },
    /// An operation, about a VPS of this tenant or about none.
    Operation {
        /// The tenant that owns the VPS that the operation is about.
        tenant: Option<&'a TenantName>,
    },
    /// An exec, console or push session.
    Session {
        /// The client that opened it.
        opened_by: &'a Requester,
    },
}

/// The answer of [`authorize`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The requester may do it.
    Allowed {
        /// If set, lists must show only what belongs to this tenant.
        within: Option<&'a TenantName>,
    },
    /// The requester may not do it, and may know why.
    Forbidden(Refusal),
    /// The requester must not learn that the object exists: the answer is the same as for an
    /// unknown name.
    Hidden,
}

/// Why a requester may not do something, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, as in the table of errors.
    pub reason: Reason,
    /// What the requester may not do.
    pub message: String,
    /// What a person could do about it.
    pub hint: Option<String>,
}

/// Decides whether the requester may apply this action to this object. `None` stands for a
/// stranger: a caller that has proven no identity.
pub fn authorize<'a>(requester: Option<&'a Requester>, action: Action, object: Object<'_>) -> Decision<'a> {
    let Some(requester) = requester else { return authorize_stranger(action) };
    let right = match action {
        Action::Call(method) => method.right(requester.role),
        Action::Extra(extra) => extra.right(requester.role),
    };
    let within = match (right, requester.tenant.as_ref()) {
        (None, _) | (Some(Scope::Own), None) => {
            return Decision::Forbidden(refusal(requester, action, object));
        }
        (Some(Scope::Own | Scope::Host), tenant) => tenant,
    };
    match object.is_visible(requester) {
        true => Decision::Allowed { within },
        false => Decision::Hidden,
    }
}

fn authorize_stranger(action: Action) -> Decision<'static> {
    match action {
        Action::Call(method) if method.path == OPEN_METHOD => Decision::Allowed { within: None },
        Action::Call(_) | Action::Extra(_) => Decision::Forbidden(Refusal::of_stranger()),
    }
}

impl Refusal {
    /// The answer to a caller that has proven no identity. It is the same for objects that do not
    /// exist.
    pub fn of_stranger() -> Self {
        Self {
            reason: Reason::Unauthenticated,
            message: "only clients with a certificate are served here".to_owned(),
            hint: Some("ask for a token, and enroll with `insula remote add`".to_owned()),
        }
    }
}

impl Object<'_> {
    /// Whether the requester may know of the object. A requester without a tenant sees everything
    /// but the sessions of other clients.
    fn is_visible(self, requester: &Requester) -> bool {
        match self {
            Self::Host => true,
            Self::Vps { tenant, .. } | Self::Operation { tenant } => {
                requester.tenant.is_none() || requester.tenant.as_ref() == tenant
            }
            Self::Session { opened_by } => requester.is_same_client(opened_by),
        }
    }
}

fn refusal(requester: &Requester, action: Action, object: Object<'_>) -> Refusal {
    let role = requester.role;
    let denied = |may_not: &str, hint: Option<&str>| Refusal {
        reason: Reason::PermissionDenied,
        message: format!("the role {role} may not {may_not}"),
        hint: hint.map(str::to_owned),
    };
    match action {
        Action::Call(method) => {
            denied(&format!("call {}", method.name()), Some("docs/access.md says what each role may do"))
        }
        Action::Extra(Extra::OverrideSuspension) => denied("start a suspended VPS", None),
        Action::Extra(Extra::OpenFeature) => denied(
            "open features",
            Some("choose a profile that has them, or ask a client with the role operator or super-admin"),
        ),
        Action::Extra(Extra::GiveDevice) => denied(
            "give devices of the host to a VPS",
            Some("choose a profile that has them, or ask a client with the role super-admin"),
        ),
        Action::Extra(Extra::ReachSuspendedFiles) => Refusal {
            reason: Reason::VpsSuspended,
            message: match object {
                Object::Vps { name, .. } => format!("VPS {:?} is suspended", name.as_str()),
                Object::Host | Object::Operation { .. } | Object::Session { .. } => {
                    "the VPS is suspended".to_owned()
                }
            },
            hint: Some("its files are kept; ask the provider to unsuspend it".to_owned()),
        },
    }
}

impl From<Refusal> for ApiError {
    fn from(Refusal { reason, message, hint }: Refusal) -> Self {
        let error = Self::new(reason, message);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::table::{EXTRAS, METHODS};
    use insula_types::Role;

    fn requester(role: Role, tenant: Option<&str>) -> Requester {
        let tenant = tenant.map(|name| name.parse().unwrap());
        Requester { name: role.to_string(), role, tenant, peer: "192.0.2.1:1".to_owned() }
    }

    /// Only the table and the owner of the object count: tries every role with every action, on
    /// objects of the requester's tenant, of another tenant and of none.
    #[test]
    fn every_role_on_every_object() {
        let (acme, other, web1): (TenantName, TenantName, VpsName) =
            ("acme".parse().unwrap(), "other".parse().unwrap(), "web1".parse().unwrap());
        let actions =
            METHODS.iter().map(|method| (Action::Call(method), Role::ALL.map(|role| method.right(role))));
        let extras = EXTRAS.iter().map(|(extra, rights)| (Action::Extra(*extra), *rights));
        for (action, rights) in actions.chain(extras) {
            for (role, right) in Role::ALL.into_iter().zip(rights) {
                let is_tenant = role == Role::Tenant;
                let requester = requester(role, is_tenant.then_some("acme"));
                let decide = |object| match authorize(Some(&requester), action, object) {
                    Decision::Allowed { within } => {
                        assert_eq!(within, requester.tenant.as_ref(), "{role} {action:?} {object:?}");
                        "allowed"
                    }
                    Decision::Forbidden(_) => "forbidden",
                    Decision::Hidden => "hidden",
                };
                for tenant in [Some(&acme), Some(&other), None] {
                    let expected = match (right, is_tenant, tenant == Some(&acme)) {
                        (None, _, _) => "forbidden",
                        (Some(_), true, false) => "hidden",
                        (Some(_), true, true) | (Some(_), false, _) => "allowed",
                    };
                    for object in [Object::Vps { name: &web1, tenant }, Object::Operation { tenant }] {
                        assert_eq!(decide(object), expected, "{role} {action:?} {object:?}");
                    }
                }
                let expected = if right.is_some() { "allowed" } else { "forbidden" };
                assert_eq!(decide(Object::Host), expected, "{role} {action:?}");
            }
        }
    }

    #[test]
    fn strangers_may_enroll_and_nothing_else() {
        for method in METHODS {
            let decision = authorize(None, Action::Call(method), Object::Host);
            match method.path == OPEN_METHOD {
                true => assert_eq!(decision, Decision::Allowed { within: None }),
                false => assert!(
                    matches!(&decision, Decision::Forbidden(why) if why.reason == Reason::Unauthenticated),
                    "{method:?}: {decision:?}"
                ),
            }
        }
    }

    #[test]
    fn a_tenants_client_without_a_tenant_has_nothing_of_its_own() {
        let nobody = requester(Role::Tenant, None);
        let get = Action::Call(Method::of("/insula.v1.VpsService/GetVps").unwrap());
        assert!(matches!(authorize(Some(&nobody), get, Object::Host), Decision::Forbidden(_)));
    }

    #[test]
    fn sessions_are_of_the_client_that_opened_them() {
        let exec = Action::Call(Method::of("/insula.v1.VpsService/ExecVps").unwrap());
        let opened_by = &requester(Role::SuperAdmin, None);
        let moved = Requester { peer: "192.0.2.1:2".to_owned(), ..opened_by.clone() };
        let other = Requester { name: "other".to_owned(), ..opened_by.clone() };
        for (requester, expected) in [
            (opened_by, Decision::Allowed { within: None }),
            (&moved, Decision::Allowed { within: None }),
            (&other, Decision::Hidden),
        ] {
            assert_eq!(authorize(Some(requester), exec, Object::Session { opened_by }), expected);
        }
    }

    /// Compares the reasons that a client branches on, and the messages that a person reads.
    #[test]
    fn refusals_say_why() {
        let web1: VpsName = "web1".parse().unwrap();
        let vps = Object::Vps { name: &web1, tenant: None };
        for (role, extra, reason, message) in [
            (
                Role::Viewer,
                Extra::OverrideSuspension,
                Reason::PermissionDenied,
                "the role viewer may not start a suspended VPS",
            ),
            (
                Role::Billing,
                Extra::OpenFeature,
                Reason::PermissionDenied,
                "the role billing may not open features",
            ),
            (
                Role::Operator,
                Extra::GiveDevice,
                Reason::PermissionDenied,
                "the role operator may not give devices of the host to a VPS",
            ),
            (Role::Tenant, Extra::ReachSuspendedFiles, Reason::VpsSuspended, "VPS \"web1\" is suspended"),
        ] {
            let Decision::Forbidden(refusal) =
                authorize(Some(&requester(role, None)), Action::Extra(extra), vps)
            else {
                panic!("{role} {extra:?} is allowed");
            };
            assert_eq!((refusal.reason, &*refusal.message), (reason, message));
        }
    }
}
