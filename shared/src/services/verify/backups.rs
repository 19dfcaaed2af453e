//! Verifies what backups consist of, besides the bytes of live images.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Copy, Findings, READS, Slice, Verifier, is_unreadable, read_through};
use crate::catalog::{CatalogError, Entry};
use crate::core::error::Result;
use crate::layout::{self, BackupName};
use crate::services::backup::Manifest;
use store::digest::Digest;
use store::{Key, Optional, Store, StoreError};

impl Verifier {
    /// Reads the replicas of deleted images: a restore of a deleted image depends on them.
    pub(super) async fn verify_deleted(&self, slice: Slice, findings: &mut Findings) -> Result<()> {
        let archive = self.core.archive.store();
        let mut copies: BTreeSet<Digest> = archive
            .list(layout::ARCHIVED_IMAGES, None)
            .try_filter_map(async |meta| Ok(layout::parse_archived_image(&meta.key)))
            .try_filter(|digest| std::future::ready(slice.takes(digest)))
            .try_collect()
            .await?;
        let mut live = self.core.catalog.view().live();
        while let Some((_, entry)) = live.try_next().await? {
            if let Some(digest) = entry.live().and_then(|record| record.sha256) {
                copies.remove(&digest);
            }
        }
        let read = async |digest: Digest| {
            Ok::<_, StoreError>((digest, read_through(archive, &layout::archived_image(&digest), digest).await?))
        };
        let mut read = stream::iter(copies).map(read).buffer_unordered(READS);
        while let Some((digest, copy)) = read.try_next().await? {
            findings.deleted += 1;
            let right = copy == Copy::Right;
            let gone = !right && archive.head(&layout::archived_image(&digest)).await.optional()?.is_none();
            // A replica that has disappeared by now was pruned.
            if !right && !gone {
                tracing::error!(%digest, "the replica of a deleted image is damaged or unreadable");
                findings.lost_copies.insert(digest);
            }
        }
        Ok(())
    }

    /// Reads manifests, the pages of the catalog in every location, and the chunks of older backups. A damaged page is
    /// put back from another location. Returns the names of all existing backups.
    pub(super) async fn verify_backups(
        &self,
        slice: Slice,
        repair: bool,
        findings: &mut Findings,
    ) -> Result<Vec<BackupName>> {
        let archive = self.core.archive.store();
        let (manifests, unreadable) = self.backups.list_manifests().await?;
        let names: Vec<BackupName> = manifests.into_iter().map(|(name, _)| name).collect();
        findings.damaged_backups.extend(unreadable);
        for name in names.iter().copied().filter(|name| slice.takes(&Digest::of(name.to_string().as_bytes()))) {
            findings.pieces += 1;
            // A manifest that has disappeared by now was deleted or pruned.
            if self.readable(archive, &layout::manifest(name), self.backups.read_manifest(name)).await?.is_none()
                && archive.head(&layout::manifest(name)).await.optional()?.is_some()
            {
                findings.damaged_backups.insert(name);
            }
        }
        let (mut bad, mut of_roots) = (BTreeSet::new(), HashSet::new());
        for (place, location) in self.core.catalog.locations().enumerate() {
            let mut needed = self.core.catalog.pages_of_root(place).await?;
            of_roots.extend(needed.iter().copied());
            if place == 1 {
                needed.extend(self.pages_of(&names).await?);
            }
            bad.extend(self.verify_pages(place, location, needed, (slice, repair), findings).await?);
            if slice.takes(&Digest::of(layout::metadata_file().as_str().as_bytes())) {
                findings.pieces += u64::from(self.core.catalog.verify_file(place).await?);
            }
        }
        if repair && !bad.is_empty() {
            // What a backup has of the present state alone is made again.
            self.core.catalog.stored_view().await?;
            for page in bad.clone() {
                if self.core.catalog.has_page(1, &page).await {
                    bad.remove(&page);
                    findings.rewritten += 1;
                }
            }
        }
        if repair && bad.iter().any(|page| of_roots.contains(page)) && self.core.catalog.rebuild().await? {
            self.core.changed.notify_one();
        }
        self.name_damaged(&names, &bad, findings).await?;
        Ok(names)
    }

    /// The pages of these backups, as far as they can be read.
    async fn pages_of(&self, names: &[BackupName]) -> Result<HashSet<Digest>> {
        let (archive, mut pages) = (self.core.archive.store(), HashSet::new());
        for name in names {
            let read = self.readable(archive, &layout::manifest(*name), self.backups.read_manifest(*name)).await?;
            if let Some(entries) = read.as_ref().and_then(|manifest| manifest.entries()) {
                let mut own = HashSet::new();
                match self.core.catalog.reach_archived(entries, &mut own).await {
                    // As far as it can be read.
                    Err(error) if error.is_damage() => {}
                    reached => reached?,
                }
                pages.extend(own);
            }
        }
        Ok(pages)
    }

