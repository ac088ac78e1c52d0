//! Profiles: named plans.

use serde::{Deserialize, Serialize};

use crate::{Features, Limits, NetworkName, ProfileName, Supervision};

/// A named plan. A VPS takes from its profile the limits, features and networks that its own settings leave open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The profile's name.
    pub name: ProfileName,
    /// A description, one line for people.
    #[serde(default)]
    pub description: String,
    /// The limits of its VPSes.
    #[serde(default)]
    pub limits: Limits,
    /// The features of its VPSes.
    #[serde(default)]
    pub features: Features,
    /// The networks that its VPSes are connected to, `eth0` first.
    pub networks: Vec<NetworkName>,
    /// What happens when its VPSes crash or the host boots.
    #[serde(default)]
    pub supervision: Supervision,
    /// A number that grows with each change, from which the etag is made; 0 in files.
    #[serde(default)]
    pub revision: u64,
}
