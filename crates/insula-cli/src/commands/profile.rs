//! `insula profile`

use clap::{Args, Subcommand};
use insula_api::v1::{
    self, DeleteProfileRequest, GetProfileRequest, ListProfilesRequest, UpdateProfileRequest,
};
use std::path::{Path, PathBuf};

use crate::columns::PROFILE_COLUMNS;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::operations::{Subjects, missing, run_operations};
use crate::table::ColumnChoice;

/// The commands of `insula profile`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula profile list
  insula profile show small
  insula profile apply profiles/large.yaml")]
pub enum Profile {
    /// List profiles
    #[command(visible_alias = "ls")]
    List(List),
    /// Show the details of a profile
    Show(Show),
    /// Create or change a profile from a file; VPSes that have it are not changed
    Apply(Apply),
    /// Remove profiles that no VPS uses
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

/// The arguments of `insula profile list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula profile list
  insula profile list -o json")]
pub struct List {
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula profile show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula profile show small")]
pub struct Show {
    /// Name of the profile
    profile: String,
}

/// The arguments of `insula profile apply`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula profile apply profiles/large.yaml
  insula set web1 profile=large            # to give a VPS the new limits")]
pub struct Apply {
    /// Profile in YAML: name, description, limits, features and networks
    file: PathBuf,
    /// Only if the profile is unchanged: its etag, as `insula profile show` prints it
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

/// The arguments of `insula profile delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula profile delete large")]
pub struct Delete {
    /// Names of the profiles
    #[arg(value_name = "PROFILE", required = true)]
    profiles: Vec<String>,
}

impl Profile {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Apply(apply) => apply.run(context).await,
            Self::Delete(delete) => delete.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        let answer =
            context.client().await?.profiles().list_profiles(ListProfilesRequest {}).await?.into_inner();
        let empty = "There is no profile.";
        context.print_list(&answer, &answer.profiles, PROFILE_COLUMNS, &self.columns, empty)
    }
}

impl Show {
    async fn run(self, context: &Context) -> Outcome {
        let request = GetProfileRequest { profile: self.profile };
        let profile = context.client().await?.profiles().get_profile(request).await?.into_inner().profile;
        context.print_item(&profile.ok_or_else(|| missing("profile"))?, PROFILE_COLUMNS)
    }
}

impl Apply {
    async fn run(self, context: &Context) -> Outcome {
        let profile = v1::Profile { etag: self.etag.unwrap_or_default(), ..read_profile(&self.file)? };
        run_operations(context, Subjects::One(profile.name.clone()), async |_, request_id| {
            let profile = Some(profile.clone());
            let request =
                UpdateProfileRequest { profile, allow_missing: true, request_id, ..Default::default() };
            Ok(context.client().await?.profiles().update_profile(request).await?.into_inner().operation)
        })
        .await
    }
}

fn read_profile(file: &Path) -> Outcome<v1::Profile> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::usage(format!("failed to read the profile {shown}: {error}")))?;
    let profile: insula_types::Profile = serde_norway::from_str(&text)
        .map_err(|error| Failure::usage(format!("{shown} is not a profile: {error}")))?;
    Ok((&profile).into())
}

impl Delete {
    async fn run(self, context: &Context) -> Outcome {
        run_operations(context, Subjects::named(self.profiles), async |profile, request_id| {
            let request = DeleteProfileRequest { profile, request_id, ..Default::default() };
            Ok(context.client().await?.profiles().delete_profile(request).await?.into_inner().operation)
        })
        .await
    }
}
