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
    /// The VPS's id, which never changes.
    pub id: VpsId,
    /// The VPS's name, unique on the host.
    pub name: VpsName,
    /// The host name inside the guest.
    pub hostname: String,
    /// The image that the VPS's root was cloned from.
    pub image: Fingerprint,
    /// The init that the image boots.
    pub init: InitKind,
    /// The profile that supplies the limits and features that the VPS does not set itself.
    pub profile: ProfileName,
    /// The limits in effect: the profile's, replaced by the VPS's own where those are set.
    pub limits: Limits,
    /// The VPS's own limits. Where one is not set, the profile's applies.
    #[serde(default)]
    pub own_limits: Limits,
    /// The features in effect: the VPS's own if they are set, otherwise the profile's.
    #[serde(default)]
    pub features: Features,
    /// The VPS's own features. `None` means those of the profile.
    #[serde(default)]
    pub own_features: Option<Features>,
    /// The supervision in effect: the profile's, replaced by the VPS's own where that is set.
    #[serde(default)]
    pub supervision: Supervision,
    /// The VPS's own supervision. Where something is not set, the profile's applies.
    #[serde(default)]
    pub own_supervision: Supervision,
    /// The VPS's network interfaces. Their addresses are in `placement`.
    pub nics: Vec<Nic>,
    /// Public keys whose owners may log in as root.
    pub ssh_keys: Vec<String>,
    /// Whether the VPS should run.
    pub power: DesiredPower,
    /// When the VPS was created, in seconds since 1970, UTC.
    pub created_at: i64,
    /// The tenant that owns the VPS.
    #[serde(default)]
    pub tenant: Option<TenantName>,
    /// Labels that clients have attached to the VPS.
    #[serde(default)]
    pub labels: Labels,
    /// Whether requests to delete the VPS are refused.
    #[serde(default)]
    pub delete_protection: bool,
    /// The administrative hold on the VPS. Set while it is suspended.
    #[serde(default)]
    pub suspension: Option<Suspension>,
    /// Set while the VPS is in the trash.
    #[serde(default)]
    pub trash: Option<Trash>,
    /// The VPS's revision, which grows with each change and is the source of its etag.
    #[serde(default)]
    pub revision: u64,
    /// Where the VPS lives. All other fields stay the same when it moves.
    pub placement: Placement,
}

impl VpsSpec {
    /// The VPS's interfaces, each with its addresses on the present host.
    pub fn placed_nics(&self) -> impl ExactSizeIterator<Item = PlacedNic<'_>> {
        self.nics.iter().map(|nic| PlacedNic { nic, addresses: self.placement.addresses_of(&nic.name) })
    }
}

/// An interface, with its addresses on the host where the VPS lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedNic<'a> {
    /// The interface itself.
    pub nic: &'a Nic,
    /// The interface's addresses, in the network's range.
    pub addresses: &'a [IpAddr],
}

/// An administrative hold on a VPS, such as for an unpaid bill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// The reason for the hold, for people.
    pub reason: String,
    /// Since when the VPS has been suspended, in milliseconds since 1970, UTC.
    pub at_ms: i64,
    /// Whether the VPS should run again when the hold ends.
    pub was_running: bool,
}

/// When a VPS was moved to the trash and when it is purged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trash {
    /// When it was moved to the trash, in milliseconds since 1970, UTC.
    pub deleted_at_ms: i64,
    /// When it will be removed for good, in milliseconds since 1970, UTC.
    pub expires_at_ms: i64,
}

/// A snapshot: a VPS's root as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// The VPS whose root it is.
    pub vps: VpsId,
    /// The snapshot's name, unique among those of the VPS.
    pub name: SnapshotName,
    /// When it was taken, in seconds since 1970, UTC.
    pub created_at: i64,
    /// Bytes that only the snapshot holds. `None` if the driver can't tell.
    pub size: Option<ByteSize>,
}
