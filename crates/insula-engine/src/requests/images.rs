//! Images: found by alias or fingerprint, built, named, removed.

use insula_image::ImageDefinition;
use insula_store::Store;
use insula_types::{
    Fingerprint, ImageAlias, ImageInfo, ImageRef, OperationId, OperationKind, OperationRecord, Reason,
};
use std::sync::PoisonError;

use crate::journal::execution::{Right, new_record};
use crate::journal::retries::Asked;
use crate::model::job::Job;
use crate::requests::create::list;
use crate::requests::vps::journal;
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
            let staging = OperationId::new(); // of its own, so that two builds never meet
            let job = Job::BuildImage { definition: request.definition, alias: alias.clone(), staging };
            let record = new_record(asked, self.digest(asked), &job, alias.as_str(), None);
            let built = self.images().into_iter().rev().find(|image| image.definition == digest);
            if let Some(image) = built.filter(|_| !request.rebuild) {
                self.keep_image(named(image, alias)).await?;
                return self.spawn_done(record).await;
            }
            self.begin(record, job, journal, |_| Ok(Right::Now(vec![]))).await
        })
        .await
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

    /// Removes an image. VPSes that were cloned from it keep what they have.
    pub async fn delete_image(
        &self,
        asked: &Asked,
        reference: &ImageRef,
    ) -> Result<OperationRecord, EngineError> {
        self.once(asked, || async {
            let image = self.image(reference)?;
            let job = Job::DeleteImage { image: image.fingerprint };
            let record = new_record(asked, self.digest(asked), &job, &reference.to_string(), None);
            self.begin(record, job, journal, |_| Ok(Right::Now(vec![]))).await
        })
        .await
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
