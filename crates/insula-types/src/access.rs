//! Who may do what: roles, clients, and what is noted of requests.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::{ClientId, ClientName, NameError, OperationId, TenantName};

/// The role of a client, which decides what the client may do. The table of methods and roles is in `insula-api`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything.
    SuperAdmin,
    /// May do everything but manage access.
    Operator,
    /// Creates, suspends and meters VPSes, but can't look inside.
    Billing,
    /// Runs its own VPSes: power, console, programs, snapshots, rebuild, usage; but can't change limits.
    Tenant,
    /// Sees everything but what is inside VPSes, and changes nothing.
    Viewer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::SuperAdmin, Self::Operator, Self::Billing, Self::Tenant, Self::Viewer];

    /// The word for people and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SuperAdmin => "super-admin",
            Self::Operator => "operator",
            Self::Billing => "billing",
            Self::Tenant => "tenant",
            Self::Viewer => "viewer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: expected super-admin, operator, billing, tenant or viewer")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| UnknownRole(text.chars().take(80).collect()))
    }
}

/// The sender of a request: a client, root of the host, or the agent itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// `root` on the unix socket, `insulad` for what the agent does by itself, else the name of a client.
    pub name: String,
    /// The requester's role.
    pub role: Role,
    /// The tenant whose VPSes alone the requester sees; set for the role tenant, and only for it.
    pub tenant: Option<TenantName>,
    /// `unix`, or an IP address with a port; empty for the agent itself.
    pub peer: String,
}

impl Requester {
    /// Root of the host, over the unix socket.
    pub fn root() -> Self {
        Self { name: "root".into(), role: Role::SuperAdmin, tenant: None, peer: "unix".into() }
    }

    /// The agent itself, such as when it starts what should run.
    pub fn agent() -> Self {
        Self { name: "insulad".into(), role: Role::SuperAdmin, tenant: None, peer: String::new() }
    }

    /// Whether both are one client, from wherever it calls.
    pub fn is_same_client(&self, other: &Self) -> bool {
        (&self.name, self.role, &self.tenant) == (&other.name, other.role, &other.tenant)
    }
}

/// A client's own id for a request, which makes a retry safe (AIP-155). A UUID is usual; 1 to 128 of letters,
/// digits, `-`, `_`, `.` and `:` are taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
        let rule = match text.len() {
            0 => "it is empty",
            129.. => "it is longer than 128 characters",
            _ if !text.bytes().all(is_allowed) => {
                "only letters, digits, hyphens, underscores, dots and colons are allowed"
            }
            _ => return Ok(Self(text.to_owned())),
        };
        Err(NameError { kind: "request id", text: text.chars().take(80).collect(), rule })
    }
}

impl TryFrom<String> for RequestId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> String {
        id.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A client of the API over the network, or a token that waits for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// The client's id, which never changes.
    pub id: ClientId,
    /// Its name, unique among clients that are not revoked.
    pub name: ClientName,
    /// The client's role.
    pub role: Role,
    /// The tenant whose VPSes alone the client sees; set for the role tenant, and only for it.
    pub tenant: Option<TenantName>,
    /// When its token was made: milliseconds since 1970, UTC.
    pub created_at_ms: i64,
    /// When its token expires: milliseconds since 1970, UTC.
    pub token_expires_at_ms: i64,
    /// When it enrolled, in milliseconds since 1970, UTC; `None` while its token is unused.
    pub enrolled_at_ms: Option<i64>,
    /// When its access, or its token, was revoked: milliseconds since 1970, UTC.
    pub revoked_at_ms: Option<i64>,
    /// Its certificates that have not expired, oldest first.
    pub certificates: Vec<ClientCertificate>,
}

/// A certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// SHA-256 of its DER form, in hexadecimal digits: by which a connection is recognised.
    pub fingerprint: String,
    /// SHA-256 of the public key it was made for (SubjectPublicKeyInfo), in hexadecimal digits.
    pub key: String,
    /// The certificate in PEM: public.
    pub pem: String,
    /// When it expires: milliseconds since 1970, UTC.
    pub expires_at_ms: i64,
}

/// A line of the audit log before it is in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it happened: milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// The requester, and where the request came from.
    pub requester: Requester,
    /// The kind of an operation, or the name of a method.
    pub action: String,
    /// The id of the object, such as a VPS; empty where there is none.
    pub object: String,
    /// The name that the object had.
    pub object_name: String,
    /// `ACCEPTED`, `SUCCEEDED`, or the reason of the refusal or failure.
    pub result: String,
    /// The id of the request, if it had one.
    pub request_id: Option<RequestId>,
    /// The operation that was accepted, or that ended.
    pub operation: Option<OperationId>,
}

/// A line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number in the log, counted from 1.
    pub sequence: u64,
    /// The line's content.
    pub entry: AuditEntry,
    /// SHA-256 of the entry and of the hash before, in hexadecimal digits.
    pub hash: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_what_they_write() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
        assert!("root".parse::<Role>().is_err());
    }

    #[test]
    fn request_ids_are_short_and_plain() {
        for good in ["1", "0193a1b2-c3d4-7e5f-8a9b-0123456789ab", "whmcs:4711.suspend_1"] {
            assert!(good.parse::<RequestId>().is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "a\0", "é", &"a".repeat(129)] {
            assert!(bad.parse::<RequestId>().is_err(), "{bad:?}");
        }
    }
}
