//! Plays the simulation of `tests/it/simulation` for as long as it is told, on both cores, each with seeds of its own:
//! `cargo run --release --package shared --example simulate -- --steps 10000000`.
//!
//! `--seed N` starts at another seed; `--steps N` ends after so many store operations; `--trace` plays one seed and prints
//! what happens. A failure prints its seed and the shortest schedule found, and ends the program.

#[path = "../tests/it/simulation/sim/mod.rs"]
mod sim;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sim::{Setup, Stats, explain, generate, play};

/// Turns of each seed.
const TURNS: usize = 5_000;
/// Schedules tried to make a failure shorter.
const TRIES: usize = 600;

fn main() -> ExitCode {
    let (mut seed, mut steps, mut traced) = (1, 1_000_000, false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--seed" => seed = number().unwrap_or(seed),
            "--steps" => steps = number().unwrap_or(steps),
            "--trace" => traced = true,
            _ => {
                eprintln!("There are --seed N, --steps N and --trace.");
                return ExitCode::FAILURE;
            }
        }
    }
    // A panic inside a run is reported with its schedule.
    std::panic::set_hook(Box::new(|_| ()));
    if traced { trace(seed) } else { simulate(seed, steps) }
}

fn trace(seed: u64) -> ExitCode {
    let mut lines = Vec::new();
    let played = play(Setup::of(seed), &generate(seed, TURNS), Some(&mut lines));
    lines.iter().for_each(|line| println!("{line}"));
    match played {
        Ok(stats) => {
            println!("{stats}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("turn {}: {}", failure.turn, failure.reason);
            ExitCode::FAILURE
        }
    }
}

fn simulate(first: u64, steps: u64) -> ExitCode {
    let (next, failed, total) = (AtomicU64::new(first), AtomicBool::new(false), Mutex::new(Stats::default()));
    let work = || {
        while !failed.load(Ordering::Relaxed) && total.lock().is_ok_and(|total| total.steps < steps) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let mut turns = generate(seed, TURNS);
            match play(Setup::of(seed), &turns, None) {
                Ok(stats) => {
                    let _ = total.lock().map(|mut total| total.join(&stats));
                }
                Err(failure) => {
                    if !failed.swap(true, Ordering::Relaxed) {
                        let steps = failure.stats.steps + total.lock().map_or(0, |total| total.steps);
                        println!("seed {seed} fails in turn {}, after {steps} steps in all", failure.turn);
                        turns.truncate(failure.turn as usize);
                        println!("{}\nfirst: {}", explain(seed, turns, &failure, TRIES), failure.reason);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    println!("seeds {first} to {}", next.load(Ordering::Relaxed) - 1);
    let _ = total.lock().map(|total| println!("{total}"));
    if failed.load(Ordering::Relaxed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
