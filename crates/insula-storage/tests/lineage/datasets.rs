//! Datasets as of ZFS (zfs-snapshot(8), zfs-clone(8), zfs-promote(8), zfs-rollback(8)), with directories for their contents.
//!
//! A snapshot belongs to its dataset, and goes wherever that is renamed to. A dataset can't be destroyed while it has
//! snapshots, nor a snapshot while it has clones. A clone has its origin; promoted, it takes that snapshot and the older ones
//! over, and the dataset that had them becomes the clone. A rollback is refused while there are newer snapshots.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use insula_sys::program::Program;

/// A snapshot: its dataset's name, and its own.
pub type Snapshot = (String, String);

/// All datasets of a pool, by name.
#[derive(Debug)]
pub struct Datasets {
    top: PathBuf,
    all: BTreeMap<String, Dataset>,
}

#[derive(Debug, Default)]
pub struct Dataset {
    pub origin: Option<Snapshot>,
    /// The oldest first.
    pub snapshots: Vec<String>,
}

impl Datasets {
    pub fn new(top: &Path) -> Self {
        Self { top: top.to_owned(), all: BTreeMap::new() }
    }

    pub fn all(&self) -> &BTreeMap<String, Dataset> {
        &self.all
    }

    pub fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    /// Where a dataset is mounted, or would be.
    pub fn mount_point(&self, name: &str) -> PathBuf {
        self.top.join(name.replace('/', "+"))
    }

    pub fn snapshot_path(&self, dataset: &str, name: &str) -> PathBuf {
        self.mount_point(&format!("{dataset}@{name}"))
    }

    /// The clones of a snapshot.
    pub fn clones(&self, dataset: &str, name: &str) -> Vec<String> {
        let is_clone =
            |other: &Dataset| matches!(&other.origin, Some((of, at)) if of == dataset && at == name);
        self.all.iter().filter(|(_, other)| is_clone(other)).map(|(name, _)| name.clone()).collect()
    }

    pub fn create(&mut self, name: &str) -> io::Result<()> {
        self.expect_free(name)?;
        fs::create_dir(self.mount_point(name))?;
        self.all.insert(name.to_owned(), Dataset::default());
        Ok(())
    }

    pub fn snapshot(&mut self, dataset: &str, name: &str) -> io::Result<()> {
        let (from, to) = (self.mount_point(dataset), self.snapshot_path(dataset, name));
        let snapshots = &mut self.get(dataset)?.snapshots;
        refuse_if(snapshots.iter().any(|other| other == name), "dataset already exists")?;
        snapshots.push(name.to_owned());
        copy(&from, &to)
    }

    pub fn clone_snapshot(&mut self, dataset: &str, name: &str, to: &str) -> io::Result<()> {
        self.expect_free(to)?;
        copy(&self.snapshot_path(dataset, name), &self.mount_point(to))?;
        let origin = Some((dataset.to_owned(), name.to_owned()));
        self.all.insert(to.to_owned(), Dataset { origin, snapshots: vec![] });
        Ok(())
    }

