//! Creates a backup.

use std::sync::Arc;

use futures::stream::TryStreamExt;
use jiff::Timestamp;

use super::manifest::Intent;
use super::{Backups, Kind, Manifest};
use crate::base::seal;
use crate::catalog::{CatalogError, Difference, View};
use crate::core::archive::Archived;
use crate::core::error::Result;
use crate::layout::{self, BackupName, ImageId};
use store::digest::Digest;
use store::sync::lock;
use store::{Body, Contention, ErrorKind, Key, PutMode, StoreError};

/// Images checked concurrently.
const CHECKS: usize = 8;
/// About how many bytes a page has.
const PAGE_BYTES: u64 = 16 * 1024;

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
        let known = base.and_then(|base| base.entries().cloned()).unwrap_or_default();
        Ok((self.core.catalog.pages_beyond(&known).await? + 1) * PAGE_BYTES)
    }

    /// Makes a backup under a name that was assigned before; `None` if a backup with that name exists.
    ///
    /// The objects that the newest backup references exist and were verified when that backup was made. So only other
    /// pages and images are stored, read back and hashed, and the cost follows from what changed.
    pub(super) async fn create_named(
        &self,
        name: BackupName,
        kind: Kind,
        sequence: Option<u64>,
    ) -> Result<Option<Manifest>> {
        self.core.catalog.refresh().await?;
        self.records.complete().await?;
        let created = self.core.clock.now();
        let state = self.core.catalog.stored_view().await?;
        // From here on a prune knows the pages of this backup, whatever happens to its base.
        let intent = self.put_intent(name, &state).await?;
        let made = self.create_intended(name, kind, sequence, &state, created).await;
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
        state: &View,
        created: Timestamp,
    ) -> Result<Option<Manifest>> {
        let base = self.newest_manifest(false).await?;
        let known = base.as_ref().and_then(|base| base.entries().cloned()).unwrap_or_default();
        self.core.catalog.archive_pages(state, &known, self.core.archive.young_since()).await?;
        let mut missing = match &base {
            Some(base) => {
                let before = self.view(base).await?;
                match self.missing_images(&before, state).await {
                    // Then more is checked than necessary.
                    Err(error) if error.is_damage() => self.missing_images(&View::of([]), state).await?,
                    missing => missing?,
                }
            }
            None => self.missing_images(&View::of([]), state).await?,
        };
        for id in base.iter().flat_map(|base| &base.missing) {
            if let Some(digest) = state.get(id.as_str()).await?.and_then(|entry| entry.live()?.sha256)
                && self.is_missing(digest, id).await?
            {
                missing.push(id.clone());
            }
        }
        let mut undigested = state.undigested();
        while let Some((id, entry)) = undigested.try_next().await? {
            if entry.live().is_some_and(|record| !record.is_link()) {
                missing.push(id);
            }
        }
        missing.sort();
        missing.dedup();

        let manifest = Manifest::new(name, kind, sequence, state, missing, (created, self.core.clock.now()));
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
        Ok(Some(manifest))
    }

    /// Writes the tree that a backup will reference; returns the key.
    async fn put_intent(&self, name: BackupName, state: &View) -> Result<Key, StoreError> {
        let intent = Intent { entries: state.names().clone() };
        let key = layout::intent(name, self.core.clock.new_id());
        self.core.archive.store().put(&key, &Body::from(seal::seal(&intent)), &PutMode::Create).await?;
        Ok(key)
    }

    /// Ensures that the archive holds the contents that `state` references and `before` does not; returns the images
    /// without bytes anywhere.
    async fn missing_images(&self, before: &View, state: &View) -> Result<Vec<ImageId>, CatalogError> {
        let new = |Difference { id, before, after }: Difference| {
            let digest = after?.live()?.sha256?;
            let was = before.and_then(|before| before.live()?.sha256);
            (was != Some(digest)).then_some((digest, id))
        };
        let verify = async |(digest, id): (Digest, ImageId)| {
            Ok::<_, CatalogError>(self.is_missing(digest, &id).await?.then_some(id))
        };
        let new = before.differences(state).try_filter_map(|found| std::future::ready(Ok(new(found))));
        let missing = new.map_ok(verify).try_buffer_unordered(CHECKS);
        missing.try_filter_map(|missing| std::future::ready(Ok(missing))).try_collect().await
    }

    async fn is_missing(&self, digest: Digest, id: &ImageId) -> Result<bool, StoreError> {
        Ok(self.core.archive.verify_named(&self.core.primary, id, digest).await? == Archived::Missing)
    }
}
