//! The roots of the mirrors: joining what they have, and bringing them up to date.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::root::{EntryReader, EntryTree, Root};
use super::{Base, Catalog, CatalogError, PieceError, View};
use crate::layout;
use store::digest::Digest;
use store::{Body, Contention, ETag, ErrorKind, Optional, PutMode, Store, StoreError};
use tree::{Pages, TreeError};

/// Pages copied concurrently.
const COPIES: usize = 8;

/// A mirror's root.
pub(super) struct Mirrored {
    pub(super) etag: ETag,
    /// The root; none if it is damaged, so that it is quarantined before it is replaced.
    pub(super) root: Option<Arc<Root>>,
}

impl Catalog {
    /// Reads a mirror's root; `None` if there is none. Writes nothing.
    pub(super) async fn read_mirror(&self, mirror: usize) -> Result<Option<Mirrored>, CatalogError> {
        let (location, key) = (&self.mirrors[mirror], layout::root());
        let read = match self.root_of(mirror + 1).await {
            // Then the primary's root, which is written first, contains all of this one.
            Err(reason) if reason.kind == ErrorKind::Corrupt && matches!(self.cache().base, Base::Known(_)) => {
                tracing::error!(place = mirror + 1, %reason, "a replica of the root cannot be read");
                let there = location.head(&key).await.optional()?;
                return Ok(there.map(|meta| Mirrored { etag: meta.etag, root: None }));
            }
            read => read.optional()?,
        };
        let Some((etag, decoded)) = read else { return Ok(None) };
        match decoded {
            Ok((root, store)) => {
                let root = Arc::new(root);
                self.cache_mut().adopt_store(mirror + 1, store, &self.mirror_view(mirror, &root))?;
                Ok(Some(Mirrored { etag, root: Some(root) }))
            }
            Err(source @ PieceError::Newer(_)) => Err(CatalogError::Piece { key, source }),
            Err(reason) => {
                tracing::error!(place = mirror + 1, %reason, "a replica of the root is damaged");
                Ok(Some(Mirrored { etag, root: None }))
            }
        }
    }

    pub(super) fn mirror_view(&self, mirror: usize, root: &Arc<Root>) -> View {
        View::at(Arc::clone(root), &self.readers[mirror + 1])
    }

    /// Joins a mirror's root into the view; `None` if there is none. Writes nothing.
    pub(super) async fn join_mirror(&self, mirror: usize) -> Result<Option<Mirrored>, CatalogError> {
        let Some(mut mirrored) = self.read_mirror(mirror).await? else { return Ok(None) };
        let Some(root) = mirrored.root.clone() else { return Ok(Some(mirrored)) };
        let theirs = self.mirror_view(mirror, &root);
        match self.join_apart(&theirs).await {
            // Its replica is lost with it; what the primary has is all there is.
            Err(error)
                if error.is_damage() && {
                    let cache = self.cache();
                    matches!(cache.base, Base::Known(_)) || cache.distrusted.contains(&mirror)
                } =>
            {
                tracing::error!(place = mirror + 1, %error, "a replica of the catalog is damaged");
                mirrored.root = None;
            }
            joined => joined?,
        }
        Ok(Some(mirrored))
    }

    /// Joins a state of another location into the view. Reads that location while nobody waits: it may hang.
    async fn join_apart(&self, theirs: &View) -> Result<(), CatalogError> {
        let before = self.view();
        let mut joined = before.clone();
        let changed = joined.join_all(theirs).await?;
        self.change_view(async |view| {
            let was = Arc::clone(&view.root);
            if Arc::ptr_eq(&view.root, &before.root) && Arc::ptr_eq(&view.overlay, &before.overlay) {
                *view = joined;
            } else {
                view.join_all(&joined).await?;
            }
            let mut cache = self.cache_mut();
            cache.unsaved |= changed;
            cache.note_new_root(was, &view.root);
            Ok(())
        })
        .await
    }

    /// Joins the mirrors' roots into the view, skipping damaged ones; returns whether one of them is intact.
    pub(super) async fn join_mirrored_roots(&self) -> Result<bool, CatalogError> {
        let mut whole = false;
        for mirror in 0..self.mirrors.len() {
            whole |= self.join_mirror(mirror).await?.is_some_and(|mirrored| mirrored.root.is_some());
        }
        Ok(whole)
    }

