//! [`Usage`]: how many images there are and how long they are, by category and by month.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::Offset;

use super::listed::uploaded_at;
use super::record::Record;

/// A year and a month in UTC.
pub type Month = (i16, i8);

/// Images and their length in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// How many images.
    pub images: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

/// What live images use by category and by the month of their upload. An image without a category has the empty one;
/// one without a valid date, no month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage(BTreeMap<(Box<str>, Option<Month>), Used>);

impl Usage {
    /// The used storage of each category and month.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<Month>, Used)> {
        self.0.iter().map(|((category, month), used)| (&**category, *month, *used))
    }

    pub(super) fn add(&mut self, record: &Record) {
        let used = self.of(record);
        used.images += 1;
        used.bytes += record.size.unwrap_or(0);
    }

    /// Takes off a record that was added.
    pub(super) fn remove(&mut self, record: &Record) {
        let used = self.of(record);
        used.images -= 1;
        used.bytes -= record.size.unwrap_or(0);
        if used.images == 0 {
            self.0.remove(&key(record));
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (key, used) in &other.0 {
            let Some(sum) = self.0.get_mut(key) else {
                self.0.insert(key.clone(), *used);
                continue;
            };
            sum.images += used.images;
            sum.bytes += used.bytes;
        }
    }

    /// Memory that it occupies, approximately, in bytes.
    pub(super) fn weight(&self) -> u64 {
        self.0.keys().map(|(category, _)| category.len() as u64 + 64).sum()
    }

    fn of(&mut self, record: &Record) -> &mut Used {
        self.0.entry(key(record)).or_default()
    }
}

fn key(record: &Record) -> (Box<str>, Option<Month>) {
    let at = Some(uploaded_at(record)).filter(|at| *at != Timestamp::MIN);
    let month = at.map(|at| Offset::UTC.to_datetime(at)).map(|date| (date.year(), date.month()));
    (record.category.as_deref().unwrap_or_default().into(), month)
}
