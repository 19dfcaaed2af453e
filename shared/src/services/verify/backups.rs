//! Verifies what backups consist of, besides the bytes of live images.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::{Copy, Findings, READS, Slice, Verifier, is_unreadable, read_through};
use crate::catalog::Chunk;
use crate::core::blocking;
use crate::core::error::Result;
use crate::layout::{self, BackupName};
use store::digest::Digest;
use store::{Body, Key, Optional, PutMode, StoreError};

impl Verifier {
    /// Reads the replicas of deleted images: a restore of a deleted image depends on them.
    pub(super) async fn verify_deleted(&self, slice: Slice, findings: &mut Findings) -> Result<()> {
        let archive = self.core.archive.store();
        let live: HashSet<Digest> =
            self.core.catalog.read(|state| state.live().filter_map(|(_, record)| record.sha256).collect());
        let copies: Vec<Digest> = archive
            .list(layout::ARCHIVED_IMAGES, None)
            .try_filter_map(async |meta| Ok(layout::parse_archived_image(&meta.key)))
            .try_filter(|digest| std::future::ready(slice.takes(digest) && !live.contains(digest)))
            .try_collect()
            .await?;
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

    /// Reads manifests and catalog chunks in full. A damaged chunk that is part of the present state can be rewritten.
    /// Returns the names of all existing backups.
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
        let mut named: BTreeSet<Digest> = BTreeSet::new();
        for name in names.iter().copied().filter(|name| slice.takes(&Digest::of(name.to_string().as_bytes()))) {
            findings.pieces += 1;
            match self.readable(&layout::manifest(name), self.backups.read_manifest(name)).await? {
                Some(manifest) => named.extend(manifest.chunks.iter().map(|chunk| chunk.sha256)),
                // A manifest that has disappeared by now was deleted or pruned.
                None if archive.head(&layout::manifest(name)).await.optional()?.is_none() => {}
                None => _ = findings.damaged_backups.insert(name),
            }
        }
        let listed = archive.list(layout::CHUNKS, None);
        let listed: BTreeSet<Digest> =
            listed.try_filter_map(async |meta| Ok(layout::parse_chunk(&meta.key))).try_collect().await?;
        let mut bad: BTreeSet<Digest> = named.difference(&listed).copied().collect();
        let read = async |digest: Digest| {
            let chunk = self.readable(&layout::chunk(&digest), self.backups.read_chunk(&digest)).await?;
            Ok::<_, StoreError>((digest, chunk.is_some()))
        };
        let mine = listed.into_iter().filter(|digest| slice.takes(digest));
        let mut read = stream::iter(mine).map(read).buffer_unordered(READS);
        while let Some((digest, right)) = read.try_next().await? {
            findings.pieces += 1;
            if !right {
                bad.insert(digest);
            }
        }
        if repair && !bad.is_empty() {
            let before = bad.len();
            bad = self.rewrite_chunks(bad).await?;
            findings.rewritten += (before - bad.len()) as u64;
        }
        self.name_damaged(&names, &bad, findings).await?;
        Ok(names)
    }

    /// Lists the backups that reference a damaged chunk or image; called only if there is one.
    async fn name_damaged(
        &self,
        names: &[BackupName],
        bad_chunks: &BTreeSet<Digest>,
        findings: &mut Findings,
    ) -> Result<()> {
        if bad_chunks.is_empty() && findings.lost_copies.is_empty() {
            return Ok(());
        }
        let mut lost_in: HashMap<Digest, bool> = bad_chunks.iter().map(|digest| (*digest, true)).collect();
        for name in names {
            let read = self.readable(&layout::manifest(*name), self.backups.read_manifest(*name)).await?;
            let Some(manifest) = read else { continue };
            for chunk in &manifest.chunks {
                let hit = match lost_in.get(&chunk.sha256) {
                    Some(hit) => *hit,
                    None => {
                        let key = layout::chunk(&chunk.sha256);
                        let records =
                            self.readable(&key, self.backups.read_chunk(&chunk.sha256)).await?.unwrap_or_default();
                        let digests = records.iter().filter_map(|(_, entry)| entry.live()?.sha256);
                        let hit = digests.into_iter().any(|digest| findings.lost_copies.contains(&digest));
                        lost_in.insert(chunk.sha256, hit);
                        hit
                    }
                };
                if hit {
                    findings.damaged_backups.insert(*name);
                }
            }
        }
        Ok(())
    }

    /// The result of reading one archive object. `None`, as for a damaged object, if the error affects this object
    /// alone.
    async fn readable<T>(
        &self,
        key: &Key,
        read: impl Future<Output = Result<Option<T>, StoreError>>,
    ) -> Result<Option<T>, StoreError> {
        match read.await {
            Err(error) if is_unreadable(self.core.archive.store(), key, &error).await => {
                tracing::error!(%key, error = &error as &dyn std::error::Error, "the archive lists an object and fails to return it");
                Ok(None)
            }
            read => read,
        }
    }

    /// Rewrites those chunks that the present state contains; returns the others.
    async fn rewrite_chunks(&self, mut bad: BTreeSet<Digest>) -> Result<BTreeSet<Digest>> {
        let snapshot = self.core.catalog.read(|state| state.snapshot());
        let by_digest = move || {
            let chunks = snapshot.chunks().iter();
            chunks.map(|chunk| (chunk.summary().digest, Arc::clone(chunk))).collect::<HashMap<Digest, Arc<Chunk>>>()
        };
        let chunks = blocking(by_digest).await?;
        let archive = self.core.archive.store();
        for digest in bad.clone() {
            let Some(chunk) = chunks.get(&digest) else { continue };
            let key = layout::chunk(&digest);
            match self.core.archive.quarantine(archive, &key).await {
                Err(error) if is_unreadable(archive, &key, &error).await => {}
                done => _ = done?,
            }
            archive.put(&key, &Body::from(chunk.encode()), &PutMode::Overwrite).await?;
            bad.remove(&digest);
        }
        Ok(bad)
    }
}
