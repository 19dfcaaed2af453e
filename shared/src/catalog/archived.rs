//! The pages of states that backups keep, in the archive; and which pages are still referenced.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::root::{Entries, EntryReader, EntryTree, Root};
use super::{Catalog, CatalogError, View};
use crate::layout;
use store::digest::Digest;
use store::{Optional, Store, StoreError};
use tree::Pages;

/// Pages checked concurrently.
const CHECKS: usize = 8;

impl Catalog {
    fn archive_place(&self) -> usize {
        usize::from(!self.mirrors.is_empty())
    }

    fn archive_reader(&self) -> &Arc<EntryReader> {
        &self.readers[self.archive_place()]
    }

    /// The state of a tree of entries in the archive. It has no lists.
    pub(crate) fn archived_view(&self, names: EntryTree) -> View {
        View::at(Arc::new(Root { names, ..Root::default() }), self.archive_reader())
    }

    /// The entries of the state according to the cache, as a tree. Its pages are in the archive or, if a root has them,
    /// in the primary. It has no lists.
    pub(crate) async fn stored_view(&self) -> Result<View, CatalogError> {
        let view = self.view();
        let changed = view.overlay.iter().map(|(id, overlaid)| (id.as_str().into(), Some((*overlaid.entry).clone())));
        let changed: tree::Changes<Entries> = changed.collect();
        let names = match changed.is_empty() {
            true => view.names().clone(),
            false => self.archive_reader().update(view.names(), &changed).await?.tree,
        };
        Ok(self.archived_view(names))
    }

    /// About how many pages the tree of the present entries has that `known`, a tree in the archive, does not.
    pub(crate) async fn pages_beyond(&self, known: &EntryTree) -> Result<u64, CatalogError> {
        let view = self.view();
        let beyond = view.reader.pages_beyond(view.names(), self.archive_reader(), known).await?;
        let levels = view.names().top().map_or(1, |top| u64::from(top.level) + 1);
        Ok(beyond.len() as u64 + view.overlay.len() as u64 * levels)
    }

    /// Stores the pages of a state's entries that `known`, a tree in the archive, does not have, and reads each back.
    /// Stores a page again that is older than `young_since`, since a prune might remove it.
    pub(crate) async fn archive_pages(
        &self,
        state: &View,
        known: &EntryTree,
        young_since: Timestamp,
    ) -> Result<(), CatalogError> {
        let place = self.archive_place();
        let archive = self.location(place);
        let beyond = self.pages_to_copy(&state.reader, state.names(), place, known).await?;
        let store = async |page: Digest| {
            let key = layout::page(&page);
            let found = archive.inspect(&key).await.intact()?;
            if found.is_some_and(|(meta, digest)| digest == page && meta.modified >= young_since) {
                return Ok(());
            }
            self.pages[place].write(&page, self.readers[0].bytes(&page).await?).await?;
            if archive.hash(&key).await?.1 != page {
                return Err(StoreError::new("read back", key, store::ErrorKind::Corrupt).into());
            }
            Ok::<_, CatalogError>(())
        };
        stream::iter(beyond).map(store).buffer_unordered(CHECKS).try_collect().await
    }

    /// Whether the archive holds a tree of entries: its top page, or all its pages.
    pub(crate) async fn archive_has(&self, entries: &EntryTree, thoroughly: bool) -> Result<bool, CatalogError> {
        let archive = self.location(self.archive_place());
        let Some(top) = entries.top() else { return Ok(true) };
        if archive.head(&layout::page(&top.page)).await.optional()?.is_none() {
            return Ok(false);
        }
        if !thoroughly {
            return Ok(true);
        }
        let mut pages = HashSet::new();
        match self.archive_reader().reach(entries, &mut pages).await {
            Err(error) if error.is_damage() => return Ok(false),
            reached => reached?,
        }
        let mut listed = archive.list(layout::CATALOG, None);
        while let Some(meta) = listed.try_next().await? {
            if let Some(page) = layout::parse_page(&meta.key) {
                pages.remove(&page);
            }
        }
        Ok(pages.is_empty())
    }

    /// Adds the pages of a tree of entries in the archive to `known`.
    pub(crate) async fn reach_archived(
        &self,
        entries: &EntryTree,
        known: &mut HashSet<Digest>,
    ) -> Result<(), CatalogError> {
        Ok(self.archive_reader().reach(entries, known).await?)
    }

    /// The pages of a location's root; none if it has no root that can be read.
    pub(crate) async fn pages_of_root(&self, place: usize) -> Result<HashSet<Digest>, CatalogError> {
        let mut pages = HashSet::new();
        if let Some((_, Ok((root, _)))) = self.root_of(place).await.intact()? {
            for tree in root.trees() {
                match self.readers[place].reach(tree, &mut pages).await {
                    // The page that is lost is among them already.
                    Err(error) if error.is_damage() => {}
                    reached => reached?,
                }
            }
        }
        Ok(pages)
    }

    /// Adds the pages of the root of each location to `known`; returns false if one of them cannot be read.
    pub(crate) async fn reach_roots(&self, known: &mut HashSet<Digest>) -> Result<bool, CatalogError> {
        for (place, reader) in self.readers.iter().enumerate() {
            let Some((_, decoded)) = self.root_of(place).await.optional()? else { continue };
            let Ok((root, _)) = decoded else { return Ok(false) };
            for tree in root.trees() {
                reader.reach(tree, known).await?;
            }
        }
        let view = self.view();
        for tree in view.root.trees() {
            view.reader.reach(tree, known).await?;
        }
        Ok(true)
    }

    /// The locations that hold pages.
    pub(crate) fn locations(&self) -> impl Iterator<Item = &Store> {
        std::iter::once(&self.primary).chain(&self.mirrors)
    }

    /// Whether a location has a page that is intact.
    pub(crate) async fn has_page(&self, place: usize, page: &Digest) -> bool {
        let found = self.location(place).hash(&layout::page(page)).await;
        found.is_ok_and(|(_, digest)| digest == *page)
    }

    /// Replaces a page that a location lacks, or cannot return, by that of another one; returns false if none has it.
    pub(crate) async fn heal_page(&self, place: usize, page: &Digest) -> Result<bool, StoreError> {
        self.pages[place].put_back(page).await
    }
}
