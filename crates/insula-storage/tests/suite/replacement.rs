//! Restores and rebuilds: a root in the place of another.

use insula_storage::{Volume, VolumeError};
use insula_types::{Fingerprint, VpsId};

use super::snapshot;
use crate::fixture::TestPool;

/// A VPS with a snapshot of each stage of its life: of a root with `one`; `one` and `two`; `one`, `two` and `three`.
fn vps_with_a_past(pool: &TestPool) -> (VpsId, [Volume; 3]) {
    let (vps, _) = pool.vps(&pool.image(1), None);
    let snapshots = ["one", "two", "three"].map(|name| {
        pool.tree(&Volume::Root(vps)).write(name, 1);
        let kept = snapshot(vps, name);
        pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
        kept
    });
    pool.tree(&Volume::Root(vps)).write("lost", 1);
    (vps, snapshots)
}

fn names(pool: &TestPool, volume: &Volume) -> Vec<String> {
    let mut names = pool.tree(volume).names();
    names.retain(|name| name != "image-data");
    names
}

fn expect_past(pool: &TestPool, [one, two, three]: &[Volume; 3]) {
    assert_eq!(names(pool, one), ["one"]);
    assert_eq!(names(pool, two), ["one", "two"]);
    assert_eq!(names(pool, three), ["one", "three", "two"]);
}

pub fn a_replaced_root_is_the_copy_and_the_old_one_is_kept(pool: &TestPool) {
    let (vps, past) = vps_with_a_past(pool);
    assert!(pool.driver.replace_root(vps, &past[1]).unwrap());
    assert_eq!(names(pool, &Volume::Root(vps)), ["one", "two"]);
    assert_eq!(names(pool, &Volume::Outgoing(vps)), ["lost", "one", "three", "two"]);
    expect_past(pool, &past);
    pool.driver.commit_replacement(vps).unwrap();
    let error = pool.driver.open(&Volume::Outgoing(vps)).unwrap_err();
    assert!(matches!(error, VolumeError::Missing(Volume::Outgoing(_))), "{error}");
    expect_past(pool, &past);
}

pub fn a_replacement_is_made_committed_and_undone_once(pool: &TestPool) {
    let (vps, past) = vps_with_a_past(pool);
    assert!(pool.driver.replace_root(vps, &past[0]).unwrap());
    pool.tree(&Volume::Root(vps)).write("kept", 1);
    assert!(!pool.driver.replace_root(vps, &past[0]).unwrap());
    let error = pool.driver.replace_root(vps, &past[1]).unwrap_err();
    assert!(matches!(error, VolumeError::OtherOrigin { .. }), "{error}");
    pool.driver.commit_replacement(vps).unwrap();
    pool.driver.commit_replacement(vps).unwrap();
    pool.driver.undo_replacement(vps).unwrap();
    assert_eq!(names(pool, &Volume::Root(vps)), ["kept", "one"]);
}

pub fn a_replacement_can_be_taken_back(pool: &TestPool) {
    let (vps, past) = vps_with_a_past(pool);
    let before = pool.driver.observe().unwrap().volumes;
    pool.driver.undo_replacement(vps).unwrap();
    pool.driver.replace_root(vps, &past[0]).unwrap();
    pool.tree(&Volume::Root(vps)).write("in-vain", 1);
    for _ in 0..2 {
        pool.driver.undo_replacement(vps).unwrap();
        assert_eq!(names(pool, &Volume::Root(vps)), ["lost", "one", "three", "two"]);
        assert_eq!(pool.driver.observe().unwrap().volumes, before);
        expect_past(pool, &past);
    }
    pool.driver.replace_root(vps, &past[1]).unwrap();
    assert_eq!(names(pool, &Volume::Root(vps)), ["one", "two"]);
}

/// Back, forth, and back again; and what was taken of one root and of another is all there.
pub fn snapshots_outlive_the_roots_that_they_were_taken_of(pool: &TestPool) {
    let (vps, past) = vps_with_a_past(pool);
    let restore = |to: &Volume| {
        pool.driver.replace_root(vps, to).unwrap();
        pool.driver.commit_replacement(vps).unwrap();
    };
    restore(&past[1]);
    pool.tree(&Volume::Root(vps)).write("new", 1);
    let new = snapshot(vps, "new");
    pool.driver.ensure_clone(&Volume::Root(vps), &new).unwrap();
    for (to, expected) in
        [(&past[2], &["one", "three", "two"][..]), (&past[0], &["one"]), (&past[0], &["one"])]
    {
        restore(to);
        assert_eq!(names(pool, &Volume::Root(vps)), expected);
        expect_past(pool, &past);
    }
    restore(&new);
    assert_eq!(names(pool, &Volume::Root(vps)), ["new", "one", "two"]);
    // What the root came from may go, and the root stays.
    assert!(pool.driver.ensure_absent(&new).unwrap());
    assert_eq!(names(pool, &Volume::Root(vps)), ["new", "one", "two"]);
    expect_past(pool, &past);
}

pub fn a_rebuilt_root_comes_from_an_image_and_can_go_back(pool: &TestPool) {
    let (vps, past) = vps_with_a_past(pool);
    let image = Volume::Image(Fingerprint::from_bytes([7; 32]));
    pool.driver.replace_root(vps, &image).unwrap();
    pool.driver.commit_replacement(vps).unwrap();
    assert_eq!(pool.tree(&Volume::Root(vps)).names(), ["image-data"]);
    expect_past(pool, &past);
    pool.driver.replace_root(vps, &past[2]).unwrap();
    pool.driver.commit_replacement(vps).unwrap();
    assert_eq!(names(pool, &Volume::Root(vps)), ["one", "three", "two"]);
    expect_past(pool, &past);
}

pub fn a_replacement_without_a_root_or_a_source_is_refused(pool: &TestPool) {
    let image = pool.image(1);
    let nobody = VpsId::new();
    let error = pool.driver.replace_root(nobody, &image).unwrap_err();
    assert!(matches!(error, VolumeError::Missing(Volume::Root(id)) if id == nobody), "{error}");
    let error = pool.driver.commit_replacement(nobody).unwrap_err();
    assert!(matches!(error, VolumeError::Missing(Volume::Root(id)) if id == nobody), "{error}");
    let (vps, _) = pool.vps(&image, None);
    let error = pool.driver.replace_root(vps, &snapshot(vps, "none")).unwrap_err();
    assert!(matches!(error, VolumeError::Missing(Volume::Snapshot(..))), "{error}");
    assert_eq!(pool.driver.observe().unwrap().volumes, [image, Volume::Root(vps)]);
}
