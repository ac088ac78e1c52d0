//! The one place where it is decided whether somebody may do something. Pure: table and facts in, decision out.

use insula_types::{Reason, Requester, TenantName, VpsName};

use crate::ApiError;
use crate::access::{Extra, Method, OPEN_METHOD, Scope};

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// To call a method.
    Call(&'static Method),
    /// To get something that a call asks for beyond itself.
    Extra(Extra),
}

/// What it is to be done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// Something that belongs to the host; or the message has not been read yet.
    Host,
    /// A VPS, or what belongs to it, such as a snapshot.
    Vps {
        /// Its name.
        name: &'a VpsName,
        /// Whose it is.
        tenant: Option<&'a TenantName>,
    },
    /// An operation, about a VPS of this tenant or about none.
    Operation {
        /// Whose VPS it is about.
        tenant: Option<&'a TenantName>,
    },
    /// An exec, console or push session that somebody has opened.
    Session {
        /// The client that opened it.
        opened_by: &'a Requester,
    },
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// It may be done.
    Allowed {
        /// Where there is one, lists show what is this tenant's, and nothing else.
        within: Option<&'a TenantName>,
    },
    /// It may not be done.
    Forbidden(Refusal),
    /// The object is as if it were not there: the answer is the same as for a name that nobody has.
    Hidden,
}

/// Why something may not be done, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The word of the table of errors.
    pub reason: Reason,
    /// What may not be done.
    pub message: String,
    /// What a person could do about it.
    pub hint: Option<String>,
}

/// Whether the requester may do this to that. Without a requester it is a stranger: a caller that has proven nothing.
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
    /// The refusal for a caller that has not proven its identity, even of methods that don't exist.
    pub fn of_stranger() -> Self {
        Self {
            reason: Reason::Unauthenticated,
            message: "only clients with a certificate are served here".to_owned(),
            hint: Some("ask for a token, and enroll with `insula remote add`".to_owned()),
        }
    }
}

impl Object<'_> {
    /// Whether it is there for the requester. A requester without a tenant sees everything but others' sessions.
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
        Action::Extra(Extra::OverrideSuspension) => denied("start what is suspended", None),
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
    use crate::access::{EXTRAS, METHODS};
    use insula_types::Role;

    fn requester(role: Role, tenant: Option<&str>) -> Requester {
        let tenant = tenant.map(|name| name.parse().unwrap());
        Requester { name: role.to_string(), role, tenant, peer: "192.0.2.1:1".to_owned() }
    }

    /// What the table says, and whose the object is, is all that counts: every role, every action, and objects of the
    /// own tenant, of another and of none.
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

    /// The words that a client branches on, and those that a person reads.
    #[test]
    fn refusals_say_why() {
        let web1: VpsName = "web1".parse().unwrap();
        let vps = Object::Vps { name: &web1, tenant: None };
        for (role, extra, reason, message) in [
            (
                Role::Viewer,
                Extra::OverrideSuspension,
                Reason::PermissionDenied,
                "the role viewer may not start what is suspended",
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
