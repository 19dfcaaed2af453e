//! From which age on something may be removed, and up to which it may be under way.

use jiff::{SignedDuration, Timestamp};

use crate::catalog::Record;

/// What lies without an owner for less than this may belong to an upload or a restore that is still under way, in this
/// process or another. Nothing is under way for so long; the rest is for clocks that differ.
pub(crate) const IN_FLIGHT: SignedDuration = SignedDuration::from_hours(24);
/// What was put within this time is never removed: as recovery does, a prune takes it that nothing is under way for longer.
pub const SAFE_AGE: SignedDuration = IN_FLIGHT;
/// What is older than this is put anew by who relies on it, so that it stays young until something names it.
pub const AGING: SignedDuration = SignedDuration::from_hours(12);

/// Whether a record says that its image was uploaded after this moment.
pub(crate) fn uploaded_after(record: &Record, moment: Timestamp) -> bool {
    record.upload_date.as_deref().and_then(|date| date.parse::<Timestamp>().ok()).is_some_and(|at| at > moment)
}