    pub fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.expect_free(to)?;
        for name in self.get(from)?.snapshots.clone() {
            fs::rename(self.snapshot_path(from, &name), self.snapshot_path(to, &name))?;
        }
        fs::rename(self.mount_point(from), self.mount_point(to))?;
        let renamed = self.all.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.all.insert(to.to_owned(), renamed);
        self.follow(|(dataset, _)| {
            if dataset == from {
                *dataset = to.to_owned();
            }
        });
        Ok(())
    }

    pub fn rename_snapshot(&mut self, dataset: &str, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.snapshot_path(dataset, from), self.snapshot_path(dataset, to))?;
        let rename = |name: &mut String| {
            if name == from {
                *name = to.to_owned();
            }
        };
        self.get(dataset)?.snapshots.iter_mut().for_each(rename);
        self.follow(|(of, name)| {
            if of == dataset {
                rename(name);
            }
        });
        Ok(())
    }

    pub fn destroy(&mut self, name: &str) -> io::Result<()> {
        refuse_if(!self.get(name)?.snapshots.is_empty(), "filesystem has children")?;
        self.all.remove(name);
        fs::remove_dir_all(self.mount_point(name))
    }

    pub fn destroy_snapshot(&mut self, dataset: &str, name: &str) -> io::Result<()> {
        refuse_if(!self.clones(dataset, name).is_empty(), "snapshot has dependent clones")?;
        self.get(dataset)?.snapshots.retain(|other| other != name);
        fs::remove_dir_all(self.snapshot_path(dataset, name))
    }

    pub fn promote(&mut self, clone: &str) -> io::Result<()> {
        let Some((parent, at)) = self.get(clone)?.origin.clone() else {
            return Err(io::Error::other("not a cloned filesystem"));
        };
        let above = self.get(&parent)?.origin.clone();
        let snapshots = &mut self.get(&parent)?.snapshots;
        let count = snapshots.iter().position(|name| *name == at).map_or(0, |index| index + 1);
        let moved: Vec<String> = snapshots.drain(..count).collect();
        for name in &moved {
            fs::rename(self.snapshot_path(&parent, name), self.snapshot_path(clone, name))?;
        }
        self.follow(|(dataset, name)| {
            if *dataset == parent && moved.contains(name) {
                *dataset = clone.to_owned();
            }
        });
        self.get(&parent)?.origin = Some((clone.to_owned(), at));
        let promoted = self.get(clone)?;
        promoted.origin = above;
        promoted.snapshots.splice(..0, moved);
        Ok(())
    }

    pub fn rollback(&mut self, dataset: &str, name: &str) -> io::Result<()> {
        let newest = self.get(dataset)?.snapshots.last().cloned();
        refuse_if(newest.as_deref() != Some(name), "more recent snapshots exist")?;
        fs::remove_dir_all(self.mount_point(dataset))?;
        copy(&self.snapshot_path(dataset, name), &self.mount_point(dataset))
    }

    fn follow(&mut self, change: impl Fn(&mut Snapshot)) {
        self.all.values_mut().filter_map(|dataset| dataset.origin.as_mut()).for_each(change);
    }

    fn get(&mut self, name: &str) -> io::Result<&mut Dataset> {
        self.all.get_mut(name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn expect_free(&self, name: &str) -> io::Result<()> {
        refuse_if(self.has(name), "dataset already exists")
    }
}

fn refuse_if(is_refused: bool, why: &'static str) -> io::Result<()> {
    if is_refused { Err(io::Error::other(why)) } else { Ok(()) }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    Program::new("cp").arg("-a").arg(from).arg(to).output().map(drop).map_err(io::Error::other)
}

#[test]
fn lineage_is_kept_as_zfs_keeps_it() {
    let top = tempfile::tempdir().unwrap();
    let mut pool = Datasets::new(top.path());
    let mark = |pool: &Datasets, name: &str| fs::write(pool.mount_point("a").join(name), "").unwrap();
    pool.create("a").unwrap();
    for name in ["one", "two", "three"] {
        mark(&pool, name);
        pool.snapshot("a", name).unwrap();
    }
    let why = |result: io::Result<()>| result.unwrap_err().to_string();
    assert_eq!(why(pool.rollback("a", "two")), "more recent snapshots exist");
    mark(&pool, "lost");
    pool.rollback("a", "three").unwrap();
    assert_eq!(fs::read_dir(pool.mount_point("a")).unwrap().count(), 3);

    pool.clone_snapshot("a", "two", "b").unwrap();
    assert_eq!(why(pool.destroy_snapshot("a", "two")), "snapshot has dependent clones");
    assert_eq!(why(pool.destroy("a")), "filesystem has children");
    assert_eq!(why(pool.promote("a")), "not a cloned filesystem");
    pool.promote("b").unwrap();
    assert_eq!(
        (&*pool.all()["b"].snapshots, &pool.all()["b"].origin),
        (&["one".into(), "two".into()][..], &None)
    );
    assert_eq!(pool.all()["a"].snapshots, ["three"]);
    assert_eq!(pool.all()["a"].origin, Some(("b".into(), "two".into())));
    pool.rename("b", "c").unwrap();
    pool.rename_snapshot("c", "two", "zwei").unwrap();
    assert_eq!(pool.all()["a"].origin, Some(("c".into(), "zwei".into())));
    pool.destroy_snapshot("a", "three").unwrap();
    pool.destroy("a").unwrap();
    assert_eq!(fs::read_dir(pool.snapshot_path("c", "zwei")).unwrap().count(), 2);
}
