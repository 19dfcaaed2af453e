//! What backups and the catalog reference.

use std::collections::HashSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::Pruner;
use super::candidates::{ExistingBackups, Stored, Unreferenced};
use crate::base::seal;
use crate::catalog::{CatalogError, Entry, View};
use crate::core::FETCHES;
use crate::core::ages::SAFE_AGE;
use crate::core::error::Result;
use crate::layout::{self, BackupName};
use crate::services::backup::{Intent, Kind, Manifest};
use store::digest::Digest;
use store::{Contention, ErrorKind, ObjectMeta, Optional, Store, StoreError};

const UNREADABLE_CATALOG: &str = "A part of the catalog cannot be read, so its references are unknown.";
const EMPTY_CATALOG: &str = "The catalog contains no image, which may mean that it was lost.";
const DAMAGED_COMMIT: &str = "A damaged commit is in quarantine; delete it there once it is no longer needed.";
const DAMAGED_BACKUP: &str =
    "A part of a backup is damaged, so its references are unknown; repair it by a verification, or delete the backup.";

impl Pruner {
    pub(super) fn safe_before(&self) -> Timestamp {
        self.core.clock.now() - SAFE_AGE
    }

    /// The existing backups; [`check_references`](Self::check_references) detects invalid ones.
    pub(super) async fn existing_backups(&self) -> Result<ExistingBackups, StoreError> {
        let listed: Vec<ObjectMeta> = self.core.archive.store().list(layout::BACKUPS, None).try_collect().await?;
        let before = self.safe_before();
        let (intents, manifests): (Vec<_>, Vec<_>) = listed.into_iter().partition(|meta| layout::is_intent(&meta.key));
        let old_intents = intents.into_iter().filter(|meta| meta.modified < before).collect();
        let read = async |meta: ObjectMeta| {
            let Some(name) = layout::parse_manifest(&meta.key) else { return Ok(None) };
            Ok::<_, StoreError>(self.backups.read_manifest(name).await?.map(|manifest| (meta, manifest)))
        };
        let mut existing = ExistingBackups { old_intents, ..ExistingBackups::default() };
        let mut read = stream::iter(manifests).map(read).buffered(FETCHES);
        while let Some(found) = read.try_next().await? {
            existing.manifests.extend(found);
        }
        existing.manifests.reverse();
        Ok(existing)
    }

    /// Splits backups, newest first, into those to keep and those to remove.
    pub(super) fn thin_out(&self, backups: Vec<Stored>) -> (Vec<Stored>, Vec<Stored>) {
        let before = self.safe_before();
        let by_itself = |manifest: &Manifest| manifest.kind != Kind::Manual;
        let automatic = backups.iter().filter(|(_, manifest)| by_itself(manifest)).map(|(_, manifest)| manifest.name);
        let kept = self.core.settings.keep.of(&automatic.collect::<Vec<_>>());
        backups.into_iter().partition(|(version, manifest)| {
            let old = version.modified < before && manifest.name.moment() < before;
            !(by_itself(manifest) && old && !kept.contains(&manifest.name))
        })
    }

