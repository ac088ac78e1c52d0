//! What was copied from what does not matter to anybody but the driver.

use insula_storage::Volume;
use insula_types::VpsId;

use super::snapshot;
use crate::fixture::TestPool;

/// An image, a root of it, a snapshot of that, and roots of other VPSes from both.
fn family(pool: &TestPool) -> [Volume; 5] {
    let image = pool.image(1);
    let (vps, _) = pool.vps(&image, None);
    let (root, kept) = (Volume::Root(vps), snapshot(vps, "kept"));
    let (of_root, of_snapshot) = (Volume::Root(VpsId::new()), Volume::Root(VpsId::new()));
    pool.tree(&root).write("mine", 1);
    pool.driver.ensure_clone(&root, &kept).unwrap();
    pool.driver.ensure_clone(&root, &of_root).unwrap();
    pool.driver.ensure_clone(&kept, &of_snapshot).unwrap();
    [image, root, kept, of_root, of_snapshot]
}

pub fn volumes_go_in_any_order(pool: &TestPool) {
    // Each first, and each last.
    for rotation in 0..5 {
        for is_backwards in [false, true] {
            let mut family = family(pool);
            family.rotate_left(rotation);
            if is_backwards {
                family.reverse();
            }
            for (index, volume) in family.iter().enumerate() {
                assert!(pool.driver.ensure_absent(volume).unwrap(), "{volume}");
                for other in &family[index + 1..] {
                    let expected: &[&str] = if matches!(other, Volume::Image(_)) {
                        &["image-data"]
                    } else {
                        &["image-data", "mine"]
                    };
                    assert_eq!(pool.tree(other).names(), expected, "{other} without {volume}");
                }
            }
            assert_eq!(pool.driver.observe().unwrap().volumes, []);
        }
    }
    pool.settle();
    assert_eq!(pool.driver.observe().unwrap().reclaiming, []);
}

pub fn a_name_that_was_removed_is_free_although_copies_live(pool: &TestPool) {
    let [image, root, kept, of_root, of_snapshot] = family(pool);
    pool.tree(&root).write("later", 1);
    pool.driver.ensure_absent(&kept).unwrap();
    assert!(pool.driver.ensure_clone(&root, &kept).unwrap());
    assert_eq!(pool.tree(&kept).names(), ["image-data", "later", "mine"]);
    assert_eq!(pool.tree(&of_snapshot).names(), ["image-data", "mine"]);
    pool.driver.ensure_absent(&image).unwrap();
    assert_eq!(pool.image(2), image);
    assert_eq!(pool.tree(&image).length("image-data"), 2);
    assert_eq!(pool.tree(&of_root).length("image-data"), 1);
}
