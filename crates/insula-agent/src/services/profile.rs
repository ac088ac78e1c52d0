//! `ProfileService`: profiles.

use insula_api::convert::{features, limits, parse, parse_all, supervision};
use insula_api::{ApiError, v1};
use insula_engine::UpdateProfile;
use insula_types::{Features, Profile, ProfileName};
use tonic::{Request, Response, Status};

use crate::services::Shared;
use crate::services::mask::{SUPERVISION_PATHS, limit_changes, limit_paths, paths, supervision_changes};
use crate::status::status;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl v1::profile_service_server::ProfileService for Shared {
    async fn get_profile(&self, request: Request<v1::GetProfileRequest>) -> Answer<v1::GetProfileResponse> {
        let name: ProfileName = parse("profile", &request.get_ref().profile)?;
        let profile = self.engine.profile(Some(&name)).map_err(status)?;
        Ok(Response::new(v1::GetProfileResponse { profile: Some((&profile).into()) }))
    }

    async fn list_profiles(
        &self,
        _request: Request<v1::ListProfilesRequest>,
    ) -> Answer<v1::ListProfilesResponse> {
        let profiles = self.engine.profiles().iter().map(Into::into).collect();
        Ok(Response::new(v1::ListProfilesResponse { profiles }))
    }

    async fn create_profile(
        &self,
        request: Request<v1::CreateProfileRequest>,
    ) -> Answer<v1::CreateProfileResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let profile = request.profile.ok_or_else(missing)?;
            let profile = Profile {
                name: parse("profile.name", &profile.name)?,
                description: profile.description,
                limits: limits("profile.limits", profile.limits.unwrap_or_default())?,
                features: features("profile.features", profile.features)?,
                networks: parse_all("profile.networks", &profile.networks)?,
                supervision: supervision("profile.supervision", profile.supervision.unwrap_or_default())?,
                revision: 0,
            };
            caller.may_open(&Features::default(), &profile.features)?;
            engine.create_profile(&asked, profile).await.map_err(status)
        })
        .await
    }

    async fn update_profile(
        &self,
        request: Request<v1::UpdateProfileRequest>,
    ) -> Answer<v1::UpdateProfileResponse> {
        self.mutate(request, async |engine, caller, asked, request| {
            let (name, update) = update_request(request)?;
            if let Some(features) = &update.features {
                let before = engine.profile(Some(&name)).map(|profile| profile.features).unwrap_or_default();
                caller.may_open(&before, features)?;
            }
            engine.update_profile(&asked, name, update).await.map_err(status)
        })
        .await
    }

    async fn delete_profile(
        &self,
        request: Request<v1::DeleteProfileRequest>,
    ) -> Answer<v1::DeleteProfileResponse> {
        self.mutate(request, async |engine, _, asked, request| {
            let name = parse("profile", &request.profile)?;
            engine.delete_profile(&asked, name).await.map_err(status)
        })
        .await
    }
}

fn update_request(request: v1::UpdateProfileRequest) -> Result<(ProfileName, UpdateProfile), ApiError> {
    const PLAIN: [&str; 5] = ["description", "limits", "features", "networks", "supervision"];
    let profile = request.profile.ok_or_else(missing)?;
    let known: Vec<&'static str> = PLAIN.into_iter().chain(limit_paths()).chain(SUPERVISION_PATHS).collect();
    let paths = paths(request.update_mask, &known, PLAIN)?;
    let update = UpdateProfile {
        description: paths.contains("description").then_some(profile.description),
        limits: limit_changes("profile.limits", &paths, profile.limits)?,
        features: match paths.contains("features") {
            true => Some(features("profile.features", profile.features)?),
            false => None,
        },
        supervision: supervision_changes("profile.supervision", &paths, profile.supervision)?,
        networks: match paths.contains("networks") {
            true => Some(parse_all("profile.networks", &profile.networks)?),
            false => None,
        },
        allow_missing: request.allow_missing,
    };
    Ok((parse("profile.name", &profile.name)?, update))
}

fn missing() -> ApiError {
    ApiError::invalid_field("profile", "a profile is needed")
}
