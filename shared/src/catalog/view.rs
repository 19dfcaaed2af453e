//! [`View`]: the state of the catalog at one moment, as everything outside of the catalog reads it.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use super::CatalogError;
use super::merge::merge;
use super::overlay::{Overlaid, Overlay};
use super::pages::NoPages;
use super::record::Entry;
use super::root::{Entries, EntryReader, EntryTree, Root, Sums};
use crate::layout::ImageId;
use store::digest::{Digest, Hasher};
use tree::{Cursor, Direction, TreeError};

/// Entries of a state, in the order of their names.
pub type EntryStream = BoxStream<'static, Result<(ImageId, Arc<Entry>), CatalogError>>;
/// Entries of a tree under their keys.
type KeyedStream = BoxStream<'static, Result<(Box<str>, Arc<Entry>), CatalogError>>;

/// The newest state of every known image, deleted ones included, at one moment: a root, and the changes that are not in
/// it yet. Pages are read when a question needs them. A clone costs nothing.
#[derive(Clone)]
pub struct View {
    pub(super) reader: Arc<EntryReader>,
    pub(super) root: Arc<Root>,
    pub(super) overlay: Arc<Overlay>,
}

/// Totals of a state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Images that exist.
    pub live: u64,
    /// Deleted images that still have a tombstone.
    pub deleted: u64,
    /// Tombstones that have been dropped.
    pub dropped: u64,
    /// Images that exist and whose record has no digest: imported ones that were not examined yet, and imported links.
    pub undigested: u64,
    /// Length in bytes of all images that exist.
    pub bytes: u64,
}

impl Totals {
    /// How many images were ever uploaded, imported or adopted.
    pub fn uploads(&self) -> u64 {
        self.live + self.deleted + self.dropped
    }
}

impl View {
    /// The state that a root names.
    pub(super) fn at(root: Arc<Root>, reader: &Arc<EntryReader>) -> Self {
        Self { reader: Arc::clone(reader), root, overlay: Arc::default() }
    }

    /// The state of the root alone.
    pub(super) fn without_overlay(&self) -> Self {
        Self::at(Arc::clone(&self.root), &self.reader)
    }

