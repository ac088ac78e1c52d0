//! What every driver must do, whatever it is made of.

mod family;
mod places;
mod replacement;

use std::fs;
use std::io::ErrorKind;

use insula_storage::{BlockDevices, DiskLimits, Volume, VolumeError};
use insula_types::{ByteSize, Fingerprint, OperationId, SnapshotName, VpsId};

use crate::fixture::{TestPool, write};

pub use family::*;
pub use places::*;
pub use replacement::*;

/// Makes each function a test on the pool that `$pool` makes.
macro_rules! driver_suite {
    ($name:ident, $pool:path) => {
        mod $name {
            $crate::suite::driver_suite!(@tests $pool,
                an_empty_volume_is_made_once,
                a_clone_is_a_copy_of_its_own,
                a_clone_is_made_once,
                a_missing_source_is_named,
                an_image_is_published_once_and_read_only,
                everything_in_the_pool_is_seen,
                a_limit_of_nothing_is_refused,
                devices_are_named_or_it_is_said_why_not,
                a_volume_is_where_programs_are_told,
                volumes_go_in_any_order,
                a_name_that_was_removed_is_free_although_copies_live,
                a_replaced_root_is_the_copy_and_the_old_one_is_kept,
                a_replacement_is_made_committed_and_undone_once,
                a_replacement_can_be_taken_back,
                snapshots_outlive_the_roots_that_they_were_taken_of,
                a_rebuilt_root_comes_from_an_image_and_can_go_back,
                a_replacement_without_a_root_or_a_source_is_refused,
            );
        }
    };
    (@tests $pool:path, $($test:ident,)*) => {
        $(#[test]
        fn $test() {
            $crate::suite::$test(&$pool());
        })*
    };
}
pub(crate) use driver_suite;

/// The same of what a driver must do whose volumes are names in directories of the pool.
macro_rules! places_suite {
    ($name:ident, $pool:path) => {
        mod $name {
            $crate::suite::driver_suite!(@tests $pool,
                what_is_no_volume_is_seen_and_left_alone,
                a_link_is_no_volume,
                a_replacement_goes_on_wherever_it_was_cut_off,
                a_replacement_is_taken_back_wherever_it_was_cut_off,
                half_a_replacement_with_another_copy_is_begun_anew,
            );
        }
    };
}
pub(crate) use places_suite;

/// The same of what a driver must do that holds limits.
macro_rules! quota_suite {
    ($name:ident, $pool:path) => {
        mod $name {
            $crate::suite::driver_suite!(@tests $pool,
                a_limit_holds_and_the_image_is_free,
                a_limit_can_be_changed_and_lifted,
                a_full_vps_can_be_cleaned_snapshotted_and_deleted,
                restoring_and_rewriting_does_not_escape_the_limit,
            );
        }
    };
}
pub(crate) use quota_suite;

const MIB: u64 = 1 << 20;

fn snapshot(vps: VpsId, name: &str) -> Volume {
    Volume::Snapshot(vps, name.parse::<SnapshotName>().unwrap())
}

pub fn an_empty_volume_is_made_once(pool: &TestPool) {
    let volume = Volume::Staging(OperationId::new());
    assert!(pool.driver.ensure_empty(&volume).unwrap());
    pool.tree(&volume).write("kept", 1);
    assert!(!pool.driver.ensure_empty(&volume).unwrap());
    assert_eq!(pool.tree(&volume).names(), ["kept"]);
    assert!(pool.driver.ensure_absent(&volume).unwrap());
    assert!(!pool.driver.ensure_absent(&volume).unwrap());
    let error = pool.driver.open(&volume).unwrap_err();
    assert!(matches!(&error, VolumeError::Missing(missing) if *missing == volume), "{error}");
}

