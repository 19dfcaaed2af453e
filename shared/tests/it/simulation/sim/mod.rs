//! A simulation of whole stores: several processes, two places, everything that a client can ask, and everything that
//! can go wrong, one store operation at a time. See [`model`] for what is checked.

mod choose;
mod contents;
mod end;
mod look;
mod model;
mod request;
mod rest;
mod schedule;
mod simulated_stores;
mod stats;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

pub(crate) use schedule::{Setup, Turn, generate, shrink};
pub(crate) use stats::Stats;

/// A run that has failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// In which turn.
    pub(crate) turn: u64,
    pub(crate) stats: Stats,
}

/// Plays a schedule and everything at its end; with a trace, writes into it what happened.
pub(crate) fn play(setup: Setup, turns: &[Turn], trace: Option<&mut Vec<String>>) -> Result<Stats, Box<Failure>> {
    let mut world = match World::new(setup, trace.is_some()) {
        Ok(world) => world,
        Err(reason) => return Err(Box::new(Failure { reason, turn: 0, stats: Stats::default() })),
    };
    let played = catch_unwind(AssertUnwindSafe(|| {
        turns.iter().try_for_each(|turn| world.play(turn))?;
        world.rest(false)
    }));
    let outcome = played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("without a text")))
    });
    if let (Some(trace), Some(traced)) = (trace, &mut world.trace) {
        trace.append(traced);
    }
    let stats = std::mem::take(&mut world.stats);
    match outcome {
        Ok(()) => Ok(stats),
        Err(reason) => Err(Box::new(Failure { reason, turn: world.turn, stats })),
    }
}

impl Failure {
    /// The reason without whatever differs from run to run.
    fn kind(&self) -> String {
        let plain = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == ',');
        self.reason.split_whitespace().filter(plain).take(20).collect::<Vec<_>>().join(" ")
    }
}

/// A schedule that fails as this one did, as short as it could be made, and what happens in it.
pub(crate) fn explain(seed: u64, turns: Vec<Turn>, first: &Failure, tries: usize) -> String {
    let (setup, kind) = (Setup::of(seed), first.kind());
    let fails = |turns: &[Turn]| play(setup, turns, None).is_err_and(|failure| failure.kind() == kind);
    let turns = shrink(turns, tries, fails);
    let mut trace = Vec::new();
    let reason = match play(setup, &turns, Some(&mut trace)) {
        Err(failure) => failure.reason,
        Ok(_) => "it does not fail again".to_owned(),
    };
    let schedule: Vec<String> = turns.iter().map(|turn| format!("  {turn:?}")).collect();
    format!("seed {seed}, {setup:?}\nschedule:\n{}\ntrace:\n  {}\n{reason}", schedule.join("\n"), trace.join("\n  "))
}
