//! Pools whose volumes are names in directories: what else may be there, and crashes between two renames.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use insula_storage::Volume;
use insula_types::{Fingerprint, VpsId};

use super::snapshot;
use crate::fixture::{TestPool, names};

pub fn what_is_no_volume_is_seen_and_left_alone(pool: &TestPool) {
    let image = pool.image(1);
    let (vps, _) = pool.vps(&image, None);
    fs::create_dir_all(pool.root().join("vps/not-an-id")).unwrap();
    fs::write(pool.root().join("images/README"), "").unwrap();
    let kept = snapshot(vps, "kept");
    pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
    let seen = pool.driver.observe().unwrap();
    assert_eq!(seen.strays, [PathBuf::from("images/README"), PathBuf::from("vps/not-an-id")]);
    for volume in [image, Volume::Root(vps), kept] {
        assert!(pool.driver.ensure_absent(&volume).unwrap());
    }
    pool.settle();
    assert_eq!(pool.driver.observe().unwrap().reclaiming, []);
    assert_eq!(names(&pool.root().join("vps")), ["not-an-id"]);
    assert_eq!(names(&pool.root().join("snapshots")), [""; 0]);
}

pub fn a_link_is_no_volume(pool: &TestPool) {
    let fingerprint = Fingerprint::from_bytes([2; 32]);
    let (place, elsewhere) =
        (pool.root().join(format!("images/{fingerprint}")), pool.root().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, &place).unwrap();
    pool.driver.open(&Volume::Image(fingerprint)).unwrap_err();
    pool.driver.ensure_absent(&Volume::Image(fingerprint)).unwrap_err();
    assert!(place.is_symlink() && elsewhere.exists());
}

/// The three states that a crash may leave: copied, the old root moved away, the copy in its place.
fn cut_off(pool: &TestPool, vps: VpsId, from: &Volume, renames: usize) {
    pool.driver.ensure_clone(from, &Volume::Incoming(vps)).unwrap();
    let place = |name: &str| pool.root().join(format!("vps/{vps}/{name}"));
    for (here, there) in [("root", "outgoing"), ("incoming", "root")].into_iter().take(renames) {
        fs::rename(place(here), place(there)).unwrap();
    }
}

/// A VPS with `old` in its root, and a snapshot without.
fn vps_with_a_snapshot(pool: &TestPool) -> (VpsId, Volume) {
    let (vps, _) = pool.vps(&Volume::Image(Fingerprint::from_bytes([7; 32])), None);
    let kept = snapshot(vps, "kept");
    pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
    pool.tree(&Volume::Root(vps)).write("old", 1);
    (vps, kept)
}

pub fn a_replacement_goes_on_wherever_it_was_cut_off(pool: &TestPool) {
    pool.image(1);
    for renames in 0..=2 {
        let (vps, kept) = vps_with_a_snapshot(pool);
        cut_off(pool, vps, &kept, renames);
        assert_eq!(pool.driver.replace_root(vps, &kept).unwrap(), renames < 2);
        assert_eq!(pool.tree(&Volume::Root(vps)).names(), ["image-data"]);
        assert_eq!(pool.tree(&Volume::Outgoing(vps)).names(), ["image-data", "old"]);
        pool.driver.commit_replacement(vps).unwrap();
        assert_eq!(names(&pool.root().join(format!("vps/{vps}"))), ["root"]);
    }
}

pub fn a_replacement_is_taken_back_wherever_it_was_cut_off(pool: &TestPool) {
    pool.image(1);
    for renames in 0..=2 {
        let (vps, kept) = vps_with_a_snapshot(pool);
        cut_off(pool, vps, &kept, renames);
        pool.driver.undo_replacement(vps).unwrap();
        assert_eq!(pool.tree(&Volume::Root(vps)).names(), ["image-data", "old"]);
        assert_eq!(names(&pool.root().join(format!("vps/{vps}"))), ["root"]);
    }
}

pub fn half_a_replacement_with_another_copy_is_begun_anew(pool: &TestPool) {
    let image = pool.image(1);
    let (vps, kept) = vps_with_a_snapshot(pool);
    pool.tree(&Volume::Root(vps)).write("newer", 1);
    let newer = snapshot(vps, "newer");
    pool.driver.ensure_clone(&Volume::Root(vps), &newer).unwrap();
    cut_off(pool, vps, &kept, 0);
    assert!(pool.driver.replace_root(vps, &newer).unwrap());
    assert_eq!(pool.tree(&Volume::Root(vps)).names(), ["image-data", "newer", "old"]);
    pool.driver.undo_replacement(vps).unwrap();
    // Where the old root is away already, the copy is not exchanged for another.
    cut_off(pool, vps, &kept, 1);
    pool.driver.replace_root(vps, &image).unwrap_err();
    pool.driver.undo_replacement(vps).unwrap();
    assert_eq!(pool.tree(&Volume::Root(vps)).names(), ["image-data", "newer", "old"]);
}
