//! The real binary under load, as it is killed, stopped and started again and again.
//!
//! Every request and every answer is noted by the test, outside the servers. After each cycle the store must show exactly
//! what was acknowledged, and of what got no answer all or nothing.
//!
//! `KEEPSAKE_SOAK_CYCLES=1000 KEEPSAKE_SOAK_SEED=7 cargo test --workspace --test it soak:: -- --nocapture` makes the soak
//! longer and another one. What needs file systems of its own is in `disks`.

#[cfg(target_os = "linux")]
mod disks;
mod kills;

use kills::Soak;

#[expect(clippy::disallowed_methods, reason = "only who starts the test knows how long it may take")]
fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_however_servers_end() {
    let (cycles, seed) = (setting("KEEPSAKE_SOAK_CYCLES", 25), setting("KEEPSAKE_SOAK_SEED", 1));
    println!("{cycles} cycles with the seed {seed}");
    let mut soak = Soak::new(seed);
    for cycle in 0..cycles {
        soak.cycle(cycle as u32).await;
        if cycle % 100 == 99 {
            println!("{} cycles", cycle + 1);
            soak.print_figures();
        }
    }
    soak.end().await;
}
