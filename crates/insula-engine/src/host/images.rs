//! The host's images and their aliases. [`Images`] owns them in memory, where they are looked for, and writes them into
//! the database. It does not know how they are built, nor what is in their volumes.
//!
//! A change is first in the database and then in memory, by one thread and one change at a time. That holds even if the
//! client disconnects meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use insula_store::StoreError;
use insula_types::{Fingerprint, ImageAlias, ImageInfo, ImageRef, OperationRecord, Reason};

use crate::EngineError;
use crate::blocking::blocking;
use crate::host::database::Database;
use crate::model::checks::list;

/// All images of the host.
#[derive(Debug)]
pub(crate) struct Images {
    store: Database,
    known: RwLock<BTreeMap<Fingerprint, ImageInfo>>,
    /// Held while the database is written and what is known is changed alike.
    changing: Mutex<()>,
}

impl Images {
    /// The images that the database has.
    pub(crate) fn load(store: Database) -> Result<Self, EngineError> {
        let known = store.images()?.into_iter().map(|image| (image.fingerprint, image)).collect();
        Ok(Self { store, known: RwLock::new(known), changing: Mutex::default() })
    }

    /// All images, oldest first.
    pub(crate) fn all(&self) -> Vec<ImageInfo> {
        let mut images: Vec<_> = self.read().values().cloned().collect();
        images.sort_by_key(|image| (image.created_at, image.fingerprint));
        images
    }

    /// The image that somebody means.
    ///
    /// # Errors
    /// [`Reason::ImageNotFound`]; [`Reason::InvalidArgument`] when a prefix fits several.
    pub(crate) fn find(&self, reference: &ImageRef) -> Result<ImageInfo, EngineError> {
        let images = self.all();
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
                let message = format!("there is no image {:?}", reference.to_string());
                Err(EngineError::new(Reason::ImageNotFound, message)
                    .hint(format!("images: {known}; to build one: insula image build images/debian-12.yaml")))
            }
        }
    }

    /// Keeps an image, and points its aliases to it. Those that it had before stay.
    pub(crate) async fn keep(self: &Arc<Self>, image: ImageInfo) -> Result<(), EngineError> {
        let images = self.clone();
        blocking("store an image", move || {
            let _alone = images.changing.lock().unwrap_or_else(PoisonError::into_inner);
            images.store.put_image(&image)?;
            let mut known = images.write();
            let before = known.remove(&image.fingerprint).map_or(vec![], |before| before.aliases);
            let aliases = [before, image.aliases.clone()].concat();
            known.insert(image.fingerprint, ImageInfo { aliases: vec![], ..image.clone() });
            aliases.iter().for_each(|alias| point(&mut known, alias, &image.fingerprint));
            Ok(())
        })
        .await
    }

    /// Forgets an image and its aliases.
    pub(crate) async fn forget(self: &Arc<Self>, image: Fingerprint) -> Result<(), EngineError> {
        let images = self.clone();
        blocking("forget an image", move || {
            let _alone = images.changing.lock().unwrap_or_else(PoisonError::into_inner);
            images.store.delete_image(&image)?;
            images.write().remove(&image);
            Ok(())
        })
        .await
    }

    /// Points an alias to an image, wherever it pointed before, and keeps the operation that does so. It blocks.
    pub(crate) fn set_alias(
        &self,
        alias: &ImageAlias,
        image: &Fingerprint,
        operation: &OperationRecord,
    ) -> Result<(), StoreError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.set_image_alias(alias, image, operation)?;
        point(&mut self.write(), alias, image);
        Ok(())
    }

    /// Removes an alias, and keeps the operation that does so. It blocks.
    pub(crate) fn delete_alias(
        &self,
        alias: &ImageAlias,
        operation: &OperationRecord,
    ) -> Result<(), StoreError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.delete_image_alias(alias, operation)?;
        self.write().values_mut().for_each(|image| image.aliases.retain(|other| other != alias));
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Fingerprint, ImageInfo>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Fingerprint, ImageInfo>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An alias points to one image.
fn point(images: &mut BTreeMap<Fingerprint, ImageInfo>, alias: &ImageAlias, to: &Fingerprint) {
    images.values_mut().for_each(|image| image.aliases.retain(|other| other != alias));
    if let Some(image) = images.get_mut(to) {
        image.aliases.push(alias.clone());
        image.aliases.sort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::records::blank_record;
    use crate::model::asked::Asked;
    use insula_store::Store;
    use insula_types::{Architecture, ByteSize, InitKind, OperationKind, Requester};

    fn image(byte: u8) -> ImageInfo {
        ImageInfo {
            fingerprint: Fingerprint::from_bytes([byte; 32]),
            pool: "default".parse().unwrap(),
            aliases: vec![],
            description: "Debian".to_owned(),
            distribution: "debian".to_owned(),
            release: "12".to_owned(),
            architecture: Architecture::NATIVE,
            init: InitKind::Systemd,
            size: ByteSize::mib(200),
            definition: Fingerprint::from_bytes([9; 32]),
            created_at: byte.into(),
        }
    }

    fn operation(kind: OperationKind) -> OperationRecord {
        blank_record(kind, String::new(), "", &Asked::by(Requester::root()), String::new())
    }

    #[tokio::test]
    async fn memory_has_after_each_change_what_the_database_has() {
        let directory = tempfile::tempdir().unwrap();
        let store = Database::new(Store::open(&directory.path().join("insula.db")).unwrap());
        let images = Arc::new(Images::load(store.clone()).unwrap());
        let [stable, testing, twelve]: [ImageAlias; 3] =
            ["stable", "testing", "debian-12"].map(|alias| alias.parse().unwrap());
        let (one, two) = (image(1), image(2));
        let called = |image: &ImageInfo, alias: &ImageAlias| ImageInfo {
            aliases: vec![alias.clone()],
            ..image.clone()
        };
        let same = |expected: [&[&ImageAlias]; 2]| {
            assert_eq!(images.all(), store.images().unwrap());
            let aliases = images.all().into_iter().map(|image| image.aliases);
            let expected =
                expected.iter().map(|of_one| of_one.iter().map(|alias| (*alias).clone()).collect());
            assert_eq!(aliases.collect::<Vec<_>>(), expected.collect::<Vec<Vec<_>>>());
        };
        images.keep(called(&one, &stable)).await.unwrap();
        images.keep(called(&two, &testing)).await.unwrap();
        same([&[&stable], &[&testing]]);
        // Built again under another alias: the image is the same, and has both.
        images.keep(called(&one, &twelve)).await.unwrap();
        same([&[&twelve, &stable], &[&testing]]);
        images.keep(called(&two, &stable)).await.unwrap();
        same([&[&twelve], &[&stable, &testing]]);
        images.set_alias(&testing, &one.fingerprint, &operation(OperationKind::SetImageAlias)).unwrap();
        same([&[&twelve, &testing], &[&stable]]);
        images.delete_alias(&twelve, &operation(OperationKind::DeleteImageAlias)).unwrap();
        same([&[&testing], &[&stable]]);
        // What the database refuses is not in memory either.
        let gone = image(3).fingerprint;
        assert!(images.set_alias(&testing, &gone, &operation(OperationKind::SetImageAlias)).is_err());
        same([&[&testing], &[&stable]]);
        images.forget(one.fingerprint).await.unwrap();
        assert_eq!(images.all(), store.images().unwrap());
        let reason = images.find(&ImageRef::Alias(testing)).unwrap_err().reason();
        assert_eq!(reason, Reason::ImageNotFound);
        assert_eq!(images.find(&ImageRef::Alias(stable)).unwrap().fingerprint, two.fingerprint);
    }
}