    /// Takes out the candidates that the catalog, the remaining backups and the backups in progress reference; the
    /// reason if some references cannot be read.
    pub(super) async fn check_references(
        &self,
        stay: &[Stored],
        go: &[Stored],
        unreferenced: &mut Unreferenced,
    ) -> Result<Option<&'static str>> {
        let Some((state, in_mirrors)) = self.core.catalog.everywhere().await? else {
            return Ok(Some(UNREADABLE_CATALOG));
        };
        if state.totals().uploads() == 0 {
            return Ok(Some(EMPTY_CATALOG));
        }
        unreferenced.remove_images(in_mirrors);
        if !self.remove_referenced_by_state(&state, unreferenced).await? {
            return Ok(Some(UNREADABLE_CATALOG));
        }
        let mut quarantined = self.core.archive.store().list(layout::QUARANTINE, None);
        while let Some(meta) = quarantined.try_next().await? {
            if layout::parse_quarantined_commit(&meta.key).is_some() {
                return Ok(Some(DAMAGED_COMMIT));
            }
        }
        for (version, manifest) in stay {
            if !self.remove_referenced_by(version, manifest, unreferenced).await? {
                return Ok(Some(DAMAGED_BACKUP));
            }
        }
        let going: HashSet<BackupName> = go.iter().map(|(_, manifest)| manifest.name).collect();
        self.read_new_backups(&going, unreferenced).await
    }

    /// Takes out the candidates that have been referenced since; the reason if that cannot be determined.
    pub(super) async fn check_again(&self, unreferenced: &mut Unreferenced) -> Result<Option<&'static str>> {
        if let Some(reason) = self.read_new_backups(&HashSet::new(), unreferenced).await? {
            return Ok(Some(reason));
        }
        self.core.catalog.refresh().await?;
        let is_read = self.core.catalog.unreadable().is_empty()
            && self.remove_referenced_by_state(&self.core.catalog.view(), unreferenced).await?;
        Ok((!is_read).then_some(UNREADABLE_CATALOG))
    }

    /// Takes out what the roots of all locations and this state reference; returns false if a root cannot be read.
    async fn remove_referenced_by_state(&self, state: &View, unreferenced: &mut Unreferenced) -> Result<bool> {
        if !known(self.core.catalog.reach_roots(&mut unreferenced.referenced).await)?.unwrap_or(false) {
            return Ok(false);
        }
        let Unreferenced { images, compared_with_deleted: compared, .. } = unreferenced;
        if images.is_empty() {
            return Ok(true);
        }
        Ok(known(state.remove_contents(images, compared).await)?.is_some())
    }

    /// Takes out the candidate images that are live in the state of a backup; returns false if a part of it cannot be
    /// read. A restore does not need those that were deleted.
    async fn remove_live_contents(&self, state: &View, unreferenced: &mut Unreferenced) -> Result<bool> {
        let Unreferenced { images, compared, compared_with_deleted, .. } = unreferenced;
        if images.is_empty() {
            return Ok(true);
        }
        let is_new = |page: &Digest| !compared_with_deleted.contains(page) && compared.insert(*page);
        let remove = |entry: &Entry| {
            entry.live().and_then(|record| record.sha256).map(|digest| images.remove(&digest));
        };
        Ok(known(state.visit(is_new, remove).await)?.is_some())
    }

    /// Takes out the candidates referenced by backups that have not been read yet, except those `going`, and by backups
    /// in progress.
    async fn read_new_backups(
        &self,
        going: &HashSet<BackupName>,
        unreferenced: &mut Unreferenced,
    ) -> Result<Option<&'static str>> {
        let (archive, before) = (self.core.archive.store(), self.safe_before());
        let mut contention = Contention::new(layout::BACKUPS);
        'listing: loop {
            let listed: Vec<ObjectMeta> = archive.list(layout::BACKUPS, None).try_collect().await?;
            for meta in listed {
                if unreferenced.has_read(&meta) {
                    continue;
                }
                if let Some(name) = layout::parse_manifest(&meta.key).filter(|name| !going.contains(name)) {
                    let read = match self.backups.read_manifest(name).await? {
                        Some(manifest) => self.remove_referenced_by(&meta, &manifest, unreferenced).await?,
                        // A backup that was deleted since the listing references nothing.
                        None => archive.head(&meta.key).await.optional()?.is_none(),
                    };
                    if !read {
                        return Ok(Some(DAMAGED_BACKUP));
                    }
                } else if layout::is_intent(&meta.key) && meta.modified >= before {
                    // If the intent is gone, its manifest may have been written since this listing.
                    let Some((bytes, _)) = archive.read(&meta.key).await.optional()? else {
                        // The listings of some services lag.
                        contention.lost().await?;
                        continue 'listing;
                    };
                    let Some(intent) = seal::open::<Intent>(&bytes) else { return Ok(Some(DAMAGED_BACKUP)) };
                    let reached = self.core.catalog.reach_archived(&intent.entries, &mut unreferenced.referenced);
                    if known(reached.await)?.is_none() {
                        return Ok(Some(DAMAGED_BACKUP));
                    }
                    unreferenced.read.insert((meta.key.clone(), meta.etag.clone()));
                }
            }
            return Ok(None);
        }
    }

    /// Deletes this version of an object; returns false if it was stored again or is gone.
    pub(super) async fn delete_if_same(&self, location: &Store, version: &ObjectMeta) -> Result<bool, StoreError> {
        match location.delete_version(version).await {
            Err(e) if e.kind == ErrorKind::Changed => Ok(false),
            deleted => deleted.map(|()| true),
        }
    }

    /// Takes out the candidates that this backup references; returns false if a part of it cannot be read. Reads
    /// entries only while there are candidate images without a known reference.
    async fn remove_referenced_by(
        &self,
        version: &ObjectMeta,
        manifest: &Manifest,
        unreferenced: &mut Unreferenced,
    ) -> Result<bool> {
        if let Some(entries) = manifest.entries() {
            let reached = self.core.catalog.reach_archived(entries, &mut unreferenced.referenced).await;
            let state = self.core.catalog.archived_view(entries.clone());
            if known(reached)?.is_none() || !self.remove_live_contents(&state, unreferenced).await? {
                return Ok(false);
            }
        }
        let chunks = || manifest.chunks.iter().map(|chunk| chunk.sha256);
        unreferenced.referenced.extend(chunks());
        if !unreferenced.images.is_empty() {
            let new: Vec<Digest> = chunks().filter(|chunk| unreferenced.compared.insert(*chunk)).collect();
            let read = async |digest: Digest| self.backups.read_chunk(&digest).await;
            let mut chunks = stream::iter(new).map(read).buffered(FETCHES);
            while let Some(chunk) = chunks.try_next().await? {
                let Some(entries) = chunk else { return Ok(false) };
                unreferenced.remove_images(entries.iter().filter_map(|(_, entry)| entry.content_digest()));
            }
        }
        unreferenced.read.insert((version.key.clone(), version.etag.clone()));
        Ok(true)
    }
}

/// What was read; `None` if a part of it is missing or damaged.
fn known<T>(read: Result<T, CatalogError>) -> Result<Option<T>, CatalogError> {
    match read {
        Err(error) if error.is_damage() => Ok(None),
        read => read.map(Some),
    }
}
