//! [`Position`]: the order in which images are listed.

use std::sync::Arc;

use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};

use super::error::CatalogError;
use super::record::{Entry, Record};
use crate::layout::ImageId;

/// How long before its upload an image can have been chosen for upload; earlier times are ignored.
pub const QUEUED_AT_MOST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The sort key of lists: the time at which an image is listed, and its name.
pub type Position = (Timestamp, ImageId);
/// Live entries of a state with their positions, newest first.
pub type PositionStream = BoxStream<'static, Result<(Position, Arc<Entry>), CatalogError>>;

/// When an image was uploaded, for sorting; a value that is not a valid time counts as oldest.
pub(crate) fn uploaded_at(record: &Record) -> Timestamp {
    record.upload_date.as_deref().and_then(|d| d.parse().ok()).unwrap_or(Timestamp::MIN)
}

/// The time at which an image is listed: when it was chosen for upload, if that is known and plausible, else when it
/// was uploaded. So the images of one selection keep their order, whichever arrived first.
pub(crate) fn listed_at(record: &Record) -> Timestamp {
    let uploaded = uploaded_at(record);
    let queued = record.queued_at.as_deref().and_then(|queued| queued.parse::<Timestamp>().ok());
    let is_before =
        |queued: &Timestamp| (SignedDuration::ZERO..=QUEUED_AT_MOST).contains(&uploaded.duration_since(*queued));
    queued.filter(is_before).unwrap_or(uploaded)
}
