//! What a run has tried, so that one that tests nothing is seen.

use std::collections::BTreeMap;
use std::fmt;

use super::model::Outcome;

/// Sums over one run or several.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Store operations of actions.
    pub(crate) steps: u64,
    /// By action: how many were acknowledged, refused and left open.
    pub(crate) actions: BTreeMap<&'static str, [u64; 3]>,
    /// Everything else.
    pub(crate) events: BTreeMap<&'static str, u64>,
}

impl Stats {
    pub(crate) fn count(&mut self, event: &'static str) {
        self.add(event, 1);
    }

    pub(crate) fn add(&mut self, event: &'static str, n: u64) {
        *self.events.entry(event).or_default() += n;
    }

    pub(crate) fn ended(&mut self, action: &'static str, outcome: Outcome) {
        let at = match outcome {
            Outcome::Acknowledged => 0,
            Outcome::Refused => 1,
            Outcome::Open => 2,
        };
        self.actions.entry(action).or_default()[at] += 1;
    }

    pub(crate) fn join(&mut self, other: &Self) {
        self.steps += other.steps;
        for (action, counts) in &other.actions {
            let mine = self.actions.entry(action).or_default();
            mine.iter_mut().zip(counts).for_each(|(mine, theirs)| *mine += theirs);
        }
        other.events.iter().for_each(|(event, n)| self.add(event, *n));
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} steps", self.steps)?;
        writeln!(f, "{:<20}{:>12}{:>12}{:>12}", "action", "ok", "refused", "unknown")?;
        for (action, [ok, refused, open]) in &self.actions {
            writeln!(f, "{action:<20}{ok:>12}{refused:>12}{open:>12}")?;
        }
        self.events.iter().try_for_each(|(event, n)| writeln!(f, "{event:<20}{n:>12}"))
    }
}
