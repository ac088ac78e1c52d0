//! The host's profiles. [`Profiles`] owns them in memory, and writes them into the database; those of files are taken
//! over once. It does not know which VPSes have a profile: its caller asks, and holds `assigning` meanwhile.
//!
//! A change is first in the database and then in memory, by one thread: that stays so when the client that asks goes
//! away in the middle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use insula_store::StoreError;
use insula_types::{OperationRecord, Profile, ProfileName, Reason};

use crate::EngineError;
use crate::host::database::Database;
use crate::host::settings::Settings;
use crate::model::checks::list;

/// The profiles that come with Insula.
const EMBEDDED: [&str; 4] = [
    include_str!("../../../../profiles/small.yaml"),
    include_str!("../../../../profiles/medium.yaml"),
    include_str!("../../../../profiles/large.yaml"),
    include_str!("../../../../profiles/unlimited.yaml"),
];

/// All profiles of the host.
#[derive(Debug)]
pub(crate) struct Profiles {
    store: Database,
    /// What a VPS gets where nothing else is said.
    default: ProfileName,
    known: RwLock<BTreeMap<ProfileName, Profile>>,
}

impl Profiles {
    /// The profiles that the database has, after it was given those that come from files and are new to it.
    pub(crate) fn load(
        settings: &Settings,
        from_files: &[Profile],
        store: Database,
    ) -> Result<Self, EngineError> {
        store.seed_profiles(from_files)?;
        let known = store.profiles()?.into_iter().map(|profile| (profile.name.clone(), profile)).collect();
        Ok(Self { store, default: settings.default_profile.clone(), known: RwLock::new(known) })
    }

    /// All profiles, by name.
    pub(crate) fn all(&self) -> Vec<Profile> {
        self.read().values().cloned().collect()
    }

    /// The profile of this name; without one, the host's default.
    ///
    /// # Errors
    /// [`Reason::ProfileNotFound`].
    pub(crate) fn find(&self, name: Option<&ProfileName>) -> Result<Profile, EngineError> {
        let name = name.unwrap_or(&self.default);
        let known = self.read();
        known.get(name).cloned().ok_or_else(|| {
            EngineError::new(Reason::ProfileNotFound, format!("there is no profile {:?}", name.as_str()))
                .hint(format!("there are {}", list(known.keys())))
        })
    }

    /// Whether it is the host's default.
    pub(crate) fn is_default(&self, name: &ProfileName) -> bool {
        *name == self.default
    }

    /// Keeps a profile, in place of one of the same name, and the operation that makes or changes it. It blocks.
    pub(crate) fn keep(&self, profile: Profile, operation: &OperationRecord) -> Result<(), StoreError> {
        self.store.put_profile(&profile, operation)?;
        self.write().insert(profile.name.clone(), profile);
        Ok(())
    }

    /// Forgets a profile, and keeps the operation that removes it. It blocks.
    pub(crate) fn forget(&self, name: &ProfileName, operation: &OperationRecord) -> Result<(), StoreError> {
        self.store.delete_profile(name, operation)?;
        self.write().remove(name);
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ProfileName, Profile>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<ProfileName, Profile>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::records::blank_record;
    use crate::model::asked::Asked;
    use insula_store::Store;
    use insula_types::{OperationKind, Requester};

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
    #[test]
    fn memory_has_after_each_change_what_the_database_has() {
        let directory = tempfile::tempdir().unwrap();
        let store = Database::new(Store::open(&directory.path().join("insula.db")).unwrap());
        let from_files = read_profiles(None).unwrap();
        let profiles = Profiles::load(&Settings::default(), &from_files, store.clone()).unwrap();
        let operation =
            |kind| blank_record(kind, String::new(), "", &Asked::by(Requester::root()), String::new());
        assert_eq!((profiles.all(), profiles.all().len()), (store.profiles().unwrap(), from_files.len()));
        let [small, large] = ["small", "large"].map(|name| name.parse::<ProfileName>().unwrap());
        let own = Profile { description: "ours".to_owned(), ..profiles.find(Some(&small)).unwrap() };
        profiles.keep(own.clone(), &operation(OperationKind::UpdateProfile)).unwrap();
        profiles.forget(&large, &operation(OperationKind::DeleteProfile)).unwrap();
        assert_eq!(profiles.all(), store.profiles().unwrap());
        assert_eq!(profiles.find(Some(&small)).unwrap(), own);
        assert_eq!(profiles.find(Some(&large)).unwrap_err().reason(), Reason::ProfileNotFound);
        assert!(profiles.is_default(&profiles.find(None).unwrap().name));
        // What the database refuses stays in memory, too.
        assert!(profiles.forget(&large, &operation(OperationKind::DeleteProfile)).is_err());
        assert_eq!(profiles.all(), store.profiles().unwrap());
        // What an admin has changed or removed stays so.
        let again = Profiles::load(&Settings::default(), &from_files, store).unwrap();
        assert_eq!(again.all(), profiles.all());
    }
}
