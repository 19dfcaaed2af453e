//! Groups: images that belong together, in an order, under a title.
//!
//! A group is not an object of its own. It exists as long as an image references it, and its data (its title, each
//! image's order) is stored in the records of its images. So commits, backups, restores and merges need no notion of
//! groups. A change of a group is one commit that holds all changed records.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use futures::stream::TryStreamExt;
use jiff::Timestamp;

use crate::catalog::{CatalogError, Content, Entry, Position, Record, Tombstone, View, rank};
use crate::core::Core;
use crate::core::edit::Precondition;
use crate::core::error::{Error, Result};
use crate::layout::ImageId;
use crate::services::images::fields::{DEFAULT_ORDER, Edit, Fields, MAX_NAME};
use crate::services::images::records::{Changed, ImageRecords};
use crate::services::images::{Filter, Images, Total};
use crate::services::replication::Replicator;
use store::ErrorKind;

/// The most images on a page of a list, including those inside of groups; a single larger group may exceed it.
const MAX_PAGE_IMAGES: usize = 10_000;

/// The live images that share a group id; at least one.
#[derive(Debug, Clone)]
pub struct Group {
    /// The `groupId` of its images.
    pub id: String,
    /// Its images in their order. The first is the title image.
    pub images: Vec<(ImageId, Arc<Entry>)>,
    /// When the newest of them was uploaded, as in its record.
    pub upload_date: Option<String>,
}

/// One entry of a list in which each group appears once.
#[derive(Debug, Clone)]
pub enum Shown {
    /// An image without a group.
    Image((ImageId, Arc<Entry>)),
    /// A group with all its images.
    Group(Group),
}

/// The end position of a page of such a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The position of its last entry.
    pub last: Position,
    /// The upload time of the newest image when the first page was made: a group that grows after that keeps its
    /// position.
    pub started: Timestamp,
}

/// One page of such a list.
#[derive(Debug)]
pub struct GroupedPage {
    /// Images and groups, newest first; a group is sorted by its newest image.
    pub entries: Vec<Shown>,
    /// Where the next page starts, if there is one.
    pub next: Option<Cursor>,
    /// The number of entries on all pages; counted for the first page only.
    pub total: Option<Total>,
}

impl GroupedPage {
    /// A page of at most `limit` images and groups of a state, newest first, after `after` if given. A group is listed, as a
    /// whole, if the filter matches one of its images; the type `group` lists groups only.
    pub async fn of(view: &View, filter: &Filter, after: Option<&Cursor>, limit: usize) -> Result<Self> {
        let only_groups = filter.kind.as_deref() == Some("group");
        let filter = &Filter { kind: filter.kind.clone().filter(|_| !only_groups), ..filter.clone() };
        let takes = filter.takes();
        let taken = |entry: &Entry| entry.live().is_some_and(&takes);
        let shows = async |entry: &Entry| {
            Ok::<_, CatalogError>(match entry.live().and_then(Record::group) {
                Some(_) if filter.is_empty() => true,
                Some(group) => view.group(group).await?.iter().any(|(_, member)| taken(member)),
                None => !only_groups && taken(entry),
            })
        };
        let started = after.map(|after| after.started);
        let mut leaders = view.leaders_with(after.map(|after| &after.last), started, &filter.tokens());
        let (mut page, mut more) = (Vec::new(), false);
        while !more && let Some((position, entry)) = leaders.try_next().await? {
            if shows(&entry).await? {
                more = page.len() == limit;
                if !more {
                    page.push((position, entry));
                }
            }
        }
        let total = match after {
            Some(_) => None,
            None if filter.is_empty() && !only_groups => Some(Total::Exactly(view.leading().await?)),
            None => {
                let rest = leaders.and_then(async |(_, entry)| shows(&entry).await);
                Some(Total::count(page.len() as u64 + u64::from(more), pin!(rest)).await?)
            }
        };
        let (mut entries, mut images, mut last) = (Vec::new(), 0, None);
        for (position, entry) in page {
            let shown = match entry.live().and_then(Record::group) {
                Some(group) => Group::find(view, group).await?.map(Shown::Group),
                None => Some(Shown::Image((position.1.clone(), entry))),
            };
            images += shown.as_ref().map_or(0, Shown::images);
            if images > MAX_PAGE_IMAGES && !entries.is_empty() {
                more = true;
                break;
            }
            entries.extend(shown);
            last = Some(position);
        }
        let newest = view.newest(None).try_next().await?.map_or(Timestamp::MIN, |((newest, _), _)| newest);
        let next = last.filter(|_| more).map(|last| Cursor { last, started: started.unwrap_or(newest) });
        Ok(Self { entries, next, total })
    }
}

