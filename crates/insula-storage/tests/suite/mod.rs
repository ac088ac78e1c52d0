//! What every driver must do, whatever it is made of.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use insula_storage::{QuotaKind, Volume, VolumeError};
use insula_types::{ByteSize, Fingerprint, OperationId, SnapshotName, VpsId};

use crate::fixture::{TestPool, write};

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
                a_renamed_volume_keeps_its_content_and_may_be_renamed_twice,
                everything_in_the_pool_is_seen,
                what_is_no_volume_is_left_alone,
                a_limit_of_nothing_is_refused,
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

fn names(path: PathBuf) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn an_empty_volume_is_made_once(pool: &TestPool) {
    let volume = Volume::Staging(OperationId::new());
    assert!(pool.driver.ensure_empty(&volume).unwrap());
    write(&pool.driver.path(&volume).join("kept"), 1);
    assert!(!pool.driver.ensure_empty(&volume).unwrap());
    assert_eq!(names(pool.driver.path(&volume)), ["kept"]);
    assert!(pool.driver.ensure_absent(&volume).unwrap());
    assert!(!pool.driver.ensure_absent(&volume).unwrap());
    assert!(!pool.driver.path(&volume).exists());
}

pub fn a_clone_is_a_copy_of_its_own(pool: &TestPool) {
    let image = pool.image(MIB);
    let (vps, root) = pool.vps(&image, None);
    write(&root.join("mine"), 1);
    fs::remove_file(root.join("image-data")).unwrap();
    assert_eq!(names(pool.driver.path(&image)), ["image-data"]);

    let first = snapshot(vps, "first");
    pool.driver.ensure_clone(&Volume::Root(vps), &first, true).unwrap();
    write(&root.join("later"), 1);
    assert_eq!(names(pool.driver.path(&first)), ["mine"]);
    if pool.driver.abilities().read_only {
        let error = fs::write(pool.driver.path(&first).join("x"), "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem);
    }
}

pub fn a_clone_is_made_once(pool: &TestPool) {
    let image = pool.image(1);
    let (vps, root) = pool.vps(&image, None);
    write(&root.join("mine"), 1);
    assert!(!pool.driver.ensure_clone(&image, &Volume::Root(vps), false).unwrap());
    assert!(root.join("mine").exists());

    // A restore must never find the root-to-be of another one, and take it for its own.
    let incoming = Volume::Incoming(vps);
    for name in ["a", "b"] {
        pool.driver.ensure_clone(&Volume::Root(vps), &snapshot(vps, name), true).unwrap();
    }
    assert!(pool.driver.ensure_clone(&snapshot(vps, "a"), &incoming, false).unwrap());
    let error = pool.driver.ensure_clone(&snapshot(vps, "b"), &incoming, false).unwrap_err();
    assert!(matches!(error, VolumeError::OtherOrigin { .. }), "{error}");
}

pub fn a_missing_source_is_named(pool: &TestPool) {
    let vps = VpsId::new();
    let missing = Volume::Image(Fingerprint::from_bytes([1; 32]));
    let error = pool.driver.ensure_clone(&missing, &Volume::Root(vps), false).unwrap_err();
    assert!(matches!(&error, VolumeError::Missing(volume) if *volume == missing), "{error}");
    let error = pool.driver.ensure_renamed(&Volume::Root(vps), &Volume::Outgoing(vps)).unwrap_err();
    assert!(matches!(error, VolumeError::Missing(Volume::Root(_))), "{error}");
    assert!(!pool.driver.ensure_absent(&Volume::Root(vps)).unwrap());
    assert_eq!(pool.driver.observe().unwrap().volumes, []);
}

pub fn an_image_is_published_once_and_read_only(pool: &TestPool) {
    let image = pool.image(1);
    assert!(!pool.driver.abilities().read_only || fs::write(pool.driver.path(&image).join("x"), "").is_err());
    // The crash behind the last step: the whole call comes again. And another build of the same content.
    let staging = Volume::Staging(OperationId::new());
    pool.driver.seal(&staging, &image).unwrap();
    pool.driver.ensure_empty(&staging).unwrap();
    pool.driver.seal(&staging, &image).unwrap();
    assert_eq!(pool.driver.observe().unwrap().volumes, std::slice::from_ref(&image));
    assert_eq!(names(pool.driver.path(&image)), ["image-data"]);
}

pub fn a_renamed_volume_keeps_its_content_and_may_be_renamed_twice(pool: &TestPool) {
    let image = pool.image(1);
    let (vps, root) = pool.vps(&image, None);
    let (here, there) = (Volume::Root(vps), Volume::Outgoing(vps));
    write(&root.join("old"), 1);
    assert!(pool.driver.ensure_renamed(&here, &there).unwrap());
    assert!(!pool.driver.ensure_renamed(&here, &there).unwrap());
    assert_eq!(names(pool.driver.path(&there)), ["image-data", "old"]);
    pool.driver.ensure_clone(&image, &here, false).unwrap();
    assert!(pool.driver.ensure_renamed(&here, &there).is_err(), "nothing is overwritten");
    assert_eq!(names(root), ["image-data"]);
}

pub fn everything_in_the_pool_is_seen(pool: &TestPool) {
    let image = pool.image(MIB);
    let (vps, _) = pool.vps(&image, None);
    let staging = Volume::Staging(OperationId::new());
    let volumes =
        [image.clone(), staging.clone(), Volume::Root(vps), Volume::Incoming(vps), snapshot(vps, "now")];
    pool.driver.ensure_empty(&staging).unwrap();
    pool.driver.ensure_clone(&image, &volumes[3], false).unwrap();
    pool.driver.ensure_clone(&Volume::Root(vps), &volumes[4], true).unwrap();
    fs::create_dir_all(pool.root().join("vps/not-an-id")).unwrap();
    fs::write(pool.root().join("images/README"), "").unwrap();

    let seen = pool.driver.observe().unwrap();
    assert_eq!(seen.volumes, volumes);
    assert_eq!(seen.strays, [PathBuf::from("images/README"), PathBuf::from("vps/not-an-id")]);
    assert!(seen.used.bytes() > 0 && seen.available.bytes() > 0 && seen.used.bytes() < seen.total.bytes());

    for volume in &volumes {
        assert!(pool.driver.ensure_absent(volume).unwrap());
    }
    assert_eq!(pool.driver.observe().unwrap().volumes, []);
    pool.settle();
    assert_eq!(pool.driver.observe().unwrap().reclaiming, []);
    assert_eq!(names(pool.root().join("vps")), ["not-an-id"]);
    assert_eq!(names(pool.root().join("snapshots")), [""; 0]);
}

pub fn what_is_no_volume_is_left_alone(pool: &TestPool) {
    let fingerprint = Fingerprint::from_bytes([2; 32]);
    let (place, elsewhere) =
        (pool.root().join(format!("images/{fingerprint}")), pool.root().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &place).unwrap();
    pool.driver.ensure_absent(&Volume::Image(fingerprint)).unwrap_err();
    assert!(place.is_symlink() && elsewhere.exists());
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
    pool.driver.ensure_clone(&Volume::Root(vps), &snapshot(vps, "full"), true).unwrap();
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
    pool.driver.ensure_clone(&Volume::Root(vps), &kept, true).unwrap();
    pool.driver.ensure_clone(&kept, &Volume::Incoming(vps), false).unwrap();
    pool.driver.ensure_renamed(&Volume::Root(vps), &Volume::Outgoing(vps)).unwrap();
    pool.driver.ensure_renamed(&Volume::Incoming(vps), &Volume::Root(vps)).unwrap();
    pool.driver.ensure_absent(&Volume::Outgoing(vps)).unwrap();
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
    match pool.driver.abilities().quota {
        QuotaKind::None => assert!(matches!(error, VolumeError::NoQuota(id) if id == vps), "{error}"),
        _ => assert!(matches!(error, VolumeError::Missing(Volume::Root(id)) if id == vps), "{error}"),
    }
}