    /// Reads the pages and chunks of one location, which `needs` some of them; returns those that are damaged or missing
    /// and could not be put back.
    async fn verify_pages(
        &self,
        place: usize,
        location: &Store,
        mut needs: HashSet<Digest>,
        (slice, repair): (Slice, bool),
        findings: &mut Findings,
    ) -> Result<BTreeSet<Digest>> {
        let listed = location.list(layout::CATALOG, None);
        let parts = listed.try_filter_map(move |meta| {
            let digest = layout::parse_page(&meta.key).or_else(|| layout::parse_chunk(&meta.key));
            let part = digest.filter(|digest| slice.takes(digest)).map(|digest| (meta.key, digest));
            std::future::ready(Ok(part))
        });
        let read = async |(key, digest): (Key, Digest)| {
            let read = async { Ok(location.hash(&key).await.intact()?.filter(|(_, found)| *found == digest)) };
            let right = self.readable(location, &key, read).await?.is_some();
            // A page that has disappeared by now was pruned.
            let right = right || location.head(&key).await.optional()?.is_none();
            Ok::<_, StoreError>((key, digest, right))
        };
        let mut read = pin!(parts.map_ok(read).try_buffer_unordered(READS));
        let mut bad = BTreeSet::new();
        while let Some((key, digest, right)) = read.try_next().await? {
            findings.pieces += 1;
            needs.remove(&digest);
            if right {
                continue;
            }
            tracing::error!(%key, place, "a part of the catalog is damaged");
            let is_page = layout::parse_page(&key).is_some();
            if !(repair && is_page && self.is_put_back(place, &digest, findings).await) {
                bad.insert(digest);
            }
        }
        for digest in needs.into_iter().filter(|digest| slice.takes(digest)) {
            // One that was written since the listing is there.
            if location.head(&layout::page(&digest)).await.optional()?.is_some() {
                continue;
            }
            tracing::error!(%digest, place, "a page of the catalog is missing");
            if !(repair && self.is_put_back(place, &digest, findings).await) {
                bad.insert(digest);
            }
        }
        Ok(bad)
    }

    /// Whether another location had a page, which has been put back here. A failure blocks no other repair.
    async fn is_put_back(&self, place: usize, page: &Digest, findings: &mut Findings) -> bool {
        let put_back = self.core.catalog.heal_page(place, page).await;
        if let Err(error) = &put_back {
            tracing::error!(%page, place, error = error as &dyn std::error::Error, "a page of the catalog could not be put back");
        }
        let is_put_back = put_back.unwrap_or(false);
        findings.rewritten += u64::from(is_put_back);
        is_put_back
    }

    /// Lists the backups that reference a damaged page, chunk or image, or that lack a part.
    async fn name_damaged(&self, names: &[BackupName], bad: &BTreeSet<Digest>, findings: &mut Findings) -> Result<()> {
        let mut compared = HashMap::new();
        for name in names {
            let key = layout::manifest(*name);
            let read = self.readable(self.core.archive.store(), &key, self.backups.read_manifest(*name)).await?;
            let Some(manifest) = read else { continue };
            if self.is_damaged(&manifest, bad, &findings.lost_copies, &mut compared).await? {
                findings.damaged_backups.insert(*name);
            }
        }
        Ok(())
    }

    /// Whether a backup references one of these parts or images, or lacks a part.
    async fn is_damaged(
        &self,
        manifest: &Manifest,
        bad: &BTreeSet<Digest>,
        lost: &BTreeSet<Digest>,
        compared: &mut HashMap<Digest, bool>,
    ) -> Result<bool> {
        if let Some(entries) = manifest.entries() {
            let mut pages = HashSet::new();
            let reached = self.core.catalog.reach_archived(entries, &mut pages).await;
            if reached.as_ref().is_err_and(CatalogError::is_damage) {
                return Ok(true);
            }
            reached?;
            if !bad.is_disjoint(&pages.into_iter().collect()) {
                return Ok(true);
            }
            let mut references_lost = false;
            if !lost.is_empty() {
                let state = self.backups.view(manifest).await?;
                let is_lost = |entry: &Entry| {
                    entry.live().and_then(|record| record.sha256).is_some_and(|digest| lost.contains(&digest))
                };
                match state.visit(|_| true, |entry| references_lost |= is_lost(entry)).await {
                    Err(error) if error.is_damage() => return Ok(true),
                    visited => visited?,
                }
            }
            return Ok(references_lost);
        }
        for chunk in &manifest.chunks {
            let hit = match compared.get(&chunk.sha256) {
                Some(hit) => *hit,
                None => {
                    let (key, archive) = (layout::chunk(&chunk.sha256), self.core.archive.store());
                    let records = self.readable(archive, &key, self.backups.read_chunk(&chunk.sha256)).await?;
                    let is_lost = |(_, entry): &(_, Arc<Entry>)| {
                        entry.live().and_then(|record| record.sha256).is_some_and(|digest| lost.contains(&digest))
                    };
                    let hit = records.is_none_or(|records| records.iter().any(is_lost));
                    compared.insert(chunk.sha256, hit);
                    hit
                }
            };
            if hit {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The result of reading one object. `None`, as for a damaged object, if the error affects this object
    /// alone.
    async fn readable<T>(
        &self,
        location: &Store,
        key: &Key,
        read: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        match read.await {
            Err(error) if is_unreadable(location, key, &error).await => {
                tracing::error!(%key, error = &error as &dyn std::error::Error, "a location lists an object and fails to return it");
                Ok(None)
            }
            read => read,
        }
    }
}