/// New contents of a group.
#[derive(Debug, Clone, Default)]
pub struct GroupContents {
    /// All its images in their order.
    pub images: Vec<String>,
    /// Its title; `None` keeps it.
    pub title: Edit<String>,
}

/// A change of a group's metadata. Fields that are `None` stay as they are.
#[derive(Debug, Clone, Default)]
pub struct GroupEdit {
    /// Its title.
    pub title: Edit<String>,
    /// The image that becomes the first.
    pub title_image: Option<String>,
}

/// An image with its present state.
type Member = (ImageId, Arc<Entry>);

/// The changes for a commit: each image with its present state and its new content.
type Changes = Vec<(ImageId, Arc<Entry>, Content)>;

impl Group {
    /// The group with this id, if an image references it.
    pub async fn find(view: &View, id: &str) -> Result<Option<Self>, CatalogError> {
        let mut images = view.group(id).await?;
        let upload_date = images.first().and_then(|(_, entry)| entry.live()?.upload_date.clone());
        images.sort_by_cached_key(|(position, entry)| rank(position, entry));
        let images: Vec<_> = images.into_iter().map(|((_, id), entry)| (id, entry)).collect();
        Ok((!images.is_empty()).then(|| Self { id: id.to_owned(), images, upload_date }))
    }

    /// Its title: that of the first image that has one. All images have it, except one that joined while the title was
    /// set.
    pub fn title(&self) -> Option<&str> {
        self.images.iter().find_map(|(_, entry)| entry.live()?.group_title.as_deref())
    }

    /// The record of the title image.
    pub fn title_record(&self) -> Option<&Record> {
        self.images.first()?.1.live()
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.images.iter().position(|(member, _)| member.as_str() == id)
    }
}

impl Shown {
    /// How many images it has.
    fn images(&self) -> usize {
        match self {
            Self::Image(_) => 1,
            Self::Group(group) => group.images.len(),
        }
    }
}

impl Record {
    /// Puts the image into a group at this order, or into none. Returns whether that changed the record.
    fn set_group(&mut self, group: Option<&str>, order: i64, title: Option<&str>) -> bool {
        let (group, order, title) = (group.map(str::to_owned), Some(order), title.map(str::to_owned));
        if self.group_id == group && self.order == order && self.group_title == title {
            return false;
        }
        self.group_id = group;
        self.order = order;
        self.group_title = title;
        // An import may have left values of another type under these names; they are replaced too.
        for name in ["groupId", "order", "groupTitle"] {
            self.extra.remove(name);
        }
        true
    }
}

/// Reads and changes groups of images.
#[derive(Debug)]
pub struct Groups {
    pub(crate) core: Arc<Core>,
    pub(crate) images: Arc<Images>,
    pub(crate) records: Arc<ImageRecords>,
    pub(crate) replication: Arc<Replicator>,
}

impl Groups {
    /// The group with this id.
    pub async fn get(&self, id: &str) -> Result<Group> {
        self.core.catalog.refresh().await?;
        let group = Group::find(&self.core.catalog.view(), id).await?;
        group.ok_or_else(|| Error::NoSuchGroup(id.to_owned()))
    }

