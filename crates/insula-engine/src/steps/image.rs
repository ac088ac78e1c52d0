//! The steps of an image's build: the tree, its fingerprint, its publication.

use insula_image::ImageDefinition;
use insula_storage::Volume;
use insula_types::{ImageAlias, ImageInfo, OperationId, Reason};

use crate::journal::operations::Reporter;
use crate::model::step::Output;
use crate::{Engine, EngineError, now_ms};

impl Engine {
    pub(super) async fn build_tree(
        &self,
        definition: &str,
        staging: OperationId,
        reporter: &Reporter,
    ) -> Result<(), EngineError> {
        let definition = parse(definition)?;
        let volume = Volume::Staging(staging);
        let (pool, reporter) = (self.pools.default().driver().clone(), reporter.clone());
        let cache = self.settings.state_dir.join("cache");
        crate::blocking("build an image", move || {
            pool.ensure_absent(&volume)?; // what a dead agent left is no base to build on
            pool.ensure_empty(&volume)?;
            insula_image::build(&definition, &pool.lasting_path(&volume), &cache, None, &mut |progress| {
                reporter.report(progress.percent, &progress.message);
            })
            .map_err(|error| {
                EngineError::new(Reason::BuildFailed, format!("failed to build image {}", definition.name))
                    .caused_by(error)
            })
        })
        .await
    }

    /// Finds out which image a tree is. Nobody may write to the tree any longer.
    pub(super) async fn fingerprint_tree(
        &self,
        definition: &str,
        staging: OperationId,
        reporter: &Reporter,
    ) -> Result<Output, EngineError> {
        let definition = parse(definition)?;
        let (pool, reporter) = (self.pools.default().driver().clone(), reporter.clone());
        let pool_name = self.pools.default().name().clone();
        crate::blocking("fingerprint an image", move || {
            let top = pool.open(&Volume::Staging(staging))?;
            let tree = insula_image::fingerprint(top, &mut |_| reporter.report(50, "fingerprinting"))
                .map_err(|error| EngineError::internal("failed to fingerprint the image", error))?;
            Ok(Output::Image(Box::new(definition.describe(&tree, pool_name, now_ms() / 1000))))
        })
        .await
    }

    pub(super) async fn publish_image(
        &self,
        mut image: ImageInfo,
        staging: OperationId,
        alias: ImageAlias,
    ) -> Result<(), EngineError> {
        let (from, to) = (Volume::Staging(staging), Volume::Image(image.fingerprint));
        self.pools.by_name(image.pool.as_str())?.work(move |driver| driver.seal(&from, &to)).await?;
        image.aliases = vec![alias];
        self.images.keep(image).await
    }
}

fn parse(definition: &str) -> Result<ImageDefinition, EngineError> {
    ImageDefinition::parse(definition).map_err(|error| {
        EngineError::invalid("definition", "the image definition can't be used").caused_by(error)
    })
}
