//! Creates a backup.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::manifest::Intent;
use super::{Backups, Kind, Manifest};
use crate::base::seal;
use crate::catalog::{Chunk, ChunkSummary, Entry, Snapshot};
use crate::core::archive::Archived;
use crate::core::blocking;
use crate::core::error::Result;
use crate::layout::{self, BackupName, ImageId};
use store::digest::Digest;
use store::sync::lock;
use store::{Body, Contention, ErrorKind, Key, Optional, PutMode, StoreError};

/// Images and chunks checked concurrently.
const CHECKS: usize = 8;
/// Approximate size of a chunk's entry in a manifest and an intent, in bytes.
const MANIFEST_BYTES: u64 = 512;

impl Backups {
    /// Makes a backup of the present state, under a new name.
    pub async fn create(&self, kind: Kind) -> Result<Manifest> {
        let mut name = BackupName::at(self.core.clock.now());
        let mut contention = Contention::new(layout::manifest(name));
        loop {
            if let Some(made) = self.create_named(name, kind, None).await? {
                return Ok(made);
            }
            contention.lost().await?;
            name = name.next();
        }
    }

    /// About how many bytes a backup of the present state would write, besides replicas of images.
    pub(crate) async fn backup_bytes(&self) -> Result<u64> {
        let base = self.newest_manifest(false).await?;
        let known: HashSet<Digest> = base.iter().flat_map(|m| &m.chunks).map(|c| c.sha256).collect();
        let snapshot = self.core.catalog.read(|state| state.snapshot());
        let bytes = move || {
            let chunks = summarize(&snapshot);
            let new = chunks.iter().filter(|(_, summary)| !known.contains(&summary.digest));
            let new: u64 = new.map(|(chunk, _)| chunk.encode().len() as u64).sum();
            new + (chunks.len() as u64 + 1) * MANIFEST_BYTES
        };
        blocking(bytes).await
    }

    /// Makes a backup under a name that was assigned before; `None` if a backup with that name exists.
    ///
    /// The objects that the newest backup references exist and were verified when that backup was made. So only other
    /// chunks and images are stored, read back and hashed, and the cost follows from what changed.
    pub(super) async fn create_named(
        &self,
        name: BackupName,
        kind: Kind,
        sequence: Option<u64>,
    ) -> Result<Option<Manifest>> {
        self.core.catalog.refresh().await?;
        self.records.complete().await?;
        let (created, snapshot) = (self.core.clock.now(), self.core.catalog.read(|state| state.snapshot()));
        let undigested = snapshot.totals().undigested;
        let chunks = blocking(move || summarize(&snapshot)).await?;
        // From here on a prune knows the chunks of this backup, whatever happens to its base.
        let intent = self.put_intent(name, &chunks).await?;
        let made = self.create_intended(name, kind, sequence, chunks, (created, undigested)).await;
        // If it is unknown what was stored, a later prune removes it.
        if !made.as_ref().is_err_and(|error| error.store_kind() == Some(ErrorKind::Unavailable))
            && let Err(error) = self.core.archive.store().delete(&intent).await
        {
            tracing::warn!(key = %intent, error = &error as &dyn std::error::Error, "the intent of a backup could not be deleted; a prune deletes it later");
        }
        made
    }

    async fn create_intended(
        &self,
        name: BackupName,
        kind: Kind,
        sequence: Option<u64>,
        chunks: Vec<(Arc<Chunk>, ChunkSummary)>,
        (created, undigested): (Timestamp, u64),
    ) -> Result<Option<Manifest>> {
        let base = self.newest_manifest(false).await?;
        let known: HashSet<Digest> = base.iter().flat_map(|m| &m.chunks).map(|c| c.sha256).collect();
        let (kept, new): (Vec<_>, Vec<_>) = chunks.iter().partition(|(_, summary)| known.contains(&summary.digest));

        self.store_chunks(&new).await?;
        let replaced = {
            let kept: HashSet<Digest> = kept.iter().map(|(_, summary)| summary.digest).collect();
            base.iter().flat_map(|m| &m.chunks).map(|c| c.sha256).filter(|d| !kept.contains(d)).collect::<Vec<_>>()
        };
        let mut to_check = self.images_not_in(&new, &replaced).await?;
        if let Some(base) = base.as_ref().filter(|base| !base.missing.is_empty()) {
            let missing_then: HashSet<&ImageId> = base.missing.iter().collect();
            let still = kept.iter().flat_map(|(chunk, _)| chunk.live()).filter(|(id, _)| missing_then.contains(id));
            to_check.extend(still.filter_map(|(id, entry)| Some((entry.live()?.sha256?, id.clone()))));
        }
        let mut missing = self.verify_images(to_check).await?;
        // Only stores with such records need to examine every record.
        if undigested > 0 {
            missing.extend(chunks.iter().flat_map(|(chunk, _)| chunk.without_bytes()));
        }
        missing.sort();

        let summaries: Vec<ChunkSummary> = chunks.iter().map(|(_, summary)| *summary).collect();
        let manifest = Manifest::new(name, kind, sequence, &summaries, missing, (created, self.core.clock.now()));
        let (archive, key) = (self.core.archive.store(), layout::manifest(name));
        match archive.put(&key, &Body::from(seal::seal(&manifest)), &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => return Ok(None),
            done => done?,
        };
        let (bytes, _) = archive.read(&key).await?;
        if Manifest::decode(&bytes).as_ref() != Ok(&manifest) {
            return Err(StoreError::new("read back", key, ErrorKind::Corrupt).into());
        }
        *lock(&self.known.base) = Some(Arc::new(manifest.clone()));
        *lock(&self.known.made) = chunks.into_iter().map(|(chunk, summary)| (summary.digest, chunk)).collect();
        Ok(Some(manifest))
    }

