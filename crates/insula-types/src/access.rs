//! Access to the API: roles, clients and their certificates, and entries of the audit log.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::{ClientId, ClientName, NameError, OperationId, TenantName};

/// What a client may do. One table, next to the API, says which methods each role may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// May do everything.
    SuperAdmin,
    /// May do everything but manage access.
    Operator,
    /// May provision, suspend and meter VPSes, but not look inside them.
    Billing,
    /// May work with its own tenant's VPSes (power, console, programs, snapshots, rebuild, usage),
    /// but not change their limits.
    Tenant,
    /// May look at everything but the inside of VPSes.
    Viewer,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::SuperAdmin, Self::Operator, Self::Billing, Self::Tenant, Self::Viewer];

    /// The role's word in JSON and in messages, such as `super-admin`.
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

/// The text is not the word of a role.
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

/// The caller of a request, and where it calls from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requester {
    /// `root` on the unix socket, `insulad` for what the agent does by itself, otherwise the
    /// client's name.
    pub name: String,
    /// What the caller may do.
    pub role: Role,
    /// The tenant whose VPSes alone the caller may touch. Set for the role `tenant`, and only for
    /// it.
    pub tenant: Option<TenantName>,
    /// The caller's address: `unix`, or an IP address with a port. Empty for the agent itself.
    pub peer: String,
}

impl Requester {
    /// Root of the host, over the unix socket, with the role `super-admin`.
    pub fn root() -> Self {
        Self { name: "root".into(), role: Role::SuperAdmin, tenant: None, peer: "unix".into() }
    }

    /// The agent itself, such as when it starts VPSes after the host's boot.
    pub fn agent() -> Self {
        Self { name: "insulad".into(), role: Role::SuperAdmin, tenant: None, peer: String::new() }
    }

    /// Whether both requests come from the same client, wherever it calls from.
    pub fn is_same_client(&self, other: &Self) -> bool {
        (&self.name, self.role, &self.tenant) == (&other.name, other.role, &other.tenant)
    }
}

/// The client's own id for a request, which makes a retry safe (AIP-155). Usually a UUID; allowed
/// are 1 to 128 letters, digits, `-`, `_`, `.` and `:`.
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

/// A client of the API over the network, or a token that has not been used yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// The client's id, which never changes.
    pub id: ClientId,
    /// The client's name, unique among clients that have not been revoked.
    pub name: ClientName,
    /// What the client may do.
    pub role: Role,
    /// The tenant whose VPSes alone the client may touch. Set for the role `tenant`, and only for
    /// it.
    pub tenant: Option<TenantName>,
    /// When the client's token was created, in milliseconds since 1970, UTC.
    pub created_at_ms: i64,
    /// When the client's token expires, in milliseconds since 1970, UTC.
    pub token_expires_at_ms: i64,
    /// When the client enrolled, in milliseconds since 1970, UTC. `None` while its token is unused.
    pub enrolled_at_ms: Option<i64>,
    /// When the client, or its token, was revoked, in milliseconds since 1970, UTC.
    pub revoked_at_ms: Option<i64>,
    /// The client's certificates that have not expired, oldest first.
    pub certificates: Vec<ClientCertificate>,
}

/// A certificate of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// SHA-256 of the certificate in DER, in hexadecimal digits. It tells which client a connection
    /// belongs to.
    pub fingerprint: String,
    /// SHA-256 of the certificate's public key (SubjectPublicKeyInfo), in hexadecimal digits.
    pub key: String,
    /// The certificate in PEM, which is public.
    pub pem: String,
    /// When the certificate expires, in milliseconds since 1970, UTC.
    pub expires_at_ms: i64,
}

/// An entry of the audit log that has no place in the log's hash chain yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it happened, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// The caller, and where it called from.
    pub requester: Requester,
    /// What was done: the kind of an operation, or the name of a method.
    pub action: String,
    /// The id of the object that it was done to. Empty where there is none.
    pub object: String,
    /// The name of the object that it was done to. Empty where there is none.
    pub object_name: String,
    /// The result: `ACCEPTED`, `SUCCEEDED`, or the reason of the refusal or failure.
    pub result: String,
    /// The client's id for the request, where it sent one.
    pub request_id: Option<RequestId>,
    /// The operation that was accepted or has ended.
    pub operation: Option<OperationId>,
}

/// An entry of the audit log, with its place in the log's hash chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// The entry's number, counted from 1.
    pub sequence: u64,
    /// The content of the entry.
    pub entry: AuditEntry,
    /// SHA-256 of this entry and of the hash of the entry before, in hexadecimal digits.
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
