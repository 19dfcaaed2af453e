//! Whole stores under every interleaving, crash and failure that chance finds: see `sim` for how, `sim/model.rs` for what is
//! checked, and `cargo run --release --package shared --example simulate` for much more of it.

mod sim;

use std::ops::Range;

use sim::{Setup, Stats, explain, generate, play};

/// Turns of each seed.
const TURNS: usize = 5_000;

fn run(seeds: Range<u64>) -> Stats {
    let mut stats = Stats::default();
    for seed in seeds {
        let mut turns = generate(seed, TURNS);
        match play(Setup::of(seed), &turns, None) {
            Ok(played) => stats.join(&played),
            Err(failure) => {
                turns.truncate(failure.turn as usize);
                let steps = failure.stats.steps + stats.steps;
                panic!("{}\nfirst, after {steps} steps: {}", explain(seed, turns, &failure, 100), failure.reason);
            }
        }
    }
    stats
}

/// What must have been tried with success, and how often at least.
const ACTIONS: [(&str, u64); 29] = [
    ("background", 100),
    ("backup", 100),
    ("clear tickets", 100),
    ("complete", 50),
    ("delete", 100),
    ("delete backup", 30),
    ("dry run", 50),
    ("edit", 100),
    ("edit if", 100),
    ("follow", 100),
    ("follow up", 100),
    ("get", 100),
    ("health", 100),
    ("list", 100),
    ("list backups", 100),
    ("prune", 10),
    ("prune by schedule", 30),
    ("prune dry run", 10),
    ("recover", 100),
    ("restore exact", 20),
    ("restore merge", 20),
    ("send", 50),
    ("ticket", 100),
    ("tidy", 100),
    ("upload", 1000),
    ("upload many", 100),
    ("upload with key", 100),
    ("verify", 100),
    ("verify next", 50),
];

/// Likewise, of everything that befell them and was looked at.
const EVENTS: [(&str, u64); 24] = [
    ("backups checked", 1000),
    ("backups pruned", 20),
    ("backups read", 1000),
    ("cancelled", 100),
    ("pages pruned", 10),
    ("clock jump", 50),
    ("copies pruned", 1),
    ("crash", 100),
    ("fault: broken off", 20),
    ("fault: full", 50),
    ("fault: late", 50),
    ("fault: refused", 50),
    ("fault: reply lost", 50),
    ("fault: unavailable", 50),
    ("images acknowledged", 1000),
    ("images checked", 10_000),
    ("late arrival", 50),
    ("loss: archive", 10),
    ("loss: metadata", 10),
    ("loss: uploads", 10),
    ("outage", 20),
    ("rest", 300),
    ("rot", 100),
    ("time passes", 100),
];

#[test]
fn nothing_acknowledged_is_lost_and_every_read_is_explained() {
    let stats = std::thread::scope(|scope| {
        let halves = [1..27, 27..53].map(|seeds| scope.spawn(|| run(seeds)));
        let mut sum = Stats::default();
        for half in halves {
            sum.join(&half.join().expect("see above"));
        }
        sum
    });
    println!("{stats}");
    assert!(stats.steps >= 300_000, "{} steps", stats.steps);
    for (action, least) in ACTIONS {
        let done = stats.actions.get(action).map_or(0, |[done, ..]| *done);
        assert!(done >= least, "{action}: {done} times");
    }
    for (event, least) in EVENTS {
        let times = stats.events.get(event).copied().unwrap_or_default();
        assert!(times >= least, "{event}: {times} times");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [2, 3, 5] {
        let turns = generate(seed, 1_500);
        let mut traces = [Vec::new(), Vec::new()];
        let [one, other] = traces.each_mut().map(|trace| play(Setup::of(seed), &turns, Some(trace)).ok());
        assert!(one.is_some() && one == other);
        let differs = traces[0].iter().zip(&traces[1]).find(|(one, other)| one != other);
        assert_eq!((differs, traces[0].len()), (None, traces[1].len()), "seed {seed}");
    }
}
