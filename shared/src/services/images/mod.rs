//! Reads, lists, edits and deletes images.

pub mod bytes;
pub mod fields;
pub(crate) mod files;
mod read_through;
pub mod records;

use std::sync::Arc;

use futures::future;
use futures::stream::{Stream, TryStreamExt};
use jiff::SignedDuration;

use self::records::Changed;
use crate::catalog::{CatalogError, Content, Entry, Position, Record, Tokens, Tombstone, View};
use crate::core::Core;
use crate::core::ages::{AGING, uploaded_after};
use crate::core::archive::Archived;
use crate::core::edit::Precondition;
use crate::core::error::{Error, Result};
use crate::layout::{self, ImageId};
use crate::services::images::records::ImageRecords;
use crate::services::replication::Replicator;
use crate::services::thumbnails::ThumbnailSource;
use store::ErrorKind;

pub use self::fields::{DEFAULT_CATEGORY, DEFAULT_ORDER, Edit, Fields, MAX_DESCRIPTION, MAX_NAME};
pub use self::read_through::{TRUSTED, UNCHANGED};

/// How long an image may still be sent after another process has deleted it.
pub const DELETION_DELAY: SignedDuration = SignedDuration::from_secs(1);

/// Which images a list contains.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Those of this category.
    pub category: Option<String>,
    /// Whether to exclude those with a category.
    pub without_category: bool,
    /// Those of this group.
    pub group_id: Option<String>,
    /// Those of this type.
    pub kind: Option<String>,
    /// Those where each word of this text occurs in the description, original name, category, group title or URL, in
    /// any order and case.
    pub text: Option<String>,
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// The images, newest first.
    pub images: Vec<(ImageId, Arc<Entry>)>,
    /// Where the next page starts, if there is one.
    pub next: Option<Position>,
    /// The number of images on all pages; counted for the first page only.
    pub total: Option<Total>,
}

impl Page {
    /// A page of at most `limit` images of a state, newest first, after `after` if given.
    pub async fn of(view: &View, filter: &Filter, after: Option<&Position>, limit: usize) -> Result<Self> {
        let takes = filter.takes();
        let mut newest = view.newest_with(after, &filter.tokens());
        let (mut page, mut more) = (Vec::new(), false);
        while !more && let Some((position, entry)) = newest.try_next().await? {
            if entry.live().is_some_and(&takes) {
                more = page.len() == limit;
                if !more {
                    page.push((position, entry));
                }
            }
        }
        let total = match after {
            Some(_) => None,
            None if filter.is_empty() => Some(Total::Exactly(view.totals().live)),
            None => {
                let rest = newest.map_ok(|(_, entry)| entry.live().is_some_and(&takes));
                Some(Total::count(page.len() as u64 + u64::from(more), rest).await?)
            }
        };
        let next = page.last().filter(|_| more).map(|(position, _)| position.clone());
        let images = page.into_iter().map(|((_, id), entry)| (id, entry)).collect();
        Ok(Self { images, next, total })
    }
}

/// The number of entries of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Total {
    /// There are this many.
    Exactly(u64),
    /// There are at least this many. Counting all would mean to read the whole catalog.
    AtLeast(u64),
}

impl Total {
    /// How many further records are looked at to count those of a list.
    const COUNTED: usize = 1_000;

    /// Adds those of the rest of a list that it takes to those that were found already.
    pub(crate) async fn count(
        mut count: u64,
        mut rest: impl Stream<Item = Result<bool, CatalogError>> + Unpin,
    ) -> Result<Self, CatalogError> {
        for _ in 0..Self::COUNTED {
            match rest.try_next().await? {
                Some(taken) => count += u64::from(taken),
                None => return Ok(Self::Exactly(count)),
            }
        }
        Ok(Self::AtLeast(count))
    }
}

/// A change of an image's metadata. Fields that are `None` stay as they are.
#[derive(Debug, Clone, Default)]
pub struct Patch {
    /// The category.
    pub category: Edit<String>,
    /// The description.
    pub description: Edit<String>,
    /// The group.
    pub group_id: Edit<String>,
    /// The order in the group.
    pub order: Edit<i64>,
}

