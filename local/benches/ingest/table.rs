//! The table that is printed.

use std::time::Duration;

/// What one round measured.
#[derive(Clone, Copy)]
pub struct Round {
    pub operations: u64,
    pub took: Duration,
    pub processor_time: Duration,
}

pub fn print_head() {
    println!("{:<36}{:<16}{:>12}{:>12}{:>10}{:>8}", "", "", "each second", "CPU, ms", "s", "MB");
}

/// Prints the medians of the rounds, and the memory in MB of a server.
pub fn print(case: &str, by: &str, rounds: &[Round], megabytes: Option<f64>) {
    let rate = median(rounds, |round| round.operations as f64 / round.took.as_secs_f64());
    let processor_time = median(rounds, |round| round.processor_time.as_secs_f64() * 1e3 / round.operations as f64);
    let took = median(rounds, |round| round.took.as_secs_f64());
    let megabytes = megabytes.map(|megabytes| format!("{megabytes:.0}")).unwrap_or_default();
    println!("{case:<36}{by:<16}{rate:>12.0}{processor_time:>12.2}{took:>10.2}{megabytes:>8}");
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
