//! File systems of a test's own, which fill up, turn read-only or lose their power. `.ci/disks` runs these tests.

mod full;
mod mounts;
mod power;

use super::setting;

/// How often the power of each file system is cut, and the seed of what goes on meanwhile.
fn cuts() -> (u64, u64) {
    (setting("KEEPSAKE_POWER_CUTS", 20), setting("KEEPSAKE_SOAK_SEED", 1))
}

/// One test for each file system.
macro_rules! on_disks {
    ($($name:ident: $test:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs root and loop devices: .ci/disks"]
        async fn $name() {
            $test.await;
        }
    )*};
}

on_disks! {
    uploads_that_fill_a_tmpfs_are_refused_in_time: full::fills_up("tmpfs", 24, 4);
    uploads_that_fill_an_ext4_are_refused_in_time: full::fills_up("ext4", 32, 4);
    uploads_that_fill_a_tmpfs_without_a_reserve_leave_nothing_behind: full::fills_up("tmpfs", 24, 0);
    uploads_that_fill_an_ext4_without_a_reserve_leave_nothing_behind: full::fills_up("ext4", 32, 0);
    each_kind_of_write_may_find_a_tmpfs_full: full::nearly_full("tmpfs", 24);
    each_kind_of_write_may_find_an_ext4_full: full::nearly_full("ext4", 32);
    a_tmpfs_may_turn_read_only_and_back: full::turns_read_only("tmpfs");
    an_ext4_may_turn_read_only_and_back: full::turns_read_only("ext4");
    nothing_acknowledged_is_lost_by_power_cuts_of_ext4: power::cuts("ext4", cuts());
    nothing_acknowledged_is_lost_by_power_cuts_of_xfs: power::cuts("xfs", cuts());
}
