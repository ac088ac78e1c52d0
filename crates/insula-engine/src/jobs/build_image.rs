//! Builds an image from the text of its definition.

use insula_image::ImageDefinition;
use insula_types::{ImageAlias, ImageInfo, OperationId, OperationRecord};
use serde::{Deserialize, Serialize};

use crate::jobs::spec::{JobSpec, Target};
use crate::model::asked::Asked;
use crate::model::plan::Plan;
use crate::model::step::Step;
use crate::{Engine, EngineError};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct BuildImage {
    /// The text of the definition.
    pub definition: String,
    /// Another alias than the definition's name.
    pub alias: Option<ImageAlias>,
    /// Build also when the same definition has been built already.
    pub rebuild: bool,
}

/// Build an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BuildImageJob {
    pub definition: String,
    pub alias: ImageAlias,
    /// The volume that it is built in: of its own, so that two builds never meet.
    pub staging: OperationId,
}

impl Engine {
    /// Builds an image. The same definition again is done at once.
    pub async fn build_image(
        &self,
        asked: &Asked,
        request: BuildImage,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let definition = ImageDefinition::parse(&request.definition).map_err(|error| {
                EngineError::invalid("definition", "the image definition can't be used").caused_by(error)
            })?;
            let alias = request.alias.unwrap_or_else(|| definition.name.clone());
            let digest = definition.digest();
            let built = self.images.all().into_iter().rev().find(|image| image.definition == digest);
            let built = built.filter(|_| !request.rebuild);
            if let Some(image) = &built {
                self.images.keep(ImageInfo { aliases: vec![alias.clone()], ..image.clone() }).await?;
            }
            let (name, staging) = (alias.to_string(), OperationId::new());
            let job = BuildImageJob { definition: request.definition, alias, staging };
            self.request_of_host(asked, &name, job, built.is_none()).await
        })
        .await
    }
}

impl JobSpec for BuildImageJob {
    fn target(&self) -> Target {
        Target::NewImage(self.alias.clone())
    }

    fn plan(&self) -> Plan {
        let (definition, staging) = (self.definition.clone(), self.staging);
        Plan::undoable([
            Step::BuildTree { definition: definition.clone(), staging },
            Step::FingerprintTree { definition, staging },
            Step::PublishImage { staging, alias: self.alias.clone() },
        ])
    }
}
