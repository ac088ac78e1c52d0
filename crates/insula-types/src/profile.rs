//! Profiles: named plans.

use serde::{Deserialize, Serialize};

use crate::{Features, Limits, NetworkName, ProfileName, Supervision};

/// A named plan. A VPS takes its limits and features from its profile where nothing else was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name.
    pub name: ProfileName,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// What its VPSes may use.
    #[serde(default)]
    pub limits: Limits,
    /// What is open to its VPSes.
    #[serde(default)]
    pub features: Features,
    /// The networks that its VPSes are plugged into, `eth0` first.
    pub networks: Vec<NetworkName>,
    /// What follows when its VPSes crash or the host boots.
    #[serde(default)]
    pub supervision: Supervision,
    /// Grows with each change; 0 in files.
    #[serde(default)]
    pub revision: u64,
}
