//! The upload dates of imported images without a record: their file times, limited to now and put in an order.
//!
//! Zip times have a resolution of two seconds, and a copied file has the time of its copying. So files with the same
//! second are ordered by name, a millisecond apart. Files without a time, or with one in the future, are dated right
//! before now.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::layout::ImageId;

/// An image to be imported.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) id: ImageId,
    /// The path of its file.
    pub(super) path: String,
    /// When its file was last changed, if known.
    pub(super) modified: Option<Timestamp>,
}

/// Whether a file has a modification time, and whether it is plausible.
pub(super) enum FileTime {
    Unknown,
    Future,
    Past(Timestamp),
}

impl Arrival {
    pub(super) fn file_time(&self, now: Timestamp) -> FileTime {
        match self.modified {
            None => FileTime::Unknown,
            Some(modified) if modified > now => FileTime::Future,
            Some(modified) => FileTime::Past(modified),
        }
    }
}

/// The upload date of each image; never later than now.
pub(super) fn upload_dates(mut arrivals: Vec<Arrival>, now: Timestamp) -> Vec<(ImageId, Timestamp)> {
    arrivals.sort_by(|a, b| a.path.cmp(&b.path));
    let mut seconds: BTreeMap<Option<i64>, Vec<(ImageId, Timestamp)>> = BTreeMap::new();
    for arrival in arrivals {
        let (second, date) = match arrival.file_time(now) {
            FileTime::Past(date) => (Some(date.as_second()), date),
            FileTime::Unknown | FileTime::Future => (None, now),
        };
        seconds.entry(second).or_default().push((arrival.id, date));
    }
    seconds.into_iter().flat_map(|(second, files)| in_order(second, files, now)).collect()
}

/// The dates of files with the same second, or without one, in the order of their names.
fn in_order(second: Option<i64>, files: Vec<(ImageId, Timestamp)>, now: Timestamp) -> Vec<(ImageId, Timestamp)> {
    let is_ordered = files.windows(2).all(|pair| pair[0].1.as_millisecond() < pair[1].1.as_millisecond());
    if second.is_some() && is_ordered {
        return files;
    }
    let millis = |count: usize| SignedDuration::from_millis(count as i64);
    let latest = now.saturating_sub(millis(files.len())).unwrap_or(now);
    let first = second.and_then(|second| Timestamp::from_second(second).ok()).map_or(latest, |first| first.min(latest));
    let dated =
        |(index, (id, _)): (usize, (ImageId, Timestamp))| (id, first.saturating_add(millis(index)).unwrap_or(first));
    files.into_iter().enumerate().map(dated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn dates(files: &[(&str, Option<&str>)], now: &str) -> Vec<(Timestamp, String)> {
        let arrival = |(path, modified): &(&str, Option<&str>)| Arrival {
            id: ImageId::new(path).unwrap(),
            path: (*path).to_owned(),
            modified: modified.map(at),
        };
        let dates = upload_dates(files.iter().map(arrival).collect(), at(now));
        let mut dates: Vec<_> = dates.into_iter().map(|(id, date)| (date, id.to_string())).collect();
        dates.sort();
        dates
    }

    fn expect(found: &[(Timestamp, String)], expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(id, date)| (at(date), (*id).to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn dates_that_have_an_order_stay_as_they_are() {
        let files = [
            ("b", Some("2024-01-01T00:00:00.5Z")),
            ("a", Some("2024-01-01T00:00:00.25Z")),
            ("c", Some("2023-01-01T00:00:00Z")),
        ];
        let expected =
            [("c", "2023-01-01T00:00:00Z"), ("a", "2024-01-01T00:00:00.25Z"), ("b", "2024-01-01T00:00:00.5Z")];
        expect(&dates(&files, "2026-01-01T00:00:00Z"), &expected);
    }

    #[test]
    fn files_of_one_second_get_the_order_of_their_names() {
        let files = [
            ("2", Some("2024-01-01T00:00:00.1Z")),
            ("1", Some("2024-01-01T00:00:00.7Z")),
            ("3", Some("2024-01-01T00:00:00.1Z")),
        ];
        let expected =
            [("1", "2024-01-01T00:00:00Z"), ("2", "2024-01-01T00:00:00.001Z"), ("3", "2024-01-01T00:00:00.002Z")];
        expect(&dates(&files, "2026-01-01T00:00:00Z"), &expected);
    }

    #[test]
    fn no_date_and_dates_to_come_are_bounded_to_now() {
        let files = [("b", Some("2107-12-31T23:59:58Z")), ("a", None), ("c", Some("2025-12-31T23:59:59.999Z"))];
        let found = dates(&files, "2026-01-01T00:00:00Z");
        let expected =
            [("a", "2025-12-31T23:59:59.998Z"), ("b", "2025-12-31T23:59:59.999Z"), ("c", "2025-12-31T23:59:59.999Z")];
        expect(&found, &expected);
    }

    #[test]
    fn more_files_than_a_second_has_milliseconds_keep_their_order() {
        let names: Vec<String> = (0..3_000).map(|n| format!("{n:04}")).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), Some("2026-01-01T00:00:00Z"))).collect();
        let found = dates(&files, "2026-01-01T00:00:01Z");
        assert!(found.iter().map(|(_, id)| id).eq(&names), "out of order");
        assert!(found.last().unwrap().0 < at("2026-01-01T00:00:01Z"));
        let moments: std::collections::BTreeSet<_> = found.iter().map(|(date, _)| date).collect();
        assert_eq!(moments.len(), 3_000);
    }
}
