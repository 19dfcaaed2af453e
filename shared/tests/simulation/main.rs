//! Whole stores under every interleaving, crash and failure that chance finds; see `sim` for how, and
//! `cargo run --release --example simulate` for much more of it.

mod sim;

use sim::{Setup, Stats, explain, generate, play};

const TURNS: usize = 3_000;

fn run(seeds: std::ops::Range<u64>) -> Stats {
    let mut stats = Stats::default();
    for seed in seeds {
        let turns = generate(seed, TURNS);
        match play(Setup::of(seed), &turns, None) {
            Ok(played) => stats.join(&played),
            Err(failure) => {
                let turns = turns[..(failure.turn as usize).min(TURNS)].to_vec();
                let steps = failure.stats.steps;
                panic!("{}\nfirst, after {steps} steps: {}", explain(seed, turns, &failure, 300), failure.reason);
            }
        }
    }
    stats
}

#[test]
fn nothing_acknowledged_is_lost_and_every_read_is_explained() {
    let stats = run(0..10);
    println!("{stats}");
}
