//! The real binary under load, as it is killed, stopped and started again and again.
//!
//! Every request and every answer is noted by the test, outside the servers. After each cycle the store must show exactly
//! what was acknowledged, and of what got no answer all or nothing.
//!
//! `KEEPSAKE_SOAK_CYCLES=1000 KEEPSAKE_SOAK_SEED=7 cargo test --workspace --test soak -- --show-output` makes the soak
//! longer and another one.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod clients;
mod full;
mod kills;
mod model;
mod mounts;
#[path = "../end_to_end/photos.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod photos;
mod power;
#[path = "../end_to_end/server.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod server;

use kills::Soak;

#[expect(clippy::disallowed_methods, reason = "only who starts the test knows how long it may take")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_however_servers_end() {
    let (cycles, seed) = (setting("KEEPSAKE_SOAK_CYCLES", 50), setting("KEEPSAKE_SOAK_SEED", 1));
    println!("{cycles} cycles with the seed {seed}");
    let mut soak = Soak::new(seed);
    for cycle in 0..cycles {
        soak.cycle(cycle as u32).await;
    }
    soak.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and loop devices: .ci/disks"]
async fn nothing_acknowledged_is_lost_by_power_cuts_of_ext4() {
    power::cuts("ext4", setting("KEEPSAKE_POWER_CUTS", 20), setting("KEEPSAKE_SOAK_SEED", 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and loop devices: .ci/disks"]
async fn nothing_acknowledged_is_lost_by_power_cuts_of_xfs() {
    power::cuts("xfs", setting("KEEPSAKE_POWER_CUTS", 20), setting("KEEPSAKE_SOAK_SEED", 1)).await;
}

/// One test for each file system.
macro_rules! on_small_disks {
    ($($name:ident: $test:expr;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "needs root and loop devices: .ci/disks"]
        async fn $name() {
            $test.await;
        }
    )*};
}

on_small_disks! {
    uploads_that_fill_a_tmpfs_are_refused_in_time: full::fills_up("tmpfs", 24, "4MiB");
    uploads_that_fill_an_ext4_are_refused_in_time: full::fills_up("ext4", 32, "4MiB");
    uploads_that_fill_a_tmpfs_without_a_reserve_leave_nothing_behind: full::fills_up("tmpfs", 24, "0");
    uploads_that_fill_an_ext4_without_a_reserve_leave_nothing_behind: full::fills_up("ext4", 32, "0");
    each_kind_of_write_may_find_a_tmpfs_full: full::nearly_full("tmpfs", 24);
    each_kind_of_write_may_find_an_ext4_full: full::nearly_full("ext4", 32);
    a_tmpfs_may_turn_read_only_and_back: full::turns_read_only("tmpfs");
    an_ext4_may_turn_read_only_and_back: full::turns_read_only("ext4");
}
