//! Rebuilding the catalog when pages of it are lost in every location.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::piece::{MetadataFile, decode_metadata_file};
use super::record::Entry;
use super::root::Root;
use super::{Base, Catalog, CatalogError, View, offload};
use crate::layout::{self, ImageId};
use store::Optional;
use tree::LostRange;

type Entries = BTreeMap<ImageId, Arc<Entry>>;

impl Catalog {
    /// If pages of the primary's root are lost in every location, makes a state of what is left: the pages that can be
    /// read and, for the entries of the others, the roots and metadata files of all locations. The next
    /// [`compact`](Self::compact) writes it. Returns false if no page is lost: a state that a prune has outdated was
    /// being read.
    pub(crate) async fn rebuild(&self) -> Result<bool, CatalogError> {
        let _turn = self.compacting.lock().await;
        let _joining = self.joining.lock().await;
        let (mut view, mut base) = (self.view(), self.cache().base.clone());
        if let Some((etag, Ok((root, _)))) = self.root_of(0).await.intact()? {
            view.root = Arc::new(root);
            base = Base::Damaged(etag);
        }
        let mut entries = Entries::new();
        let lost = self.salvage(&view.root, |id, entry| _ = entries.insert(id, entry)).await?;
        let mut pages = lost.len();
        for list in [&view.root.leading, &view.root.following, &view.root.groups] {
            pages += self.readers[0].salvage(list, |_, _| ()).await?.len();
        }
        if pages == 0 {
            return Ok(false);
        }
        let (mut dropped_tombstones, mut dropped_version) = (view.root.dropped_tombstones, view.root.dropped_version);
        if !lost.is_empty() {
            // Elsewhere an entry may be older, or one that is gone since. Only of lost ones any state is better than none.
            let mut join = |id: ImageId, entry: Arc<Entry>| {
                let known = entries.get(&id);
                let is_newer = known.map_or_else(|| is_in(&lost, &id), |known| entry.supersedes(known));
                if is_newer {
                    entries.insert(id, entry);
                }
            };
            for place in 1..self.pages.len() {
                if let Some((_, Ok((root, _)))) = self.root_of(place).await.intact()? {
                    self.salvage(&root, &mut join).await?;
                    dropped_tombstones = root.dropped_tombstones.max(dropped_tombstones);
                    dropped_version = root.dropped_version.max(dropped_version);
                }
            }
            for place in 0..self.pages.len() {
                let Some(body) = self.location(place).fetch(&layout::metadata_file()).await.intact()? else { continue };
                let bytes = super::metadata_file::whole(&body)?;
                if let Ok(MetadataFile::Ours(ours)) = offload(bytes.len(), move || decode_metadata_file(&bytes)).await {
                    ours.entries.into_iter().for_each(|(id, entry)| join(id, entry));
                }
            }
        }
        for (id, overlaid) in view.overlay.iter() {
            if entries.get(id).is_none_or(|known| overlaid.entry.supersedes(known)) {
                entries.insert(id.clone(), Arc::clone(&overlaid.entry));
            }
        }
        tracing::error!(pages, images = entries.len(), "pages of the catalog are lost; it is rebuilt");
        let root = Arc::new(Root { dropped_tombstones, dropped_version, ..Root::default() });
        let mut cache = self.cache_mut();
        cache.base = base;
        cache.view = View { reader: view.reader, root, ..View::of(entries) };
        // Their changes may have been on a lost page.
        cache.listed.clear();
        cache.mirrored.fill(None);
        cache.distrusted = (0..self.mirrors.len()).collect();
        cache.unsaved = true;
        Ok(true)
    }

    /// Visits the entries of a root on pages that can be read; returns the ranges of names that cannot.
    async fn salvage(
        &self,
        root: &Root,
        mut each: impl FnMut(ImageId, Arc<Entry>),
    ) -> Result<Vec<LostRange>, CatalogError> {
        let note = |name: &str, entry| match ImageId::new(name) {
            Ok(id) => each(id, Arc::new(entry)),
            Err(_) => tracing::error!(name, "a page of the catalog has an entry that is not an image"),
        };
        Ok(self.readers[0].salvage(&root.names, note).await?)
    }
}

/// Whether a name is in one of these ranges.
fn is_in(ranges: &[LostRange], id: &ImageId) -> bool {
    ranges.iter().any(|(after, until)| {
        after.as_ref().is_none_or(|after| **after < *id.as_str())
            && until.as_ref().is_none_or(|until| *id.as_str() <= **until)
    })
}
