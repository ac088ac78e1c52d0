//! Images: found by alias or fingerprint, named, kept and forgotten.

use std::sync::PoisonError;

use insula_store::Store;
use insula_types::{Fingerprint, ImageAlias, ImageInfo, ImageRef, OperationKind, OperationRecord, Reason};

use crate::model::asked::Asked;
use crate::model::checks::list;
use crate::{Engine, EngineError};

impl Engine {
    /// All images, oldest first.
    pub fn images(&self) -> Vec<ImageInfo> {
        let mut images: Vec<_> =
            self.images.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        images.sort_by_key(|image| (image.created_at, image.fingerprint));
        images
    }

    /// The image that somebody means.
    ///
    /// # Errors
    /// [`Reason::ImageNotFound`]; [`Reason::InvalidArgument`] when a prefix fits several.
    pub fn image(&self, reference: &ImageRef) -> Result<ImageInfo, EngineError> {
        let images = self.images();
        let mut fitting = images.iter().filter(|image| match reference {
            ImageRef::Alias(alias) => image.aliases.contains(alias),
            ImageRef::Prefix(prefix) => image.fingerprint.to_string().starts_with(prefix),
        });
        match (fitting.next(), fitting.next()) {
            (Some(image), None) => Ok(image.clone()),
            (Some(_), Some(_)) => {
                Err(EngineError::invalid("image", format!("several fingerprints begin with {reference}")))
            }
            (None, _) => {
                let known = list(images.iter().flat_map(|image| &image.aliases));
                Err(EngineError::new(
                    Reason::ImageNotFound,
                    format!("there is no image {:?}", reference.to_string()),
                )
                .hint(format!("there are {known}; build one: insula image build images/debian-12.yaml")))
            }
        }
    }

    /// Points an alias to an image, wherever it pointed before.
    pub async fn set_image_alias(
        &self,
        asked: &Asked,
        image: &ImageRef,
        alias: ImageAlias,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let image = self.image(image)?;
            let (fingerprint, name) = (image.fingerprint, alias.clone());
            let write = move |store: &Store, record: &OperationRecord| {
                store.set_image_alias(&name, &fingerprint, record)
            };
            let kind = OperationKind::SetImageAlias;
            let record = self.at_once(asked, kind, fingerprint.to_string(), alias.as_str(), write).await?;
            self.remember_image(named(image, alias));
            Ok(record)
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
            let image = self.image(&ImageRef::Alias(alias.clone()))?;
            let name = alias.clone();
            let write = move |store: &Store, record: &OperationRecord| {
                store.delete_image_alias(&name, record).map(drop)
            };
            let (kind, target) = (OperationKind::DeleteImageAlias, image.fingerprint.to_string());
            let record = self.at_once(asked, kind, target, alias.as_str(), write).await?;
            let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
            images.values_mut().for_each(|image| image.aliases.retain(|other| *other != alias));
            Ok(record)
        })
        .await
    }

    /// Keeps an image under one more alias.
    pub(crate) async fn keep_image_as(&self, image: ImageInfo, alias: ImageAlias) -> Result<(), EngineError> {
        self.keep_image(named(image, alias)).await
    }

    /// Keeps an image and its aliases, in the database and in memory.
    pub(crate) async fn keep_image(&self, image: ImageInfo) -> Result<(), EngineError> {
        let kept = image.clone();
        self.store(move |store| store.put_image(&kept)).await?;
        self.remember_image(image);
        Ok(())
    }

    fn remember_image(&self, image: ImageInfo) {
        let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
        for other in images.values_mut() {
            other.aliases.retain(|alias| !image.aliases.contains(alias));
        }
        images.insert(image.fingerprint, image);
    }

    /// Forgets an image, in the database and in memory.
    pub(crate) async fn forget_image(&self, image: Fingerprint) -> Result<(), EngineError> {
        self.store(move |store| store.delete_image(&image)).await?;
        self.images.write().unwrap_or_else(PoisonError::into_inner).remove(&image);
        Ok(())
    }
}

/// An image with one more alias.
fn named(mut image: ImageInfo, alias: ImageAlias) -> ImageInfo {
    if !image.aliases.contains(&alias) {
        image.aliases.push(alias);
        image.aliases.sort();
    }
    image
}
