//! The suite of all drivers, run on each.

mod fixture;
mod suite;

suite::driver_suite!(btrfs_simple_quotas, crate::fixture::TestPool::simple_quotas);
suite::driver_suite!(btrfs_classic_qgroups, crate::fixture::TestPool::classic_qgroups);
