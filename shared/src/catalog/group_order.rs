//! The order of the images of a group, and which of them determines its title.

use jiff::Timestamp;

use super::listed::Position;
use super::record::Entry;
use super::state::State;
use crate::layout::ImageId;

/// The sort key of the images of a group.
pub(crate) fn rank((at, id): &Position, entry: &Entry) -> (i64, Timestamp, ImageId) {
    (entry.live().and_then(|record| record.order).unwrap_or(i64::MAX), *at, id.clone())
}

/// The title of a group, if it has one.
pub(crate) fn title_of(state: &State, group: &str) -> Option<String> {
    let titled = state.group(group).filter_map(|(position, entry)| {
        let title = entry.live()?.group_title.as_ref()?;
        Some((rank(&position, entry), title))
    });
    titled.min_by(|(a, _), (b, _)| a.cmp(b)).map(|(_, title)| title.clone())
}
