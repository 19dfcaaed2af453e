//! The table and its bounds.

use std::time::Duration;

/// A stripped binary has at most so many MB.
const SIZE: f64 = 7.0;
/// A function has at most so many MB of memory after its requests.
const RESIDENT: f64 = 40.0;
/// A first answer takes at most this many times as long as hello's, and so many milliseconds more.
const TIMES_HELLO: f64 = 1.5;
const MORE_THAN_HELLO: f64 = 15.0;

/// One function; the first one is the one that says hello.
pub struct Row {
    name: String,
    size_megabytes: f64,
    /// How long its first answers took.
    pub first: Vec<Duration>,
    /// Its memory after many requests.
    pub resident_megabytes: f64,
}

impl Row {
    /// A function of which only its size is known yet.
    pub fn new(name: &str, size_megabytes: f64) -> Self {
        Self { name: name.to_owned(), size_megabytes, first: Vec::new(), resident_megabytes: f64::NAN }
    }

    /// In milliseconds; so large a part of the first answers took no longer.
    fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.first.clone();
        sorted.sort();
        let index = (sorted.len().saturating_sub(1) as f64 * part).round() as usize;
        sorted.get(index).map_or(f64::NAN, |first| first.as_secs_f64() * 1e3)
    }

    fn limit(hello: &Self) -> f64 {
        TIMES_HELLO * hello.quantile(0.5) + MORE_THAN_HELLO
    }

    /// Whether every bound is kept.
    pub fn holds(&self, hello: &Self) -> bool {
        self.size_megabytes <= SIZE && self.resident_megabytes <= RESIDENT && self.quantile(0.5) <= Self::limit(hello)
    }
}

/// Prints the table.
pub fn print(rows: &[Row]) {
    let Some(hello) = rows.first() else { return };
    println!(
        "{:<22}{:>10}{:>18}{:>18}{:>15}",
        "function", "size, MB", "first answer, ms", "  one in ten, ms", "resident, MB"
    );
    for row in rows {
        let broken = if row.holds(hello) { "" } else { "  BROKEN" };
        let (median, slow) = (row.quantile(0.5), row.quantile(0.9));
        let (size, resident) = (row.size_megabytes, row.resident_megabytes);
        println!("{:<22}{size:>10.2}{median:>18.1}{slow:>18.1}{resident:>15.1}{broken}", row.name);
    }
    let limit = Row::limit(hello);
    println!("{:<22}{SIZE:>10.2}{limit:>18.1}{:>18}{RESIDENT:>15.1}", "at most", "");
}
