//! [`Keep`]: which backups a prune keeps.

use std::collections::HashSet;

use jiff::civil::Date;
use jiff::tz::Offset;

use crate::layout::BackupName;

/// Which automatic backups a prune keeps. Each rule applies on its own; a backup kept by any rule stays, and the newest
/// always stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Number of newest backups.
    pub last: u32,
    /// Number of days that have backups, of which to keep the newest.
    pub daily: u32,
    /// Number of weeks, from Monday, of which to keep the newest.
    pub weekly: u32,
    /// Number of months of which to keep the newest.
    pub monthly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { last: 20, daily: 14, weekly: 8, monthly: 12 }
    }
}

impl Keep {
    /// Returns which of these backups, newest first, to keep. Days are UTC, as in the names.
    pub fn of(&self, newest_first: &[BackupName]) -> HashSet<BackupName> {
        let rules = [(self.daily, day as Period), (self.weekly, week), (self.monthly, month)];
        let mut kept: HashSet<BackupName> = newest_first.iter().take(self.last.max(1) as usize).copied().collect();
        for (count, period) in rules {
            let mut periods = Vec::new();
            for name in newest_first {
                let found = period(Offset::UTC.to_datetime(name.moment()).date());
                if periods.last() != Some(&found) && periods.len() < count as usize {
                    periods.push(found);
                    kept.insert(*name);
                }
            }
        }
        kept
    }
}

/// The year and the number of a date's day, week or month in it.
type Period = fn(Date) -> (i16, i16);

fn day(date: Date) -> (i16, i16) {
    (date.year(), date.day_of_year())
}

fn week(date: Date) -> (i16, i16) {
    let week = date.iso_week_date();
    (week.year(), week.week().into())
}

fn month(date: Date) -> (i16, i16) {
    (date.year(), date.month().into())
}
