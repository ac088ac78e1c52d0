//! Profiles, each kept together with the operation that changes it.

use insula_types::{OperationRecord, Profile, ProfileName};
use rusqlite::params;

use crate::column::{json_rows, to_json};
use crate::error::is_one;
use crate::operation::insert_operation;
use crate::{Store, StoreError};

impl Store {
    /// All profiles, ordered by name.
    pub fn profiles(&self) -> Result<Vec<Profile>, StoreError> {
        self.read("list profiles", |db| json_rows(db, "SELECT profile FROM profile ORDER BY name"))
    }

    /// Keeps a profile, replacing one of the same name, together with the operation that creates or
    /// changes it.
    pub fn put_profile(&self, profile: &Profile, operation: &OperationRecord) -> Result<(), StoreError> {
        self.write("store a profile", |change| {
            insert_operation(change, operation)?;
            let row = params![profile.name.as_str(), to_json(profile)];
            change.execute("INSERT OR REPLACE INTO profile (name, profile) VALUES (?1, ?2)", row).map(drop)
        })
    }

    /// Removes a profile, and keeps the operation that does so.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if there is no such profile. Nothing is kept then.
    pub fn delete_profile(
        &self,
        profile: &ProfileName,
        operation: &OperationRecord,
    ) -> Result<(), StoreError> {
        self.write("forget a profile", |change| {
            insert_operation(change, operation)?;
            is_one(change.execute("DELETE FROM profile WHERE name = ?1", [profile.as_str()])?)
        })
    }

    /// Keeps those of the profiles that were never seeded before and whose names are free. Changes
    /// and removals by an administrator therefore last.
    pub fn seed_profiles(&self, profiles: &[Profile]) -> Result<(), StoreError> {
        self.write("store the first profiles", |change| {
            for profile in profiles {
                let name = profile.name.as_str();
                let is_new =
                    change.execute("INSERT OR IGNORE INTO seeded_profile (name) VALUES (?1)", [name])? > 0;
                if is_new {
                    let row = params![name, to_json(profile)];
                    change.execute("INSERT OR IGNORE INTO profile (name, profile) VALUES (?1, ?2)", row)?;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{operation, store};
    use insula_types::{Features, Limits, OperationKind};

    fn profile(name: &str, description: &str) -> Profile {
        Profile {
            name: name.parse().unwrap(),
            description: description.to_owned(),
            limits: Limits::default(),
            features: Features::default(),
            networks: vec!["default".parse().unwrap()],
            supervision: Default::default(),
            revision: 1,
        }
    }

    #[test]
    fn what_was_seeded_once_is_never_seeded_again() {
        let (_directory, store) = store();
        let own = profile("large", "our own");
        store.put_profile(&own, &operation(OperationKind::CreateProfile)).unwrap();
        let seeds = [profile("large", "seed"), profile("small", "seed"), profile("tiny", "seed")];
        store.seed_profiles(&seeds[..2]).unwrap();
        assert_eq!(store.profiles().unwrap(), [own.clone(), seeds[1].clone()]);

        let changed = profile("small", "changed");
        store.put_profile(&changed, &operation(OperationKind::UpdateProfile)).unwrap();
        store.delete_profile(&own.name, &operation(OperationKind::DeleteProfile)).unwrap();
        store.seed_profiles(&seeds).unwrap();
        assert_eq!(store.profiles().unwrap(), [changed, seeds[2].clone()]);
    }

    #[test]
    fn removing_none_leaves_no_operation() {
        let (_directory, store) = store();
        let delete = operation(OperationKind::DeleteProfile);
        let error = store.delete_profile(&"small".parse().unwrap(), &delete).unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        assert_eq!((store.operation(&delete.id).unwrap(), store.last_event()), (None, 0));
    }
}
