//! The suite of all drivers, run on each.

mod fixture;
mod lineage;
mod suite;

use fixture::TestPool;

fn lineage_pool() -> TestPool {
    TestPool::of_driver(lineage::LineageDriver::open)
}

suite::driver_suite!(btrfs_simple_quotas, crate::fixture::TestPool::simple_quotas);
suite::places_suite!(btrfs_simple_quotas_places, crate::fixture::TestPool::simple_quotas);
suite::quota_suite!(btrfs_simple_quotas_limits, crate::fixture::TestPool::simple_quotas);
suite::driver_suite!(btrfs_classic_qgroups, crate::fixture::TestPool::classic_qgroups);
suite::quota_suite!(btrfs_classic_qgroups_limits, crate::fixture::TestPool::classic_qgroups);
suite::driver_suite!(dir_with_reflinks, crate::fixture::TestPool::directory_with_reflinks);
suite::places_suite!(dir_with_reflinks_places, crate::fixture::TestPool::directory_with_reflinks);
suite::driver_suite!(dir_without_reflinks, crate::fixture::TestPool::directory_without_reflinks);
suite::driver_suite!(lineage_as_of_zfs, crate::lineage_pool);
