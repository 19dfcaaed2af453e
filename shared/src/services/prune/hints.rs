//! Finds the gc candidates: all old objects in a sweep, otherwise those that gc hints list.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::SignedDuration;

use super::Pruner;
use super::candidates::{Candidate, Candidates, ExistingBackups, ObjectKind, Stored, Unreferenced};
use crate::base::seal;
use crate::catalog::gc_hints::{GcHints, Swept};
use crate::core::FETCHES;
use crate::layout;
use crate::services::backup::Intent;
use store::digest::Digest;
use store::{Key, ObjectMeta, Optional, StoreError};

/// The interval between sweeps: a scheduled prune after this time is a sweep again.
pub const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The hints for this prune. They are old enough that the operation which wrote each has ended.
pub(super) struct Hinted {
    chunks: BTreeSet<Digest>,
    images: BTreeSet<Digest>,
    /// The hint objects, to be deleted once they have been processed.
    pub(super) by: Vec<ObjectMeta>,
    /// Whether some of the hints cannot be read.
    pub(super) damaged: bool,
}

impl Pruner {
    /// Whether the last sweep was so long ago that one is due, or has a time in the future.
    pub(super) async fn sweep_is_due(&self) -> Result<bool, StoreError> {
        let read = self.core.archive.store().read(&layout::swept()).await.intact()?;
        let swept = read.and_then(|(bytes, _)| Swept::decode(&bytes));
        Ok(swept.is_none_or(|swept| self.core.clock.now().duration_since(swept.at).abs() >= SWEEP_EVERY))
    }

    /// The hints in gc hint objects and in the intents of interrupted backups.
    pub(super) async fn read_hints(&self, existing: &ExistingBackups) -> Result<Hinted, StoreError> {
        let (archive, before) = (self.core.archive.store(), self.safe_before());
        let listed: Vec<ObjectMeta> = archive.list(layout::LEFTOVERS, None).try_collect().await?;
        let lists = listed.into_iter().filter(|meta| meta.modified < before);
        let by: Vec<ObjectMeta> = lists.chain(existing.old_intents.iter().cloned()).collect();
        let read = async |meta: &ObjectMeta| {
            let read = archive.read(&meta.key).await.intact()?;
            Ok::<_, StoreError>(read.and_then(|(bytes, _)| match layout::is_intent(&meta.key) {
                true => seal::open::<Intent>(&bytes).map(|intent| GcHints::of_chunks(intent.chunks)),
                false => GcHints::decode(&bytes),
            }))
        };
        let read: Vec<Option<GcHints>> = stream::iter(&by).map(read).buffered(FETCHES).try_collect().await?;
        let damaged = read.iter().any(Option::is_none);
        let (mut chunks, mut images) = (BTreeSet::new(), BTreeSet::new());
        for hints in read.into_iter().flatten() {
            chunks.extend(hints.chunks);
            images.extend(hints.images);
        }
        Ok(Hinted { chunks, images, by, damaged })
    }

    /// The chunks that are hinted, or referenced by the backups to be removed, and that no remaining backup references;
    /// also the images in these chunks. A chunk that cannot be read is left to a sweep, with the images it references.
    pub(super) async fn hinted_candidates(
        &self,
        hinted: &Hinted,
        stay: &[Stored],
        go: &[Stored],
    ) -> Result<Candidates, StoreError> {
        let (mut chunks, mut images) = (hinted.chunks.clone(), hinted.images.clone());
        chunks.extend(chunks_of(go));
        chunks_of(stay).for_each(|chunk| _ = chunks.remove(&chunk));
        let read = async |digest: &Digest| self.backups.read_chunk(digest).await;
        let mut read = stream::iter(&chunks).map(read).buffered(FETCHES);
        while let Some(entries) = read.try_next().await? {
            let entries = entries.unwrap_or_default();
            images.extend(entries.iter().filter_map(|(_, entry)| entry.content_digest()));
        }
        drop(read);
        Ok(Candidates { chunks, images })
    }

    /// Before these backups are removed, writes a hint that lists what only they reference; returns its key.
    pub(super) async fn write_hints(&self, stay: &[Stored], go: &[Stored]) -> Result<Option<Key>, StoreError> {
        let mut chunks: BTreeSet<Digest> = chunks_of(go).collect();
        chunks_of(stay).for_each(|chunk| _ = chunks.remove(&chunk));
        let hints = GcHints::of_chunks(chunks.into_iter().collect());
        hints.put(self.core.archive.store(), self.core.clock.new_id()).await
    }

    /// Those unreferenced objects that exist and are old enough to be removed. Images come before chunks: if this prune
    /// is interrupted, the chunk is the next prune's hint for its images.
    pub(super) async fn old_candidates(&self, unreferenced: &Unreferenced) -> Result<Vec<Candidate>, StoreError> {
        let before = self.safe_before();
        let describe = async |(kind, digest, key): (ObjectKind, Digest, Key)| {
            let version = self.core.archive.store().head(&key).await.optional()?;
            let old = version.filter(|version| version.modified < before);
            Ok::<_, StoreError>(old.map(|version| Candidate { kind, digest, version }))
        };
        let described = stream::iter(unreferenced.objects()).map(describe).buffered(FETCHES);
        described.try_filter_map(async |candidate| Ok(candidate)).try_collect().await
    }

    /// All chunks and images in the archive that are old enough to be removed, images first.
    pub(super) async fn all_old_objects(&self) -> Result<Vec<Candidate>, StoreError> {
        let (archive, before) = (self.core.archive.store(), self.safe_before());
        let kinds = [
            (layout::ARCHIVED_IMAGES, ObjectKind::Image, layout::parse_archived_image as fn(&Key) -> Option<Digest>),
            (layout::CHUNKS, ObjectKind::Chunk, layout::parse_chunk),
        ];
        let mut old = Vec::new();
        for (prefix, kind, parse) in kinds {
            let mut listed = archive.list(prefix, None);
            while let Some(version) = listed.try_next().await? {
                if version.modified < before
                    && let Some(digest) = parse(&version.key)
                {
                    old.push(Candidate { kind, digest, version });
                }
            }
        }
        Ok(old)
    }
}

fn chunks_of(backups: &[Stored]) -> impl Iterator<Item = Digest> {
    backups.iter().flat_map(|(_, manifest)| &manifest.chunks).map(|chunk| chunk.sha256)
}
