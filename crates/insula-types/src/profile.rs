//! Profiles: named plans.

use serde::{Deserialize, Serialize};

use crate::{Features, Limits, NetworkName, ProfileName, Supervision};

/// A named plan. A VPS takes limits and features from its profile where its own are not set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The profile's name.
    pub name: ProfileName,
    /// A description of one line, for people.
    #[serde(default)]
    pub description: String,
    /// The limits of VPSes with this profile.
    #[serde(default)]
    pub limits: Limits,
    /// The features of VPSes with this profile.
    #[serde(default)]
    pub features: Features,
    /// The networks that VPSes with this profile are plugged into, the one of `eth0` first.
    pub networks: Vec<NetworkName>,
    /// What happens when such a VPS crashes, or when the host boots.
    #[serde(default)]
    pub supervision: Supervision,
    /// The profile's revision, which grows with each change. It is 0 in files.
    #[serde(default)]
    pub revision: u64,
}
