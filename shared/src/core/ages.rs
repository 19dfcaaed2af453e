//! The age from which objects may be removed, and up to which an operation may be in progress.

use jiff::{SignedDuration, Timestamp};

use crate::catalog::Record;

/// An unowned object younger than this may belong to an upload or a restore that is still running, in this process or
/// another. No operation runs that long; the margin is for clocks that differ.
pub(crate) const IN_FLIGHT: SignedDuration = SignedDuration::from_hours(24);
/// Objects put within this time are never removed: like recovery, a prune assumes that no operation runs longer.
pub const SAFE_AGE: SignedDuration = IN_FLIGHT;
/// An operation that relies on an unreferenced object older than this puts it again, so that it stays young until it is
/// referenced.
pub const AGING: SignedDuration = SignedDuration::from_hours(12);

/// Whether an image was uploaded after this moment, according to its record.
pub(crate) fn uploaded_after(record: &Record, moment: Timestamp) -> bool {
    record.upload_date.as_deref().and_then(|date| date.parse::<Timestamp>().ok()).is_some_and(|at| at > moment)
}