impl Filter {
    /// Whether it matches every image.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { category, without_category, group_id, kind, text } = self;
        !without_category && [category, group_id, kind, text].into_iter().all(Option::is_none)
    }

    /// What the records of the list have in common.
    pub(crate) fn tokens(&self) -> Tokens {
        let mut tokens = Tokens::default();
        self.category.iter().for_each(|category| tokens.category(category));
        if self.without_category {
            tokens.category("");
        }
        self.kind.iter().for_each(|kind| tokens.kind(kind));
        let text = self.text.as_ref().map(|text| text.to_lowercase()).unwrap_or_default();
        text.split_whitespace().for_each(|word| tokens.word(word));
        tokens
    }

    /// Matches the records of the list.
    pub(crate) fn takes(&self) -> impl Fn(&Record) -> bool {
        let same = |wanted: &Option<String>, has: &Option<String>| wanted.is_none() || wanted == has;
        let text = self.text.as_ref().map(|text| text.to_lowercase()).unwrap_or_default();
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        move |record| {
            same(&self.category, &record.category)
                && (!self.without_category || record.category.as_deref().is_none_or(str::is_empty))
                && same(&self.group_id, &record.group_id)
                && same(&self.kind, &record.kind)
                && (words.is_empty() || {
                    let fields: Vec<String> = record.searched_text().collect();
                    words.iter().all(|word| fields.iter().any(|field| field.contains(word)))
                })
        }
    }
}

impl Patch {
    fn apply(&self, record: &mut Record) {
        let Record { category, description, group_id, order, extra, .. } = record;
        let mut set_text = |name: &str, slot: &mut Option<String>, edit: &Edit<String>| {
            if let Some(value) = edit {
                slot.clone_from(value);
                // An import may have left a value of another type here; it is replaced too.
                extra.remove(name);
            }
        };
        set_text("category", category, &self.category);
        set_text("description", description, &self.description);
        set_text("groupId", group_id, &self.group_id);
        if let Some(value) = self.order {
            *order = value;
            extra.remove("order");
        }
    }

    fn check(&self) -> Result<()> {
        let text = |edit: &Edit<String>| edit.clone().flatten();
        let (category, description, group_id) = (text(&self.category), text(&self.description), text(&self.group_id));
        Fields { category, description, group_id, ..Fields::default() }.check()
    }
}

/// Reads, lists, edits and deletes images.
#[derive(Debug)]
pub struct Images {
    pub(crate) core: Arc<Core>,
    pub(crate) records: Arc<ImageRecords>,
    pub(crate) replication: Arc<Replicator>,
    pub(crate) thumbnails: Arc<ThumbnailSource>,
}

impl Images {
    /// The present state of the catalog.
    pub async fn view(&self) -> Result<View> {
        self.core.catalog.refresh().await?;
        Ok(self.core.catalog.view())
    }

    /// A page of at most `limit` images of the present state, newest first, after `after` if given.
    pub async fn list(&self, filter: &Filter, after: Option<&Position>, limit: usize) -> Result<Page> {
        Page::of(&self.view().await?, filter, after, limit).await
    }

    /// The state of a live image.
    pub async fn get(&self, id: &str) -> Result<(ImageId, Arc<Entry>)> {
        self.core.catalog.refresh().await?;
        self.known_image(id).await
    }

    /// The state of a live image, to send its bytes. On a disk it may be [`DELETION_DELAY`] old: since bytes never
    /// change, only a deletion by another process matters.
    pub async fn get_to_send(&self, id: &str) -> Result<(ImageId, Arc<Entry>)> {
        if self.core.primary.is_disk()
            && self.core.catalog.is_fresh(DELETION_DELAY)
            && let Ok(known) = self.known_image(id).await
        {
            return Ok(known);
        }
        self.get(id).await
    }

    async fn known_image(&self, id: &str) -> Result<(ImageId, Arc<Entry>)> {
        let unknown = || Error::NoSuchImage(id.to_owned());
        let name = ImageId::new(id).map_err(|_| unknown())?;
        let entry = self.core.catalog.view().get_live(id).await?;
        Ok((name, entry.ok_or_else(unknown)?))
    }

    /// Changes an image's metadata, if its present state is the expected one.
    pub async fn edit(
        &self,
        id: &str,
        patch: &Patch,
        expected: impl Precondition<Entry>,
    ) -> Result<(ImageId, Arc<Entry>)> {
        patch.check()?;
        self.replication.check_lag()?;
        let patched = |before: &Record| {
            let mut record = before.clone();
            patch.apply(&mut record);
            let moves = record.group_id != before.group_id;
            async move {
                if moves {
                    record.group_title = match record.group() {
                        Some(group) => self.core.catalog.view().group_title(group).await?,
                        None => None,
                    };
                    record.extra.remove("groupTitle");
                }
                Ok(Content::Live(record))
            }
        };
        let Changed { id, after, .. } = self.change_image(id, &expected, patched).await?;
        Ok((id, after))
    }