    /// Writes the list of chunks that a backup will reference; returns its key.
    async fn put_intent(&self, name: BackupName, chunks: &[(Arc<Chunk>, ChunkSummary)]) -> Result<Key, StoreError> {
        let intent = Intent { chunks: chunks.iter().map(|(_, summary)| summary.digest).collect() };
        let key = layout::intent(name, self.core.clock.new_id());
        self.core.archive.store().put(&key, &Body::from(seal::seal(&intent)), &PutMode::Create).await?;
        Ok(key)
    }

    /// Stores chunks, and reads them back. A chunk that a prune might remove because of its age is stored again.
    async fn store_chunks(&self, chunks: &[&(Arc<Chunk>, ChunkSummary)]) -> Result<(), StoreError> {
        let archive = self.core.archive.store();
        let store = async |&(chunk, summary): &&(Arc<Chunk>, ChunkSummary)| {
            let key = layout::chunk(&summary.digest);
            let body = Body::from(chunk.encode());
            match archive.put(&key, &body, &PutMode::Create).await {
                Err(e) if e.kind == ErrorKind::AlreadyExists => {}
                done => _ = done?,
            }
            let found = archive.inspect(&key).await.optional()?;
            if !found.is_some_and(|(meta, digest)| digest == summary.digest && !self.core.archive.is_aging(&meta)) {
                archive.put(&key, &body, &PutMode::Overwrite).await?;
                if archive.hash(&key).await?.1 != summary.digest {
                    return Err(StoreError::new("read back", key, ErrorKind::Corrupt));
                }
            }
            Ok(())
        };
        stream::iter(chunks).map(store).buffer_unordered(CHECKS).try_collect().await
    }

    /// The contents that the new chunks reference and the replaced ones did not, each with an image that has it.
    async fn images_not_in(
        &self,
        new: &[&(Arc<Chunk>, ChunkSummary)],
        replaced: &[Digest],
    ) -> Result<BTreeMap<Digest, ImageId>, StoreError> {
        let content = |entry: &Entry| entry.live().and_then(|record| record.sha256);
        let entries = new.iter().flat_map(|(chunk, _)| chunk.live());
        let mut images: BTreeMap<Digest, ImageId> =
            entries.filter_map(|(id, entry)| Some((content(entry)?, id.clone()))).collect();
        let mut forget = |entry: &Entry| content(entry).is_some_and(|digest| images.remove(&digest).is_some());
        for digest in replaced {
            let known = lock(&self.known.made).get(digest).cloned();
            match known {
                Some(chunk) => chunk.live().for_each(|(_, entry)| _ = forget(entry)),
                // An unreadable chunk only means that more is checked than necessary.
                None => {
                    let entries = self.read_chunk(digest).await?.unwrap_or_default();
                    entries.iter().for_each(|(_, entry)| _ = forget(entry));
                }
            }
        }
        Ok(images)
    }

    /// Ensures that the archive holds these contents; returns the images without bytes anywhere.
    async fn verify_images(&self, images: BTreeMap<Digest, ImageId>) -> Result<Vec<ImageId>, StoreError> {
        let verify = async |(digest, id): (Digest, ImageId)| {
            let archived = self.core.archive.verify_named(&self.core.primary, &id, digest).await?;
            Ok::<_, StoreError>((archived == Archived::Missing).then_some(id))
        };
        let mut missing: Vec<ImageId> = stream::iter(images)
            .map(verify)
            .buffer_unordered(CHECKS)
            .try_filter_map(async |missing| Ok(missing))
            .try_collect()
            .await?;
        missing.sort();
        Ok(missing)
    }
}

/// The chunks with at least one live record, with their summaries for a manifest.
fn summarize(snapshot: &Snapshot) -> Vec<(Arc<Chunk>, ChunkSummary)> {
    let chunks = snapshot.chunks().iter().map(|chunk| (Arc::clone(chunk), chunk.summary()));
    chunks.filter(|(_, summary)| summary.records > 0).collect()
}