    /// Makes a group consist of exactly these images, in this order; the group need not exist yet. Its other images
    /// leave it. The present group, if any, must be the expected one.
    pub async fn arrange(&self, id: &str, wanted: &GroupContents, expected: impl Precondition<Group>) -> Result<Group> {
        let fields = Fields { group_id: Some(id.to_owned()), ..Fields::default() };
        fields.check()?;
        check_title(&wanted.title)?;
        self.replication.check_lag()?;
        if wanted.images.is_empty() {
            return Err(Error::Invalid("A group has at least one image; delete it instead.".to_owned()));
        }
        check_distinct(&wanted.images)?;
        let plan = |group: Option<&Group>, members: &[Member]| {
            let present = group.and_then(Group::title).map(str::to_owned);
            let title = wanted.title.clone().unwrap_or(present);
            let named: HashSet<&str> = wanted.images.iter().map(String::as_str).collect();
            let kept = |id: &ImageId| named.contains(id.as_str());
            let had = group.map_or(&[][..], |group| &group.images);
            let left = had.iter().filter(|(id, _)| !kept(id)).filter_map(|(id, entry)| leaving(id, entry));
            let mut changes: Changes = left.collect();
            changes.extend(in_order(id, members, title.as_deref()));
            Ok(changes)
        };
        self.change_group(id, &expected, &wanted.images, plan).await?;
        self.get(id).await
    }

    /// Changes a group's title or its title image.
    pub async fn rename(&self, id: &str, wanted: &GroupEdit, expected: impl Precondition<Group>) -> Result<Group> {
        check_title(&wanted.title)?;
        self.replication.check_lag()?;
        let plan = |group: Option<&Group>, _: &[Member]| {
            let group = group.ok_or_else(|| Error::NoSuchGroup(id.to_owned()))?;
            let mut images = group.images.clone();
            if let Some(title_image) = &wanted.title_image {
                let outside = || Error::Invalid(format!("{title_image:?} is not an image of this group."));
                let at = group.position(title_image).ok_or_else(outside)?;
                images[..=at].rotate_right(1);
            }
            let title = wanted.title.clone().unwrap_or_else(|| group.title().map(str::to_owned));
            if wanted.title_image.is_some() {
                return Ok(in_order(id, &images, title.as_deref()).collect());
            }
            let titled = |(image, entry): &Member| {
                let mut record = entry.live()?.clone();
                let order = record.order.unwrap_or(DEFAULT_ORDER);
                let changed = record.group_title != title && record.set_group(Some(id), order, title.as_deref());
                changed.then(|| (image.clone(), Arc::clone(entry), Content::Live(record)))
            };
            Ok(images.iter().filter_map(titled).collect())
        };
        self.change_group(id, &expected, &[], plan).await?;
        self.get(id).await
    }

    /// Reorders the images of a group; the order must contain each of them once.
    pub async fn reorder(&self, id: &str, order: &[String], expected: impl Precondition<Group>) -> Result<Group> {
        check_distinct(order)?;
        self.replication.check_lag()?;
        let plan = |group: Option<&Group>, _: &[Member]| {
            let group = group.ok_or_else(|| Error::NoSuchGroup(id.to_owned()))?;
            let members: HashMap<&str, _> = group.images.iter().map(|member| (member.0.as_str(), member)).collect();
            let images: Option<Vec<_>> =
                order.iter().map(|name| members.get(name.as_str()).copied().cloned()).collect();
            let images = images.filter(|images| images.len() == group.images.len());
            let images = images.ok_or_else(|| {
                Error::Invalid("The order must list every image of the group once, and no other.".to_owned())
            })?;
            Ok(in_order(id, &images, group.title()).collect())
        };
        self.change_group(id, &expected, &[], plan).await?;
        self.get(id).await
    }

    /// Dissolves a group: its images stay. Returns their number.
    pub async fn dissolve(&self, id: &str, expected: impl Precondition<Group>) -> Result<usize> {
        self.replication.check_lag()?;
        let plan = |group: Option<&Group>, _: &[Member]| {
            let group = group.ok_or_else(|| Error::NoSuchGroup(id.to_owned()))?;
            Ok(group.images.iter().filter_map(|(id, entry)| leaving(id, entry)).collect())
        };
        Ok(self.change_group(id, &expected, &[], plan).await?.len())
    }

