//! Requests about profiles: which there are, and making, changing and removing them. The profiles are
//! [`crate::host::profiles`].

use insula_store::Store;
use insula_types::{
    Features, Limits, NetworkName, OperationKind, OperationRecord, Profile, ProfileName, Reason, Supervision,
};

use crate::model::asked::Asked;
use crate::model::changes::{LimitChange, SupervisionChange};
use crate::requests::acceptance::check_etag;
use crate::{Engine, EngineError};

/// What is to be changed of a profile; `None`: nothing.
#[derive(Debug, Clone, Default)]
pub struct UpdateProfile {
    /// One line for people.
    pub description: Option<String>,
    /// Limits, one after the other.
    pub limits: Vec<LimitChange>,
    /// What is open to its VPSes.
    pub features: Option<Features>,
    /// What follows when its VPSes crash or the host boots, one thing after the other.
    pub supervision: Vec<SupervisionChange>,
    /// Its networks.
    pub networks: Option<Vec<NetworkName>>,
    /// Make it, if there is none.
    pub allow_missing: bool,
}

impl Engine {
    /// The profiles, by name.
    pub fn profiles(&self) -> Vec<Profile> {
        self.profiles.all()
    }

    /// The profile of this name; without one, the host's default.
    ///
    /// # Errors
    /// [`Reason::ProfileNotFound`].
    pub fn profile(&self, name: Option<&ProfileName>) -> Result<Profile, EngineError> {
        self.profiles.find(name)
    }

    /// Makes a profile.
    pub async fn create_profile(
        &self,
        asked: &Asked,
        profile: Profile,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let _alone = self.assigning.lock().await;
            if self.profiles.find(Some(&profile.name)).is_ok() {
                let message = format!("a profile {:?} already exists", profile.name.as_str());
                return Err(EngineError::new(Reason::ProfileExists, message).hint("update it"));
            }
            let profile = Profile { revision: 1, ..profile };
            self.keep_profile(asked, OperationKind::CreateProfile, profile).await
        })
        .await
    }

    /// Changes a profile, for VPSes that are made or changed to it from now on.
    pub async fn update_profile(
        &self,
        asked: &Asked,
        name: ProfileName,
        update: UpdateProfile,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let _alone = self.assigning.lock().await;
            let (kind, mut profile) = match self.profiles.find(Some(&name)) {
                Ok(profile) => {
                    check_etag(asked, "profile", name.as_str(), profile.revision)?;
                    (OperationKind::UpdateProfile, profile)
                }
                Err(_) if update.allow_missing => (OperationKind::CreateProfile, blank(name)),
                Err(error) => return Err(error),
            };
            update.limits.iter().for_each(|change| change.apply(&mut profile.limits));
            update.supervision.iter().for_each(|change| change.apply(&mut profile.supervision));
            profile.description = update.description.unwrap_or(profile.description);
            profile.features = update.features.unwrap_or(profile.features);
            profile.networks = update.networks.unwrap_or(profile.networks);
            profile.revision += 1;
            self.keep_profile(asked, kind, profile).await
        })
        .await
    }

    /// Removes a profile that no VPS has, not even in the trash.
    pub async fn delete_profile(
        &self,
        asked: &Asked,
        name: ProfileName,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let _alone = self.assigning.lock().await;
            let profile = self.profiles.find(Some(&name))?;
            check_etag(asked, "profile", name.as_str(), profile.revision)?;
            let users = self.table.all().into_iter().filter(|handle| handle.spec().profile == name).count();
            if users > 0 || self.profiles.is_default(&name) {
                let message = match users {
                    0 => format!("profile {:?} is the default of this host", name.as_str()),
                    users => format!("{users} VPSes have the profile {:?}", name.as_str()),
                };
                return Err(EngineError::new(Reason::ProfileInUse, message)
                    .hint(format!("list them: insula list --profile {name}")));
            }
            let (profiles, forgotten) = (self.profiles.clone(), name.clone());
            let write = move |_: &Store, record: &OperationRecord| profiles.forget(&forgotten, record);
            let kind = OperationKind::DeleteProfile;
            self.at_once(asked, kind, name.to_string(), name.as_str(), write).await
        })
        .await
    }

    async fn keep_profile(
        &self,
        asked: &Asked,
        kind: OperationKind,
        profile: Profile,
    ) -> Result<OperationRecord, EngineError> {
        const MOST_DESCRIPTION: usize = 500;
        profile.limits.check().map_err(|error| EngineError::invalid("profile.limits", error))?;
        let checked = profile.supervision.check();
        checked.map_err(|error| EngineError::invalid("profile.supervision", error))?;
        let description = &profile.description;
        if description.chars().count() > MOST_DESCRIPTION || description.contains(char::is_control) {
            let rule = "a description is one line of at most 500 characters, without control characters";
            return Err(EngineError::invalid("profile.description", rule));
        }
        self.networks.wanted_nics(&profile.networks, &profile)?;
        let (profiles, name) = (self.profiles.clone(), profile.name.to_string());
        let write = move |_: &Store, record: &OperationRecord| profiles.keep(profile, record);
        self.at_once(asked, kind, name.clone(), &name, write).await
    }
}

fn blank(name: ProfileName) -> Profile {
    Profile {
        name,
        description: String::new(),
        limits: Limits::default(),
        features: Features::default(),
        networks: vec![],
        supervision: Supervision::default(),
        revision: 0,
    }
}
