//! [`Keep`]: which backups stay when older ones are thinned out.

use std::collections::HashSet;

use jiff::civil::Date;
use jiff::tz::Offset;

use crate::layout::BackupName;

/// Which automatic backups stay. Each rule counts for itself, and what any of them keeps stays; the newest stays whatever
/// they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each day, of so many days that have any.
    pub daily: u32,
    /// The newest of each week, which begins on a Monday, likewise.
    pub weekly: u32,
    /// The newest of each month, likewise.
    pub monthly: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { last: 20, daily: 14, weekly: 8, monthly: 12 }
    }
}

impl Keep {
    /// Those of these backups, newest first, that stay. Days are those of UTC, as they stand in the names.
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

/// The year and the number in it of the day, week or month that a date is in.
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
