//! What has lost references since the last prune.

use std::collections::{BTreeMap, BTreeSet};

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Pruner;
use super::candidates::{Candidate, ObjectKind, Stored, part_of_catalog};
use crate::base::clock::millis;
use crate::base::seal;
use crate::catalog::{Difference, EntryTree, View};
use crate::core::FETCHES;
use crate::core::error::{Error, Result};
use crate::layout::{self, ImageId};
use store::digest::Digest;
use store::{Body, ErrorKind, Optional, PutMode, StoreError};

/// The interval between sweeps: a scheduled prune after this time is a sweep again.
pub const SWEEP_EVERY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What was referenced when the last prune ended; sealed JSON. If it does not exist or is damaged, a sweep is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastReferences {
    /// When everything in the archive was last listed.
    #[serde(with = "millis")]
    pub(super) swept_at: Timestamp,
    /// The entries of the catalog.
    state: EntryTree,
    /// The contents of those that were not in its tree yet.
    pending: BTreeMap<ImageId, Digest>,
    /// The entries of every backup of format 2.
    backups: Vec<EntryTree>,
}

impl Pruner {
    /// What was referenced when the last prune ended; `None` if a sweep is due.
    pub(super) async fn last_references(&self) -> Result<Option<LastReferences>> {
        let read = self.core.archive.store().read(&layout::pruned()).await.intact()?;
        let last = read.and_then(|(bytes, _)| seal::open::<LastReferences>(&bytes));
        Ok(last.filter(|last| self.core.clock.now().duration_since(last.swept_at).abs() < SWEEP_EVERY))
    }

    /// Records what is referenced now. On a full disk the next prune sweeps again.
    pub(super) async fn put_references(&self, swept_at: Timestamp, state: &View, stay: &[Stored]) -> Result<()> {
        let last = LastReferences {
            swept_at,
            state: state.names().clone(),
            pending: state.pending_contents().collect(),
            backups: stay.iter().filter_map(|(_, manifest)| manifest.entries().cloned()).collect(),
        };
        let body = Body::from(seal::seal(&last));
        match self.core.archive.store().put(&layout::pruned(), &body, &PutMode::Overwrite).await {
            Err(e) if e.kind == ErrorKind::Full => Ok(self.core.archive.store().delete(&layout::pruned()).await?),
            put => Ok(put.map(drop)?),
        }
    }

    /// The contents that a state referenced which the present one does not have in the same image: of the states at the
    /// last prune, and of the backups to be removed. `None` if a part of such a state cannot be read.
    pub(super) async fn dropped_images(
        &self,
        last: &LastReferences,
        state: &View,
        stay: &[Stored],
        go: &[Stored],
    ) -> Result<Option<BTreeSet<Digest>>> {
        let mut earlier: Vec<View> = Vec::new();
        for (_, manifest) in go {
            match self.backups.view(manifest).await {
                Err(Error::DamagedBackup(_)) => return Ok(None),
                view => earlier.push(view?),
            }
        }
        let is_kept = |tree: &EntryTree| stay.iter().any(|(_, manifest)| manifest.entries() == Some(tree));
        // A backup that has the same entries does not reference the images that they have as deleted.
        let gone = std::iter::once(&last.state).chain(last.backups.iter().filter(|tree| !is_kept(tree)));
        earlier.extend(gone.map(|tree| self.core.catalog.archived_view(tree.clone())));
        let mut dropped = BTreeSet::new();
        for (id, was) in &last.pending {
            match state.get(id.as_str()).await {
                Ok(entry) if entry.as_ref().and_then(|entry| entry.content_digest()) == Some(*was) => {}
                Ok(_) => _ = dropped.insert(*was),
                Err(error) if error.is_damage() => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        for view in earlier {
            let mut differences = view.differences(state);
            loop {
                match differences.try_next().await {
                    Ok(Some(Difference { before, after, .. })) => {
                        let was = before.and_then(|entry| entry.content_digest());
                        let is = after.and_then(|entry| entry.content_digest());
                        dropped.extend(was.filter(|was| is != Some(*was)));
                    }
                    Ok(None) => break,
                    Err(error) if error.is_damage() => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Some(dropped))
    }

    /// The replicas of these images that are old enough to be removed.
    pub(super) async fn old_replicas(&self, images: &BTreeSet<Digest>) -> Result<Vec<Candidate>, StoreError> {
        let (archive, before) = (self.core.archive.store(), self.safe_before());
        let describe = async |digest: &Digest| {
            let version = archive.head(&layout::archived_image(digest)).await.optional()?;
            let old = version.filter(|version| version.modified < before);
            let (kind, digest, place) = (ObjectKind::Image, *digest, 1);
            Ok::<_, StoreError>(old.map(|version| Candidate { kind, digest, place, version }))
        };
        let described = stream::iter(images).map(describe).buffered(FETCHES);
        described.try_filter_map(async |candidate| Ok(candidate)).try_collect().await
    }

    /// All replicas of images that are old enough to be removed.
    pub(super) async fn all_old_replicas(&self) -> Result<Vec<Candidate>, StoreError> {
        let (before, mut old) = (self.safe_before(), Vec::new());
        let mut listed = self.core.archive.store().list(layout::ARCHIVED_IMAGES, None);
        while let Some(version) = listed.try_next().await? {
            if version.modified < before
                && let Some(digest) = layout::parse_archived_image(&version.key)
            {
                old.push(Candidate { kind: ObjectKind::Image, digest, place: 1, version });
            }
        }
        Ok(old)
    }

    /// All pages and chunks in every location that are old enough to be removed. Each compaction replaces some.
    pub(super) async fn old_parts_of_catalog(&self) -> Result<Vec<Candidate>, StoreError> {
        let (before, mut old) = (self.safe_before(), Vec::new());
        for (place, location) in self.core.catalog.locations().enumerate() {
            let mut listed = location.list(layout::CATALOG, None);
            while let Some(version) = listed.try_next().await? {
                if version.modified < before
                    && let Some((kind, digest)) = part_of_catalog(&version.key)
                {
                    old.push(Candidate { kind, digest, place, version });
                }
            }
        }
        Ok(old)
    }
}
