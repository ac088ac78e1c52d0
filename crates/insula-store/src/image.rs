//! Images and their aliases.

use insula_types::{Fingerprint, ImageAlias, ImageInfo, OperationRecord};
use rusqlite::params;

use crate::StoreError;
use crate::column::{json_rows, parsed, to_json};
use crate::database::{Change, Store};
use crate::operation::insert_operation;

impl Store {
    /// All images, oldest first, with their aliases.
    pub fn images(&self) -> Result<Vec<ImageInfo>, StoreError> {
        self.read("list images", |db| {
            let mut images: Vec<ImageInfo> = json_rows(db, "SELECT info FROM image")?;
            let aliases: Vec<(ImageAlias, Fingerprint)> = db
                .prepare_cached("SELECT alias, fingerprint FROM image_alias ORDER BY alias")?
                .query_map([], |row| Ok((parsed(row, "alias")?, parsed(row, "fingerprint")?)))?
                .collect::<Result<_, _>>()?;
            for image in &mut images {
                let own = aliases.iter().filter(|(_, fingerprint)| *fingerprint == image.fingerprint);
                image.aliases = own.map(|(alias, _)| alias.clone()).collect();
            }
            images.sort_by_key(|image| (image.created_at, image.fingerprint));
            Ok(images)
        })
    }

    /// Keeps an image and points its aliases to it, wherever they pointed before. Keeping the same
    /// image again is allowed.
    pub fn put_image(&self, image: &ImageInfo) -> Result<(), StoreError> {
        let fingerprint = image.fingerprint.to_string();
        let info = to_json(&ImageInfo { aliases: vec![], ..image.clone() });
        self.write("store an image", |change| {
            change.execute(
                "INSERT INTO image (fingerprint, info) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET info = excluded.info",
                params![fingerprint, info],
            )?;
            for alias in &image.aliases {
                point(change, alias, &image.fingerprint)?;
            }
            Ok(())
        })
    }

    /// Points an alias to an image that is kept, wherever it pointed before, and keeps the
    /// operation that does so.
    pub fn set_image_alias(
        &self,
        alias: &ImageAlias,
        image: &Fingerprint,
        operation: &OperationRecord,
    ) -> Result<(), StoreError> {
        self.write("point an alias to an image", |change| {
            insert_operation(change, operation)?;
            point(change, alias, image)
        })
    }

    /// Removes an alias and keeps the operation that does so. Returns `false`, and keeps nothing,
    /// if there is no such alias.
    pub fn delete_image_alias(
        &self,
        alias: &ImageAlias,
        operation: &OperationRecord,
    ) -> Result<bool, StoreError> {
        self.write("remove an alias", |change| {
            let removed = change.execute("DELETE FROM image_alias WHERE alias = ?1", [alias.as_str()])? > 0;
            if removed {
                insert_operation(change, operation)?;
            }
            Ok(removed)
        })
    }

    /// Removes an image and its aliases. Does nothing if they have been removed already.
    pub fn delete_image(&self, fingerprint: &Fingerprint) -> Result<(), StoreError> {
        self.write("forget an image", |change| {
            change.execute("DELETE FROM image WHERE fingerprint = ?1", [fingerprint.to_string()]).map(drop)
        })
    }
}

fn point(change: &Change<'_>, alias: &ImageAlias, image: &Fingerprint) -> rusqlite::Result<()> {
    let row = [alias.as_str(), &image.to_string()];
    change.execute("INSERT OR REPLACE INTO image_alias (alias, fingerprint) VALUES (?1, ?2)", row).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{operation, store};
    use insula_types::{Architecture, ByteSize, InitKind, OperationKind};

    fn image(byte: u8, alias: &str) -> ImageInfo {
        ImageInfo {
            fingerprint: Fingerprint::from_bytes([byte; 32]),
            pool: "default".parse().unwrap(),
            aliases: vec![alias.parse().unwrap()],
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

    #[test]
    fn an_alias_moves_to_the_newer_image_and_back() {
        let (_directory, store) = store();
        let (old, new) = (image(1, "debian-12"), image(2, "debian-12"));
        store.put_image(&old).unwrap();
        store.put_image(&new).unwrap();
        assert_eq!(store.images().unwrap(), [ImageInfo { aliases: vec![], ..old.clone() }, new.clone()]);
        let set = operation(OperationKind::SetImageAlias);
        store.set_image_alias(&new.aliases[0], &old.fingerprint, &set).unwrap();
        assert_eq!(store.images().unwrap(), [old, ImageInfo { aliases: vec![], ..new.clone() }]);
        assert_eq!(store.operation(&set.id).unwrap(), Some(set));
        for _ in 0..2 {
            store.delete_image(&new.fingerprint).unwrap();
        }
        assert_eq!(store.images().unwrap().len(), 1);
    }

    #[test]
    fn an_alias_is_set_and_removed_with_its_operation_or_not_at_all() {
        let (_directory, store) = store();
        let (set, delete) =
            (operation(OperationKind::SetImageAlias), operation(OperationKind::DeleteImageAlias));
        let alias = "debian-12".parse().unwrap();
        assert!(store.set_image_alias(&alias, &Fingerprint::from_bytes([1; 32]), &set).is_err());
        assert!(!store.delete_image_alias(&alias, &delete).unwrap());
        assert_eq!((store.unfinished_operations().unwrap(), store.last_event()), (vec![], 0));
        store.put_image(&image(1, "debian-12")).unwrap();
        assert!(store.delete_image_alias(&alias, &delete).unwrap());
        assert_eq!(store.unfinished_operations().unwrap(), [delete]);
        assert_eq!(store.images().unwrap()[0].aliases, []);
    }
}
