//! Requests about images that are no jobs: which there are, and their aliases. The images are [`crate::host::images`].

use insula_store::Store;
use insula_types::{ImageAlias, ImageInfo, ImageRef, OperationKind, OperationRecord};

use crate::model::asked::Asked;
use crate::{Engine, EngineError};

impl Engine {
    /// All images, oldest first.
    pub fn images(&self) -> Vec<ImageInfo> {
        self.images.all()
    }

    /// The image that somebody means.
    ///
    /// # Errors
    /// `ImageNotFound`; `InvalidArgument` when a prefix fits several.
    pub fn image(&self, reference: &ImageRef) -> Result<ImageInfo, EngineError> {
        self.images.find(reference)
    }

    /// Points an alias to an image, wherever it pointed before.
    pub async fn set_image_alias(
        &self,
        asked: &Asked,
        image: &ImageRef,
        alias: ImageAlias,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let image = self.images.find(image)?.fingerprint;
            let (images, name) = (self.images.clone(), alias.to_string());
            let write = move |_: &Store, record: &OperationRecord| images.set_alias(&alias, &image, record);
            self.at_once(asked, OperationKind::SetImageAlias, image.to_string(), &name, write).await
        })
        .await
    }

    /// Removes an alias.
    pub async fn delete_image_alias(
        &self,
        asked: &Asked,
        alias: ImageAlias,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let image = self.images.find(&ImageRef::Alias(alias.clone()))?.fingerprint;
            let (images, name) = (self.images.clone(), alias.to_string());
            let write = move |_: &Store, record: &OperationRecord| images.delete_alias(&alias, record);
            self.at_once(asked, OperationKind::DeleteImageAlias, image.to_string(), &name, write).await
        })
        .await
    }
}
