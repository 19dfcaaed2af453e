//! The order of the images of a group.

use jiff::Timestamp;

use super::listed::Position;
use super::record::Entry;
use crate::layout::ImageId;

/// The sort key of the images of a group.
pub(crate) fn rank((at, id): &Position, entry: &Entry) -> (i64, Timestamp, ImageId) {
    (entry.live().and_then(|record| record.order).unwrap_or(i64::MAX), *at, id.clone())
}
