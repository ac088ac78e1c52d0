//! The suite of all drivers, run on each.

mod fixture;
mod suite;

suite::driver_suite!(btrfs_simple_quotas, crate::fixture::TestPool::simple_quotas);
suite::quota_suite!(btrfs_simple_quotas_limits, crate::fixture::TestPool::simple_quotas);
suite::driver_suite!(btrfs_classic_qgroups, crate::fixture::TestPool::classic_qgroups);
suite::quota_suite!(btrfs_classic_qgroups_limits, crate::fixture::TestPool::classic_qgroups);
suite::driver_suite!(dir_with_reflinks, crate::fixture::TestPool::directory_with_reflinks);
suite::driver_suite!(dir_without_reflinks, crate::fixture::TestPool::directory_without_reflinks);