    /// The state of a root, given its document and its pages, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn stored(document: &[u8], pages: Arc<dyn tree::Pages>) -> Result<Self, String> {
        let (root, _) = Root::decode(document).map_err(|error| error.to_string())?;
        Ok(Self::at(Arc::new(root), &EntryReader::new(pages, 0)))
    }

    /// Whether the two are copies of one state, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.root, &other.root) && Arc::ptr_eq(&self.overlay, &other.overlay)
    }

    /// The same state with its pages read otherwise, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn with_pages(&self, pages: Arc<dyn tree::Pages>) -> Self {
        Self { reader: EntryReader::new(pages, 0), ..self.clone() }
    }

    /// The state of a tree of entries, given its pages, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn stored_names(names: EntryTree, pages: Arc<dyn tree::Pages>) -> Self {
        Self::at(Arc::new(Root { names, ..Root::default() }), &EntryReader::new(pages, 0))
    }

    /// A state with these entries, in memory.
    pub fn of(entries: impl IntoIterator<Item = (ImageId, Arc<Entry>)>) -> Self {
        let mut overlay = Overlay::default();
        for (id, entry) in entries {
            overlay.join(&id, &entry, None);
        }
        let reader = EntryReader::new(Arc::new(NoPages), 0);
        Self { reader, root: Arc::default(), overlay: Arc::new(overlay) }
    }

    /// The tree of the entries that are not in memory alone.
    pub(crate) fn names(&self) -> &EntryTree {
        &self.root.names
    }

    /// A name for the state: states with other entries have other names. A state may have several, since a compaction
    /// moves changes into the root.
    pub fn version(&self) -> Digest {
        let mut hasher = Hasher::default();
        self.root.names.top().into_iter().for_each(|top| hasher.update(top.page.as_bytes()));
        for (id, Overlaid { entry, .. }) in self.overlay.iter() {
            // A NUL, which no name has, ends the name.
            hasher.update(format!("{id}\0{} {}\0", entry.stamp.version, entry.stamp.commit).as_bytes());
            if entry.stamp.commit.is_nil() {
                // It comes from a file of an older format, which several states may have in common.
                hasher.update(format!("{:?}", entry.content).as_bytes());
            }
        }
        hasher.finish()
    }

    /// Totals of the state.
    pub fn totals(&self) -> Totals {
        let Sums { live, deleted, undigested, bytes, .. } = self.root.names.summary();
        let mut totals = Totals { live, deleted, undigested, bytes, dropped: self.root.dropped_tombstones };
        for (id, overlaid) in self.overlay.iter() {
            if let Some(replaced) = &overlaid.replaces {
                let gone = Sums::of(replaced, id.is_link());
                totals.live -= gone.live;
                totals.deleted -= gone.deleted;
                totals.undigested -= gone.undigested;
                totals.bytes -= gone.bytes;
            }
            let new = Sums::of(&overlaid.entry, id.is_link());
            totals.live += new.live;
            totals.deleted += new.deleted;
            totals.undigested += new.undigested;
            totals.bytes += new.bytes;
        }
        totals
    }

    /// The entry of an image, if one is known.
    pub async fn get(&self, id: &str) -> Result<Option<Arc<Entry>>, CatalogError> {
        match self.overlay.get(id) {
            Some(overlaid) => Ok(Some(Arc::clone(&overlaid.entry))),
            None => self.in_root(id).await,
        }
    }

    /// The root's entry of an image.
    pub(super) async fn in_root(&self, id: &str) -> Result<Option<Arc<Entry>>, CatalogError> {
        Ok(self.reader.get(&self.root.names, id).await?)
    }

    /// The entry of an image, if it is live.
    pub async fn get_live(&self, id: &str) -> Result<Option<Arc<Entry>>, CatalogError> {
        Ok(self.get(id).await?.filter(|entry| entry.live().is_some()))
    }

    /// Whether a live image has this name.
    pub async fn is_live(&self, id: &str) -> Result<bool, CatalogError> {
        Ok(self.get_live(id).await?.is_some())
    }

    /// Whether joining `entry` in would change nothing.
    pub(crate) async fn covers(&self, id: &ImageId, entry: &Entry) -> Result<bool, CatalogError> {
        Ok(self.get(id.as_str()).await?.is_some_and(|present| !entry.supersedes(&present)))
    }

    /// The version for the next state of an image. It is above that of every tombstone ever dropped, so that a
    /// surviving copy of one never wins against an image that was restored since.
    pub async fn next_version(&self, id: &str) -> Result<u64, CatalogError> {
        Ok(self.get(id).await?.map_or(self.root.dropped_version, |entry| entry.stamp.version) + 1)
    }

    /// The version for a new image, whatever is known under its name: any edit or deletion of it wins against a late
    /// upload, and two attempts at one upload are one image.
    pub fn first_version(&self) -> u64 {
        self.root.dropped_version + 1
    }

    /// Every entry in the order of names.
    pub fn entries(&self) -> EntryStream {
        self.by_name(|_| true)
    }

    /// Every live entry in the order of names.
    pub fn live(&self) -> EntryStream {
        let is_live = |(_, entry): &(ImageId, Arc<Entry>)| std::future::ready(entry.live().is_some());
        self.by_name(|sums| sums.live > 0).try_filter(is_live).boxed()
    }

    /// Entries in the order of names. A page is not read if its sums are not `wanted`.
    pub(super) fn by_name(&self, wanted: impl Fn(&Sums) -> bool + Send + Sync + 'static) -> EntryStream {
        let overlay = Arc::clone(&self.overlay);
        let stored = self.cursor(&self.root.names, Direction::Forward, None, wanted);
        let stored = stored.map(|read| read.and_then(|(key, entry)| Ok((id_of(&key)?, entry))));
        let is_current = move |(id, _): &(ImageId, Arc<Entry>)| std::future::ready(overlay.get(id.as_str()).is_none());
        let new = self.overlay.iter().map(|(id, overlaid)| (id.clone(), Arc::clone(&overlaid.entry)));
        merge(stored.try_filter(is_current).boxed(), stream::iter(new.collect::<Vec<_>>()).map(Ok).boxed(), Ord::cmp)
    }

    /// About `size` live images with a digest, of all ages: they are spread over the order of names, and names begin
    /// with a time.
    pub async fn sample(&self, size: usize) -> Result<Vec<ImageId>, CatalogError> {
        let has_bytes = |entry: &Entry| entry.live().is_some_and(|record| record.sha256.is_some());
        let new = self.overlay.newest().filter(|(_, entry)| has_bytes(entry)).take(size);
        let mut sample: Vec<ImageId> = new.map(|((_, id), _)| id.clone()).collect();
        let (all, wanted) = (self.root.names.entries(), size.saturating_sub(sample.len()) as u64);
        for nth in 0..wanted.min(all) {
            let Some((name, entry)) = self.reader.nth(&self.root.names, nth * all / wanted.min(all)).await? else {
                break;
            };
            if has_bytes(&entry) && self.overlay.get(&name).is_none() {
                sample.push(id_of(&name)?);
            }
        }
        Ok(sample)
    }

    /// The contents of the entries that are not in the root yet, deleted ones included.
    pub(crate) fn pending_contents(&self) -> impl Iterator<Item = (ImageId, Digest)> {
        self.overlay.iter().filter_map(|(id, overlaid)| Some((id.clone(), overlaid.entry.content_digest()?)))
    }

    /// Visits every entry, except on pages that `enter` refuses.
    pub(crate) async fn visit(
        &self,
        enter: impl FnMut(&Digest) -> bool,
        mut each: impl FnMut(&Entry),
    ) -> Result<(), CatalogError> {
        self.overlay.iter().for_each(|(_, overlaid)| each(&overlaid.entry));
        Ok(self.reader.walk(&self.root.names, enter, |_, entry| each(&entry)).await?)
    }

    /// The live entries without a digest in the order of names.
    pub(crate) fn undigested(&self) -> EntryStream {
        let lacks = |(_, entry): &(ImageId, Arc<Entry>)| {
            std::future::ready(entry.live().is_some_and(|record| record.sha256.is_none()))
        };
        self.by_name(|sums| sums.undigested > 0).try_filter(lacks).boxed()
    }

    pub(super) fn cursor(
        &self,
        tree: &EntryTree,
        direction: Direction,
        after: Option<&str>,
        wanted: impl Fn(&Sums) -> bool + Send + Sync + 'static,
    ) -> KeyedStream {
        let cursor = Cursor::new(&self.reader, tree, direction, after);
        let next = async |(mut cursor, wanted): (Cursor<Entries>, _)| {
            let is_wanted: &(dyn Fn(&Sums) -> bool + Send + Sync) = &wanted;
            let next = cursor.next(|link| is_wanted(&link.summary)).await?;
            Ok(next.map(|found| (found, (cursor, wanted))))
        };
        stream::try_unfold((cursor, wanted), next).boxed()
    }
}

pub(super) fn id_of(name: &str) -> Result<ImageId, CatalogError> {
    ImageId::new(name).map_err(|_| unusable(name))
}

pub(super) fn unusable(key: &str) -> CatalogError {
    let reason = format!("{key:?} is not the key of an entry");
    TreeError::Damaged { page: Digest::of(key.as_bytes()), reason }.into()
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("root", &self.root).field("overlay", &self.overlay).finish_non_exhaustive()
    }
}
