//! `insula image`

use clap::{Args, Subcommand};
use insula_api::v1::{
    BuildImageRequest, DeleteImageAliasRequest, DeleteImageRequest, GetImageRequest, ListImagesRequest,
    SetImageAliasRequest,
};
use std::path::PathBuf;

use crate::columns::IMAGE_COLUMNS;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::operations::{Subjects, missing, run_operations};
use crate::table::ColumnChoice;

/// The commands of `insula image`. An image is named by an alias, its fingerprint, or at least the first twelve digits of it.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula image build images/debian-12.yaml
  insula image list
  insula image alias create stable debian-12")]
pub enum Image {
    /// List images
    #[command(visible_alias = "ls")]
    List(List),
    /// Show the details of an image
    Show(Show),
    /// Build an image from a definition
    Build(Build),
    /// Manage aliases: names that point to images
    #[command(subcommand)]
    Alias(Alias),
    /// Remove images and their aliases; VPSes created from them are not affected
    #[command(visible_alias = "rm")]
    Delete(Delete),
}

/// The arguments of `insula image list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula image list
  insula image list --columns alias,sha256 -o csv")]
pub struct List {
    /// Which columns.
    #[command(flatten)]
    columns: ColumnChoice,
}

/// The arguments of `insula image show`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula image show debian-12")]
pub struct Show {
    /// Image: an alias, a fingerprint, or at least the first twelve digits of one
    image: String,
}

/// The arguments of `insula image build`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula image build images/debian-12.yaml
  insula image build images/debian-12.yaml --alias next --rebuild")]
pub struct Build {
    /// Definition, in YAML
    file: PathBuf,
    /// Alias of the image [default: the name in the definition]
    #[arg(long)]
    alias: Option<String>,
    /// Build again even if this definition was built before, to get newer packages
    #[arg(long)]
    rebuild: bool,
}

/// The commands of `insula image alias`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  insula image alias create stable debian-12
  insula image alias delete stable")]
pub enum Alias {
    /// Point an alias to an image; an existing alias is moved
    #[command(visible_alias = "set")]
    Create(CreateAlias),
    /// Remove an alias
    #[command(visible_alias = "rm")]
    Delete(DeleteAlias),
}

/// The arguments of `insula image alias create`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula image alias create stable debian-12")]
pub struct CreateAlias {
    /// Alias
    alias: String,
    /// Image: another alias, a fingerprint, or at least the first twelve digits of one
    image: String,
}

/// The arguments of `insula image alias delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula image alias delete stable")]
pub struct DeleteAlias {
    /// Alias
    alias: String,
}

/// The arguments of `insula image delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  insula image delete debian-12")]
pub struct Delete {
    /// Images: aliases, fingerprints, or at least their first twelve digits
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Image {
    /// Does what was asked for.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::List(list) => list.run(context).await,
            Self::Show(show) => show.run(context).await,
            Self::Build(build) => build.run(context).await,
            Self::Alias(Alias::Create(create)) => create.run(context).await,
            Self::Alias(Alias::Delete(delete)) => delete.run(context).await,
            Self::Delete(delete) => delete.run(context).await,
        }
    }
}

impl List {
    async fn run(self, context: &Context) -> Outcome {
        const EMPTY: &str = "There is no image yet. To build one: insula image build images/debian-12.yaml";
        let answer = context.client().await?.images().list_images(ListImagesRequest {}).await?.into_inner();
        context.print_list(&answer, &answer.images, IMAGE_COLUMNS, &self.columns, EMPTY)
    }
}

impl Show {
    async fn run(self, context: &Context) -> Outcome {
        let request = GetImageRequest { image: self.image };
        let image = context.client().await?.images().get_image(request).await?.into_inner().image;
        context.print_item(&image.ok_or_else(|| missing("image"))?, IMAGE_COLUMNS)
    }
}

impl Build {
    async fn run(self, context: &Context) -> Outcome {
        let shown = self.file.display().to_string();
        let definition = std::fs::read_to_string(&self.file)
            .map_err(|error| Failure::usage(format!("failed to read the definition {shown}: {error}")))?;
        let alias = self.alias.unwrap_or_default();
        let request = BuildImageRequest { definition, alias, rebuild: self.rebuild, ..Default::default() };
        run_operations(context, Subjects::One(shown), async |_, request_id| {
            let request = BuildImageRequest { request_id, ..request.clone() };
            let answer = context.client().await?.images().build_image(request).await?;
            Ok(answer.into_inner().operation)
        })
        .await
    }
}

impl CreateAlias {
    async fn run(self, context: &Context) -> Outcome {
        run_operations(context, Subjects::One(self.alias), async |alias, request_id| {
            let request = SetImageAliasRequest { image: self.image.clone(), alias, request_id };
            Ok(context.client().await?.images().set_image_alias(request).await?.into_inner().operation)
        })
        .await
    }
}

impl DeleteAlias {
    async fn run(self, context: &Context) -> Outcome {
        run_operations(context, Subjects::One(self.alias), async |alias, request_id| {
            let request = DeleteImageAliasRequest { alias, request_id };
            Ok(context.client().await?.images().delete_image_alias(request).await?.into_inner().operation)
        })
        .await
    }
}

impl Delete {
    async fn run(self, context: &Context) -> Outcome {
        run_operations(context, Subjects::named(self.images), async |image, request_id| {
            let request = DeleteImageRequest { image, request_id };
            Ok(context.client().await?.images().delete_image(request).await?.into_inner().operation)
        })
        .await
    }
}
