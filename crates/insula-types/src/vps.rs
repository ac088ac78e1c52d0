//! A VPS as it should be: what it is, wherever it lives, and the place where it lives.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, DesiredPower, Features, Fingerprint, InitKind, Labels, Limits, Nic, Placement, ProfileName,
    SnapshotName, Supervision, TenantName, VpsId, VpsName,
};

/// A VPS as it should be: what the database keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VpsSpec {
    /// Its id, which never changes.
    pub id: VpsId,
    /// Its name, unique on the host.
    pub name: VpsName,
    /// The guest's host name.
    pub hostname: String,
    /// The image that its root was cloned from.
    pub image: Fingerprint,
    /// The init that the image boots.
    pub init: InitKind,
    /// The profile that its limits come from.
    pub profile: ProfileName,
    /// Its limits: the profile's, replaced by its own where it has some.
    pub limits: Limits,
    /// Its own limits, in place of the profile's.
    #[serde(default)]
    pub own_limits: Limits,
    /// Its features: the profile's, or its own instead.
    #[serde(default)]
    pub features: Features,
    /// Its own features, in place of the profile's.
    #[serde(default)]
    pub own_features: Option<Features>,
    /// What happens when it crashes or the host boots: the profile's settings, replaced by its own where it has some.
    #[serde(default)]
    pub supervision: Supervision,
    /// Its own settings for that, in place of the profile's.
    #[serde(default)]
    pub own_supervision: Supervision,
    /// Its interfaces. Their addresses belong to the place.
    pub nics: Vec<Nic>,
    /// Public keys that may log in as root.
    pub ssh_keys: Vec<String>,
    /// Whether it should run.
    pub power: DesiredPower,
    /// When it was created: seconds since 1970, UTC.
    pub created_at: i64,
    /// The tenant that owns it.
    #[serde(default)]
    pub tenant: Option<TenantName>,
    /// Labels: what clients note about it, such as the id of a service in their own database.
    #[serde(default)]
    pub labels: Labels,
    /// Whether it is protected from deletion.
    #[serde(default)]
    pub delete_protection: bool,
    /// Its suspension, if it is suspended.
    #[serde(default)]
    pub suspension: Option<Suspension>,
    /// Set while it is in the trash.
    #[serde(default)]
    pub trash: Option<Trash>,
    /// A number that grows with each change by a client, from which the etag is made.
    #[serde(default)]
    pub revision: u64,
    /// Where it lives. Everything else stays the same when it moves.
    pub placement: Placement,
}

impl VpsSpec {
    /// Its interfaces, each with the addresses that it has where the VPS lives.
    pub fn placed_nics(&self) -> impl ExactSizeIterator<Item = PlacedNic<'_>> {
        self.nics.iter().map(|nic| PlacedNic { nic, addresses: self.placement.addresses_of(&nic.name) })
    }
}

/// An interface, and its addresses where the VPS lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedNic<'a> {
    /// The interface.
    pub nic: &'a Nic,
    /// Its addresses in the network's range.
    pub addresses: &'a [IpAddr],
}

/// An administrative hold, such as for an unpaid bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// The reason, for people.
    pub reason: String,
    /// When it was suspended: milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// Whether it should run again when the hold ends.
    pub was_running: bool,
}

/// The time of a VPS in the trash: milliseconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trash {
    /// When it was moved there.
    pub deleted_at_ms: i64,
    /// When it is removed for good.
    pub expires_at_ms: i64,
}

/// A point in time of a VPS's root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// The VPS that it was taken of.
    pub vps: VpsId,
    /// Its name, unique among those of the VPS.
    pub name: SnapshotName,
    /// When: seconds since 1970, UTC.
    pub created_at: i64,
    /// Bytes that only the snapshot holds, where the driver can tell.
    pub size: Option<ByteSize>,
}