    /// Deletes a group with its images, in one commit. Their replicas stay in the archive, so a restore brings them
    /// back. Returns the number of images.
    pub async fn delete(&self, id: &str, expected: impl Precondition<Group>) -> Result<usize> {
        let group = self.get(id).await?;
        if group.images.iter().any(|(_, entry)| entry.live().is_some_and(|record| record.sha256.is_none())) {
            // Imported images that have not been completed have no replica yet.
            self.records.complete().await?;
        }
        let deleted_at = self.core.clock.now();
        let tombstone = |(id, entry): &Member| {
            let sha256 = entry.live()?.sha256;
            Some((id.clone(), Arc::clone(entry), Content::Deleted(Tombstone { deleted_at, sha256 })))
        };
        let plan = |group: Option<&Group>, _: &[Member]| {
            let group = group.ok_or_else(|| Error::NoSuchGroup(id.to_owned()))?;
            Ok(group.images.iter().filter_map(tombstone).collect())
        };
        let mut outcome = self.change_group(id, &expected, &[], plan).await;
        if expected.holds(Some(&group)) {
            let mut images = group.images.iter();
            while outcome.as_ref().is_err_and(|error| error.store_kind() == Some(ErrorKind::Full))
                && let Some((image, entry)) = images.next()
                && self.images.makes_room(image, entry).await
            {
                outcome = self.change_group(id, &expected, &[], plan).await;
            }
        }
        let deleted = outcome?;
        for Changed { id, before, .. } in &deleted {
            self.images.delete_bytes_of_deleted(id, before).await;
        }
        Ok(deleted.len())
    }

    /// Commits the changes that `plan` derives from the present group and from the present states of these images.
    async fn change_group(
        &self,
        id: &str,
        expected: &impl Precondition<Group>,
        images: &[String],
        plan: impl Fn(Option<&Group>, &[Member]) -> Result<Changes>,
    ) -> Result<Vec<Changed>> {
        let planned = async || {
            self.core.catalog.refresh().await?;
            let view = self.core.catalog.view();
            let group = Group::find(&view, id).await?;
            let changes = plan(group.as_ref(), &live_images(&view, images).await?)?;
            if expected.holds(group.as_ref()) { Ok(changes) } else { Err(Error::Changed) }
        };
        if !expected.is_any() {
            // Fails without a lease, for which a full disk has no room.
            planned().await?;
        }
        let permit = self.core.begin_edit(!expected.is_any()).await?;
        let changed = async {
            let changes = planned().await?;
            permit.check()?;
            self.records.commit_changes(changes).await
        };
        let changed = changed.await;
        permit.end(changed).await
    }
}

/// The present states of images; each must be live.
async fn live_images(view: &View, names: &[String]) -> Result<Vec<Member>> {
    let mut images = Vec::with_capacity(names.len());
    for name in names {
        let unknown = || Error::NoSuchImage(name.clone());
        let entry = view.get_live(name).await?.ok_or_else(unknown)?;
        images.push((ImageId::new(name).map_err(|_| unknown())?, entry));
    }
    Ok(images)
}

/// The images that change when a group gets this order.
fn in_order(
    group: &str,
    images: &[Member],
    title: Option<&str>,
) -> impl Iterator<Item = (ImageId, Arc<Entry>, Content)> {
    images.iter().zip(0..).filter_map(move |((id, entry), order)| {
        let mut record = entry.live()?.clone();
        let changed = record.set_group(Some(group), order, title);
        changed.then(|| (id.clone(), Arc::clone(entry), Content::Live(record)))
    })
}

/// An image that leaves its group.
fn leaving(id: &ImageId, entry: &Arc<Entry>) -> Option<(ImageId, Arc<Entry>, Content)> {
    let mut record = entry.live()?.clone();
    record.set_group(None, DEFAULT_ORDER, None).then(|| (id.clone(), Arc::clone(entry), Content::Live(record)))
}

fn check_title(title: &Edit<String>) -> Result<()> {
    if title.iter().flatten().any(|title| title.chars().count() > MAX_NAME) {
        return Err(Error::Invalid(format!("The title is longer than {MAX_NAME} characters.")));
    }
    Ok(())
}

fn check_distinct(images: &[String]) -> Result<()> {
    let mut seen = HashSet::new();
    match images.iter().find(|image| !seen.insert(*image)) {
        Some(twice) => Err(Error::Invalid(format!("{twice:?} is listed twice."))),
        None => Ok(()),
    }
}