    /// Deletes an image. Its replica stays in the archive, so that a restore brings it back.
    pub async fn delete(&self, id: &str, expected: impl Precondition<Entry>) -> Result<ImageId> {
        self.core.catalog.refresh().await?;
        let (name, entry) = self.known_image(id).await?;
        if entry.live().is_some_and(|record| record.sha256.is_none()) {
            // Imported images that have not been completed have no replica yet.
            self.records.complete().await?;
        }
        let deleted_at = self.core.clock.now();
        let tombstone =
            |record: &Record| future::ready(Ok(Content::Deleted(Tombstone { deleted_at, sha256: record.sha256 })));
        let mut outcome = self.change_image(id, &expected, tombstone).await;
        if let Err(error) = &outcome
            && error.store_kind() == Some(ErrorKind::Full)
            && expected.holds(Some(&entry))
            && self.makes_room(&name, &entry).await
        {
            outcome = self.change_image(id, &expected, tombstone).await;
        }
        let Changed { before, .. } = outcome?;
        self.delete_bytes_of_deleted(&name, &before).await;
        Ok(name)
    }

    /// Deletes the bytes of an image whose tombstone could not be written for lack of space; returns whether that
    /// succeeded. Deleting must remain possible on a full disk: the archive's copy holds the bytes until the tombstone
    /// exists. If this fails, the client gets the error of the tombstone, whose outcome may be unknown.
    pub(crate) async fn makes_room(&self, id: &ImageId, entry: &Entry) -> bool {
        let deleted = self.delete_bytes(id, entry).await;
        if let Err(error) = &deleted {
            let error = error as &dyn std::error::Error;
            tracing::warn!(image = %id, error, "a deleted image's bytes could not be deleted to free space");
        }
        deleted.is_ok()
    }

    /// Deletes the bytes of an image whose tombstone exists.
    pub(crate) async fn delete_bytes_of_deleted(&self, id: &ImageId, before: &Entry) {
        if let Err(error) = self.delete_bytes(id, before).await {
            // The image is gone for every reader; recovery deletes the remaining bytes.
            tracing::warn!(image = %id, error = &error as &dyn std::error::Error, "a deleted image's bytes could not be deleted; the next start deletes them");
        }
    }

    /// Commits the new state of one image that `change` derives from its present one.
    async fn change_image<C: Future<Output = Result<Content>>>(
        &self,
        id: &str,
        expected: &impl Precondition<Entry>,
        change: impl Fn(&Record) -> C,
    ) -> Result<Changed> {
        if !expected.is_any() {
            // Fails without a lease, for which a full disk has no room.
            self.expected_image(id, expected).await?;
        }
        let permit = self.core.begin_edit(!expected.is_any()).await?;
        let changed = async {
            let (id, before) = self.expected_image(id, expected).await?;
            let Some(record) = before.live() else { return Err(Error::NoSuchImage(id.to_string())) };
            let content = change(record).await?;
            permit.check()?;
            let mut changed = self.records.commit_changes(vec![(id.clone(), before, content)]).await?;
            changed.pop().ok_or_else(|| Error::NoSuchImage(id.to_string()))
        };
        let changed = changed.await;
        permit.end(changed).await
    }

    /// The present state of a live image, if it is the expected one.
    async fn expected_image(&self, id: &str, expected: &impl Precondition<Entry>) -> Result<(ImageId, Arc<Entry>)> {
        let (id, before) = self.get(id).await?;
        if expected.holds(Some(&before)) { Ok((id, before)) } else { Err(Error::Changed) }
    }

    /// Deletes an image's bytes from the primary once the archive's copy is verified; leaves them if there is no such
    /// copy and none can be made.
    pub(crate) async fn delete_bytes(&self, id: &ImageId, before: &Entry) -> Result<()> {
        if let Some(record) = before.live()
            && let Some(digest) = record.sha256
        {
            // A prune may not have seen yet that such a recent record references this content.
            let verified = if uploaded_after(record, self.core.clock.now() - AGING) {
                match self.core.archive.verify(&self.core.primary, id, digest).await {
                    // Deleting must work on a full disk too.
                    Err(e) if e.kind == ErrorKind::Full => {
                        self.core.archive.verify_named(&self.core.primary, id, digest).await?
                    }
                    renewed => renewed?,
                }
            } else {
                self.core.archive.verify_named(&self.core.primary, id, digest).await?
            };
            if verified == Archived::Missing {
                return Ok(());
            }
        }
        self.core.primary.delete(&layout::image(id)).await?;
        if let Some(digest) = before.live().and_then(|record| record.sha256) {
            self.thumbnails.forget(&digest).await;
        }
        Ok(())
    }
}
