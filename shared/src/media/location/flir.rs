//! The position in the segments of FLIR thermal cameras, which is a record of fixed format.

use std::ops::Range;

/// The distance from the flag that the position is valid to `N` or `S`.
const BEFORE: usize = 8;
/// The whole record.
const LENGTH: usize = 0x58;

/// The record whose letters for north or south and east or west begin at `at` of `bytes`, if it contains a position.
pub(super) fn record(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let start = at.checked_sub(BEFORE)?;
    let record = bytes.get(start..)?;
    let record = &record[..record.len().min(LENGTH)];
    let double = |at: usize| record.get(at..)?.first_chunk().map(|bytes| f64::from_le_bytes(*bytes));
    let (latitude, longitude) = (double(0x10)?, double(0x18)?);
    let is_record = record.starts_with(&[1, 0, 0, 0]) && latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
    is_record.then_some(start..start + record.len())
}