    /// Whether the view contains all of a mirror's root, according to the version of that root.
    pub(super) async fn holds_mirror(&self, mirror: usize) -> Result<bool, CatalogError> {
        let Some((etag, _)) = self.cache().mirrored[mirror].clone() else { return Ok(false) };
        let there = self.mirrors[mirror].head(&layout::root()).await.optional()?;
        Ok(there.is_some_and(|meta| meta.etag == etag))
    }

    /// Makes `written`, the primary's root, a mirror's root as well; `known` is the mirror's root as `written` contains
    /// it, if it was read. Returns false if the mirror has something that `written` lacks: it is in the view now, and
    /// the next compaction writes it.
    pub(super) async fn replicate_root(
        &self,
        mirror: usize,
        written: &View,
        body: &Body,
        mut known: Option<(ETag, Arc<Root>)>,
    ) -> Result<bool, CatalogError> {
        let (location, key) = (&self.mirrors[mirror], layout::root());
        let mut contention = Contention::new(&key);
        loop {
            let (mode, before) = match known.take() {
                Some((etag, root)) => (PutMode::Update(etag), root),
                None => match self.join_mirror(mirror).await? {
                    None => (PutMode::Create, Arc::default()),
                    Some(Mirrored { etag, root: None }) => {
                        self.set_aside(location, &key).await?;
                        (PutMode::Update(etag), Arc::default())
                    }
                    Some(Mirrored { etag, root: Some(root) }) => {
                        if !self.mirror_view(mirror, &root).beyond(written).await?.is_empty() {
                            return Ok(false);
                        }
                        (PutMode::Update(etag), root)
                    }
                },
            };
            let is_distrusted = self.cache().distrusted.contains(&mirror);
            let before = if is_distrusted { Arc::default() } else { before };
            if let PutMode::Update(etag) = &mode
                && !is_distrusted
                && *before == *written.root
            {
                self.cache_mut().mirrored[mirror] = Some((etag.clone(), before));
                return Ok(true);
            }
            self.copy_pages(written, &before, mirror + 1).await?;
            match location.put(&key, body, &mode).await {
                Ok(etag) => {
                    let mut cache = self.cache_mut();
                    cache.mirrored[mirror] = Some((etag, Arc::clone(&written.root)));
                    cache.distrusted.remove(&mirror);
                    return Ok(true);
                }
                Err(e) if e.is_lost_race() => contention.lost().await?,
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The pages of `after`, a tree that `reader` reads, that `before`, a tree in the location `place`, does not have.
    /// All of them if the location has lost a part of `before`.
    pub(super) async fn pages_to_copy(
        &self,
        reader: &EntryReader,
        after: &EntryTree,
        place: usize,
        before: &EntryTree,
    ) -> Result<Vec<Digest>, TreeError> {
        match reader.pages_beyond(after, &self.readers[place], before).await {
            Err(error) if error.is_damage() => {
                reader.pages_beyond(after, &self.readers[place], &EntryTree::EMPTY).await
            }
            beyond => beyond,
        }
    }

    /// Copies the pages of a state that `before`, a root of the location `place`, does not have into that location.
    pub(super) async fn copy_pages(&self, state: &View, before: &Root, place: usize) -> Result<(), CatalogError> {
        let mut pages = Vec::new();
        for (after, before) in state.root.trees().into_iter().zip(before.trees()) {
            pages.extend(self.pages_to_copy(&state.reader, after, place, before).await?);
        }
        let copy = async |page: Digest| {
            let bytes = state.reader.bytes(&page).await?;
            Ok::<_, TreeError>(self.pages[place].write(&page, bytes).await?)
        };
        Ok(stream::iter(pages).map(copy).buffer_unordered(COPIES).try_collect::<()>().await?)
    }

    /// Copies an object that is about to be replaced or deleted into the archive's quarantine; returns whether it is
    /// there now.
    pub(super) async fn set_aside(&self, location: &Store, key: &store::Key) -> Result<bool, StoreError> {
        match self.mirrors.first() {
            Some(archive) => super::quarantine::quarantine(archive, location, key).await,
            None => Ok(false),
        }
    }
}
