//! The host's pools and profiles.

use std::path::{Path, PathBuf};

use insula_types::Profile;

use crate::host::pools::PoolView;
use crate::{Engine, EngineError};

/// The profiles that come with Insula.
const EMBEDDED: [&str; 4] = [
    include_str!("../../../../profiles/small.yaml"),
    include_str!("../../../../profiles/medium.yaml"),
    include_str!("../../../../profiles/large.yaml"),
    include_str!("../../../../profiles/unlimited.yaml"),
];

/// The profiles of a directory, or those that come with Insula.
pub fn read_profiles(directory: Option<&Path>) -> Result<Vec<Profile>, EngineError> {
    let Some(directory) = directory else {
        return EMBEDDED.iter().map(|text| parse_profile("an embedded profile", text)).collect();
    };
    let failed = |error| {
        EngineError::internal(format!("failed to read the profiles in {}", directory.display()), error)
    };
    let mut paths = vec![];
    for entry in std::fs::read_dir(directory).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(failed)?;
        parse_profile(&path.display().to_string(), &text)
    };
    paths.iter().map(read).collect()
}

fn parse_profile(name: &str, text: &str) -> Result<Profile, EngineError> {
    let wrong = |error: String| EngineError::invalid("profile", format!("{name} can't be used: {error}"));
    let profile: Profile = serde_norway::from_str(text).map_err(|error| wrong(error.to_string()))?;
    profile.limits.check().map_err(|error| wrong(error.to_string()))?;
    Ok(profile)
}

impl Engine {
    /// The host's pools, and how full they are.
    pub async fn pool_views(&self) -> Result<Vec<PoolView>, EngineError> {
        let mut views = vec![];
        for pool in self.pools.all() {
            views.push(pool.view().await?);
        }
        Ok(views)
    }

    /// The pool of this name, and how full it is.
    pub async fn pool_view(&self, name: &str) -> Result<PoolView, EngineError> {
        self.pools.by_name(name)?.view().await
    }

    /// The way of cgroups on this host: `hybrid` or `unified`.
    pub fn cgroup_mode(&self) -> &'static str {
        if self.layout.legacy.is_empty() { "unified" } else { "hybrid" }
    }

    /// Whether guests run under a policy of AppArmor: `enforced`, or why not.
    pub fn apparmor(&self) -> &str {
        self.policy.as_ref().map_or_else(|lack| &**lack, |_| "enforced")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_that_come_with_insula_can_be_used() {
        let profiles = read_profiles(None).unwrap();
        let names: Vec<_> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        assert_eq!(names, ["small", "medium", "large", "unlimited"]);
        assert!(profiles[..3].iter().all(|plan| plan.limits.memory.is_some() && plan.limits.disk.is_some()));
        assert_eq!(profiles[3].limits, insula_types::Limits::default());
    }

    #[test]
    fn a_wrong_profile_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("tiny.yaml"), "name: tiny\nlimits: {memory: 1}\nnetworks: []")
            .unwrap();
        let error = read_profiles(Some(directory.path())).unwrap_err().to_string();
        assert!(error.contains("tiny.yaml") && error.contains("memory"), "{error}");
    }
}
