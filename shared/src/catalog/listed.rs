//! [`Listed`]: the order in which images are listed, each image or each group once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::record::{Entry, Record};
use crate::layout::ImageId;

/// How long before its upload an image can have been chosen for upload; earlier times are ignored.
pub const QUEUED_AT_MOST: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The sort key of lists: the time at which an image is listed, and its name.
pub type Position = (Timestamp, ImageId);

type At = (Reverse<Timestamp>, Reverse<ImageId>);
type Images = BTreeMap<At, Arc<Entry>>;

/// Live images, newest first. The position of a group is that of its newest image; its other images are kept
/// separately, so that a list of groups does not iterate over them, however many there are.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// Images without a group, and the newest of each group.
    leading: Images,
    /// The other images of groups.
    following: Images,
    groups: HashMap<String, Images>,
}

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

fn at(id: &ImageId, record: &Record) -> At {
    (Reverse(listed_at(record)), Reverse(id.clone()))
}

fn position((at, id): &At) -> Position {
    (at.0, id.0.clone())
}

/// The images older than `after`, if given.
fn older<'a>(images: &'a Images, after: Option<&Position>) -> impl Iterator<Item = (&'a At, &'a Arc<Entry>)> + use<'a> {
    use std::ops::Bound::{Excluded, Unbounded};
    let from = match after {
        Some((at, id)) => Excluded((Reverse(*at), Reverse(id.clone()))),
        None => Unbounded,
    };
    images.range((from, Unbounded))
}

impl Listed {
    pub(super) fn insert(&mut self, id: &ImageId, entry: &Arc<Entry>) {
        let Some(record) = entry.live() else { return };
        let at = at(id, record);
        let Some(group) = record.group() else {
            self.leading.insert(at, Arc::clone(entry));
            return;
        };
        let members = self.groups.entry(group.to_owned()).or_default();
        let follows = match members.first_key_value() {
            Some((led, leader)) if at < *led => {
                self.leading.remove(led);
                self.following.insert(led.clone(), Arc::clone(leader));
                false
            }
            leader => leader.is_some(),
        };
        members.insert(at.clone(), Arc::clone(entry));
        if follows { &mut self.following } else { &mut self.leading }.insert(at, Arc::clone(entry));
    }

    pub(super) fn remove(&mut self, id: &ImageId, entry: &Entry) {
        let Some(record) = entry.live() else { return };
        let at = at(id, record);
        let led = self.leading.remove(&at).is_some();
        if !led {
            self.following.remove(&at);
        }
        let Some(group) = record.group() else { return };
        let Some(members) = self.groups.get_mut(group) else { return };
        members.remove(&at);
        match members.first_key_value() {
            Some((next, leader)) if led => {
                self.following.remove(next);
                self.leading.insert(next.clone(), Arc::clone(leader));
            }
            Some(_) => {}
            None => drop(self.groups.remove(group)),
        }
    }

    /// Every image, newest first.
    pub(super) fn images(&self, after: Option<&Position>) -> impl Iterator<Item = (Position, &Arc<Entry>)> {
        let (mut leading, mut following) =
            (older(&self.leading, after).peekable(), older(&self.following, after).peekable());
        std::iter::from_fn(move || {
            let follows = match (leading.peek(), following.peek()) {
                (Some((a, _)), Some((b, _))) => b < a,
                (None, next) => next.is_some(),
                (Some(_), None) => false,
            };
            let (at, entry) = if follows { following.next() } else { leading.next() }?;
            Some((position(at), entry))
        })
    }

    /// The images without a group and the newest of each group, newest first.
    ///
    /// Groups that got an image after `started` keep their earlier position, so that a client that reads page by page
    /// does not miss a group because it grew meanwhile.
    pub(super) fn leaders(
        &self,
        after: Option<&Position>,
        started: Option<Timestamp>,
    ) -> impl Iterator<Item = (Position, &Arc<Entry>)> {
        let mut grown: Vec<(&At, &Arc<Entry>)> = started.map_or_else(Vec::new, |started| {
            let place = |(_, leader): (&At, &Arc<Entry>)| {
                let members = self.groups.get(leader.live()?.group()?)?;
                let then = members.iter().find(|(at, _)| at.0.0 <= started)?;
                after.is_none_or(|after| position(then.0) < *after).then_some(then)
            };
            self.leading.iter().take_while(|(at, _)| at.0.0 > started).filter_map(place).collect()
        });
        grown.sort_by(|(a, _), (b, _)| b.cmp(a));
        let mut leading = older(&self.leading, after).peekable();
        std::iter::from_fn(move || {
            let grew = match (leading.peek(), grown.last()) {
                (Some((a, _)), Some((b, _))) => b < a,
                (None, next) => next.is_some(),
                (Some(_), None) => false,
            };
            let (at, entry) = if grew { grown.pop() } else { leading.next() }?;
            Some((position(at), entry))
        })
    }

    /// How many [`leaders`](Self::leaders) there are.
    pub(super) fn leading(&self) -> usize {
        self.leading.len()
    }

    /// The images of a group, newest first.
    pub(super) fn group(&self, id: &str) -> impl Iterator<Item = (Position, &Arc<Entry>)> {
        self.groups.get(id).into_iter().flatten().map(|(at, entry)| (position(at), entry))
    }

    /// When the newest image was uploaded, and the oldest.
    pub(super) fn span(&self) -> Option<(Timestamp, Timestamp)> {
        let ends = |images: &Images| Some((images.first_key_value()?.0.0.0, images.last_key_value()?.0.0.0));
        match (ends(&self.leading), ends(&self.following)) {
            (Some((newest, oldest)), Some((newer, older))) => Some((newest.max(newer), oldest.min(older))),
            (one, other) => one.or(other),
        }
    }
}