pub fn a_clone_is_a_copy_of_its_own(pool: &TestPool) {
    let image = pool.image(MIB);
    let (vps, _) = pool.vps(&image, None);
    let root = pool.tree(&Volume::Root(vps));
    root.write("mine", 1);
    root.remove("image-data");
    assert_eq!(pool.tree(&image).names(), ["image-data"]);

    let first = snapshot(vps, "first");
    pool.driver.ensure_clone(&Volume::Root(vps), &first).unwrap();
    root.write("later", 1);
    assert_eq!(pool.tree(&first).names(), ["mine"]);
    if pool.driver.abilities().read_only {
        let error = pool.tree(&first).try_write("x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    }
}

pub fn a_clone_is_made_once(pool: &TestPool) {
    let image = pool.image(1);
    let (vps, _) = pool.vps(&image, None);
    pool.tree(&Volume::Root(vps)).write("mine", 1);
    assert!(!pool.driver.ensure_clone(&image, &Volume::Root(vps)).unwrap());
    assert_eq!(pool.tree(&Volume::Root(vps)).names(), ["image-data", "mine"]);

    // A root must never be taken for the copy of something else.
    let kept = snapshot(vps, "kept");
    assert!(pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap());
    assert!(!pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap());
    let error = pool.driver.ensure_clone(&kept, &Volume::Root(vps)).unwrap_err();
    assert!(matches!(error, VolumeError::OtherOrigin { .. }), "{error}");
}

pub fn a_missing_source_is_named(pool: &TestPool) {
    let vps = VpsId::new();
    let missing = Volume::Image(Fingerprint::from_bytes([1; 32]));
    let error = pool.driver.ensure_clone(&missing, &Volume::Root(vps)).unwrap_err();
    assert!(matches!(&error, VolumeError::Missing(volume) if *volume == missing), "{error}");
    let error = pool.driver.ensure_clone(&Volume::Root(vps), &snapshot(vps, "first")).unwrap_err();
    assert!(matches!(error, VolumeError::Missing(Volume::Root(_))), "{error}");
    assert!(!pool.driver.ensure_absent(&Volume::Root(vps)).unwrap());
    assert_eq!(pool.driver.observe().unwrap().volumes, []);
}

pub fn an_image_is_published_once_and_read_only(pool: &TestPool) {
    let image = pool.image(1);
    assert!(!pool.driver.abilities().read_only || pool.tree(&image).try_write("x").is_err());
    // The crash after the last step: the whole call comes again. And another build of the same content.
    let staging = Volume::Staging(OperationId::new());
    pool.driver.seal(&staging, &image).unwrap();
    pool.driver.ensure_empty(&staging).unwrap();
    pool.driver.seal(&staging, &image).unwrap();
    assert_eq!(pool.driver.observe().unwrap().volumes, std::slice::from_ref(&image));
    assert_eq!(pool.tree(&image).names(), ["image-data"]);
}

pub fn everything_in_the_pool_is_seen(pool: &TestPool) {
    let image = pool.image(MIB);
    let (vps, _) = pool.vps(&image, None);
    let staging = Volume::Staging(OperationId::new());
    let kept = snapshot(vps, "now");
    pool.driver.ensure_empty(&staging).unwrap();
    pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
    pool.driver.replace_root(vps, &kept).unwrap();
    let volumes = [image, staging, Volume::Root(vps), Volume::Outgoing(vps), kept];
    let seen = pool.driver.observe().unwrap();
    assert_eq!(seen.volumes, volumes);
    assert_eq!(seen.strays, [""; 0].map(std::path::PathBuf::from));
    assert!(seen.used.bytes() > 0 && seen.available.bytes() > 0 && seen.used.bytes() < seen.total.bytes());

    for volume in &volumes {
        assert!(pool.driver.ensure_absent(volume).unwrap());
    }
    assert_eq!(pool.driver.observe().unwrap().volumes, []);
    pool.settle();
    assert_eq!(pool.driver.observe().unwrap().reclaiming, []);
}

pub fn devices_are_named_or_it_is_said_why_not(pool: &TestPool) {
    match pool.driver.block_devices().unwrap() {
        BlockDevices::Below(devices) => {
            assert!(!devices.is_empty());
            for device in devices {
                let disk = std::path::PathBuf::from(format!("/sys/dev/block/{device}"));
                assert!(disk.join("queue").exists(), "{device} is a whole disk");
            }
        }
        BlockDevices::None { why } => assert!(!why.is_empty()),
    }
}

pub fn a_volume_is_where_programs_are_told(pool: &TestPool) {
    let image = pool.image(1);
    let (vps, path) = pool.vps(&image, None);
    assert_eq!(pool.driver.lasting_path(&Volume::Root(vps)), path);
    fs::write(path.join("by-path"), "").unwrap();
    assert_eq!(pool.tree(&Volume::Root(vps)).names(), ["by-path", "image-data"]);
    pool.driver.replace_root(vps, &image).unwrap();
    assert_eq!(crate::fixture::names(&path), ["image-data"]);
}

pub fn a_limit_holds_and_the_image_is_free(pool: &TestPool) {
    let (limit, image) = (ByteSize::mib(64), pool.image(80 * MIB));
    let (vps, root) = pool.vps(&image, Some(limit));
    assert!(pool.used(vps) < MIB, "the blocks of the image are not counted");
    let written = write(&root.join("much"), 2 * limit.bytes());
    assert!(written <= limit.bytes() && limit.bytes() - written < MIB, "{written} of {limit}");
    let used = pool.used(vps);
    assert!(used <= limit.bytes() && limit.bytes() - used < MIB, "{used} of {limit}");
    assert_eq!(pool.driver.usage(vps).unwrap().limit, Some(limit));
}

pub fn a_limit_can_be_changed_and_lifted(pool: &TestPool) {
    let (vps, root) = pool.vps(&pool.image(1), Some(ByteSize::mib(64)));
    assert!(write(&root.join("file"), 100 * MIB) < 64 * MIB);
    pool.driver.set_limit(vps, Some(ByteSize::mib(128))).unwrap();
    assert_eq!(write(&root.join("file"), 100 * MIB), 100 * MIB);
    // Below what is there: nothing is lost, nothing more goes in.
    pool.driver.set_limit(vps, Some(ByteSize::mib(64))).unwrap();
    assert_eq!(write(&root.join("more"), MIB), 0);
    assert_eq!(fs::metadata(root.join("file")).unwrap().len(), 100 * MIB);
    pool.driver.set_limit(vps, None).unwrap();
    assert_eq!(write(&root.join("more"), 100 * MIB), 100 * MIB);
    assert_eq!(pool.driver.usage(vps).unwrap().limit, None);
}

pub fn a_full_vps_can_be_cleaned_snapshotted_and_deleted(pool: &TestPool) {
    let (vps, root) = pool.vps(&pool.image(MIB), Some(ByteSize::mib(64)));
    write(&root.join("much"), 100 * MIB);
    write(&root.join("rest"), 100 * MIB);
    pool.driver.ensure_clone(&Volume::Root(vps), &snapshot(vps, "full")).unwrap();
    fs::remove_file(root.join("much")).unwrap();
    assert!(pool.driver.ensure_absent(&snapshot(vps, "full")).unwrap());
    pool.settle();
    assert_eq!(write(&root.join("again"), 32 * MIB), 32 * MIB);
    write(&root.join("rest"), 100 * MIB);
    assert!(pool.driver.ensure_absent(&Volume::Root(vps)).unwrap());
}

pub fn restoring_and_rewriting_does_not_escape_the_limit(pool: &TestPool) {
    let (vps, root) = pool.vps(&pool.image(1), Some(ByteSize::mib(64)));
    assert_eq!(write(&root.join("file"), 40 * MIB), 40 * MIB);
    let kept = snapshot(vps, "kept");
    pool.driver.ensure_clone(&Volume::Root(vps), &kept).unwrap();
    pool.driver.replace_root(vps, &kept).unwrap();
    pool.driver.commit_replacement(vps).unwrap();
    pool.settle();
    let used = pool.used(vps);
    assert!((40 * MIB..41 * MIB).contains(&used), "the snapshot's blocks count: {used}");
    let written = write(&root.join("file"), 40 * MIB);
    assert!(written < 24 * MIB, "{written}");
    pool.driver.ensure_absent(&kept).unwrap();
    pool.settle();
    assert_eq!(write(&root.join("file"), 40 * MIB), 40 * MIB, "the snapshot's space came back");
}

pub fn a_limit_of_nothing_is_refused(pool: &TestPool) {
    let vps = VpsId::new();
    let error = pool.driver.set_limit(vps, Some(ByteSize::mib(64))).unwrap_err();
    match pool.driver.abilities().limits {
        DiskLimits::None => assert!(matches!(error, VolumeError::NoQuota(id) if id == vps), "{error}"),
        _ => assert!(matches!(error, VolumeError::Missing(Volume::Root(id)) if id == vps), "{error}"),
    }
}
