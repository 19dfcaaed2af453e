//! Backups: immutable snapshots of the catalog.
//!
//! A backup is a manifest that names a tree of entries, which reference images; pages and images are stored in the
//! archive once each, by digest. The manifest is written last, so a backup without a valid manifest does not exist.
//!
//! What the newest backup references was stored and verified when that one was made. So a new one stores and verifies
//! only the pages and images that it does not share with it. An intent, which names the same tree, keeps a prune from
//! removing its pages until the manifest does ([`prune`](crate::services::prune)).
//!
//! Manifests of format 1 list chunks of entries instead of naming a tree. They are listed, read, restored and pruned as
//! before, and no longer made.

pub(crate) mod automatic;
mod create;
mod manifest;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future;
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::catalog::{CatalogError, Difference, Entry, Position, QUEUED_AT_MOST, View, decode_chunk, uploaded_at};
use crate::core::error::{Error, Result};
use crate::core::{Core, FETCHES};
use crate::layout::{self, BackupName, ImageId};
use crate::services::images::records::ImageRecords;
use store::digest::Digest;
use store::sync::{Mutex, lock};
use store::{ETag, ErrorKind, ObjectMeta, Optional, StoreError};

pub(crate) use automatic::Sequence;
pub(crate) use manifest::Intent;
pub use manifest::{ChunkRef, Kind, Listed, Manifest};

/// A process's cache of the backups, so that it reads no manifest twice.
#[derive(Debug, Default)]
struct Known {
    /// By the version that was read; `None` for an invalid manifest.
    seen: Mutex<HashMap<BackupName, (ETag, Option<Listed>)>>,
    /// The newest known valid manifest: the objects that it references need not be stored and checked again.
    base: Mutex<Option<Arc<Manifest>>>,
    /// The last automatic backup known to be claimed, in units of `backup_every` uploads; none before this process has
    /// read it.
    claimed: Mutex<Option<u64>>,
    /// Automatic backups that this process claimed and failed to make; the next upload tries again.
    unfinished: Mutex<BTreeMap<u64, BackupName>>,
}

/// The existing backups.
#[derive(Debug, Default)]
pub struct All {
    /// Those with a valid manifest, newest first.
    pub listed: Vec<Listed>,
    /// Those whose manifest cannot be read, newest first: the archive refuses it, or cannot read it from its medium.
    pub unreadable: Vec<BackupName>,
}

/// Makes, lists, reads and deletes backups.
#[derive(Debug)]
pub struct Backups {
    core: Arc<Core>,
    records: Arc<ImageRecords>,
    /// The cache of the backups.
    known: Known,
}

impl Backups {
    /// Backups for the stores of `core`.
    pub fn new(core: Arc<Core>, records: Arc<ImageRecords>) -> Self {
        Self { core, records, known: Known::default() }
    }

    /// How many live images were uploaded after a backup was made, or in total if there is none.
    pub(crate) async fn uploaded_after(&self, newest: Option<BackupName>) -> Result<u64, CatalogError> {
        let since = newest.map_or(Timestamp::MIN, BackupName::moment);
        let is_after = |entry: &Entry| entry.live().is_some_and(|record| uploaded_at(record) > since);
        let view = self.core.catalog.view();
        let manifest = match newest {
            Some(name) => self.read_manifest(name).await?,
            None => None,
        };
        if let Some(entries) = manifest.as_ref().and_then(|manifest| manifest.entries()) {
            let differences = self.core.catalog.archived_view(entries.clone()).differences(&view);
            let is_new = |difference: &Difference| difference.after.as_ref().is_some_and(|after| is_after(after));
            let counted = differences.try_fold(0, async |count, difference| Ok(count + u64::from(is_new(&difference))));
            match counted.await {
                Err(error) if error.is_damage() => {}
                counted => return counted,
            }
        }
        // An image's position in lists may precede its upload by a bounded time.
        let earliest = since.checked_sub(QUEUED_AT_MOST).unwrap_or(Timestamp::MIN);
        let may_be_after = |((at, _), _): &(Position, Arc<Entry>)| future::ready(Ok(*at > earliest));
        let newest = view.newest(None).try_take_while(may_be_after);
        newest.try_fold(0, async |count, (_, entry)| Ok(count + u64::from(is_after(&entry)))).await
    }

    /// Every backup that has a valid manifest, newest first.
    pub async fn list(&self) -> Result<Vec<Listed>> {
        Ok(self.all().await?.listed)
    }

    /// Like [`list`](Self::list), with the names of backups whose manifest cannot be read now.
    pub async fn all(&self) -> Result<All> {
        let (manifests, mut unreadable) = self.list_manifests().await?;
        let read = async |(name, meta): (BackupName, ObjectMeta)| {
            let seen = lock(&self.known.seen).get(&name).cloned();
            let listed = match seen {
                Some((etag, listed)) if etag == meta.etag => listed,
                _ => match self.try_manifest(name).await {
                    // It may be readable again next time.
                    Err(e) if fails_by_itself(&e) => return Ok((name, None)),
                    read => read?.map(|manifest| manifest.listed(meta.modified)),
                },
            };
            Ok::<_, StoreError>((name, Some((meta.etag, listed))))
        };
        let found: Vec<_> = stream::iter(manifests).map(read).buffered(FETCHES).try_collect().await?;
        unreadable.extend(found.iter().filter(|(_, read)| read.is_none()).map(|(name, _)| *name));
        unreadable.sort_unstable_by(|a, b| b.cmp(a));
        let seen: HashMap<_, _> = found.into_iter().filter_map(|(name, read)| Some((name, read?))).collect();
        let mut listed: Vec<Listed> = seen.values().filter_map(|(_, listed)| listed.clone()).collect();
        listed.sort_unstable_by_key(|listed| Reverse(listed.name));
        *lock(&self.known.seen) = seen;
        Ok(All { listed, unreadable })
    }

    /// The manifests in the archive, the oldest first, and the backups whose folder may not be read.
    pub(crate) async fn list_manifests(&self) -> Result<(Vec<(BackupName, ObjectMeta)>, Vec<BackupName>), StoreError> {
        let (mut manifests, mut unreadable) = (Vec::new(), Vec::new());
        let mut listing = self.core.archive.store().list(layout::BACKUPS, None);
        while let Some(listed) = listing.next().await {
            match listed {
                Ok(meta) => manifests.extend(layout::parse_manifest(&meta.key).map(|name| (name, meta))),
                Err(e) if e.kind == ErrorKind::Refused => match e.key.split('/').find_map(|part| part.parse().ok()) {
                    Some(name) => unreadable.push(name),
                    None => return Err(e),
                },
                Err(e) => return Err(e),
            }
        }
        Ok((manifests, unreadable))
    }

    /// A backup's manifest; [`Error::NoSuchBackup`] if there is no valid one.
    pub async fn manifest(&self, name: BackupName) -> Result<Manifest> {
        match self.try_manifest(name).await {
            Err(e) if e.kind == ErrorKind::Corrupt => Err(Error::DamagedBackup(name)),
            read => read?.ok_or_else(|| Error::NoSuchBackup(name.to_string())),
        }
    }

    /// Reads a manifest; `None` if there is no valid one.
    pub(crate) async fn read_manifest(&self, name: BackupName) -> Result<Option<Manifest>, StoreError> {
        Ok(self.try_manifest(name).await.intact()?.flatten())
    }

    /// Like [`read_manifest`](Self::read_manifest), but a manifest that its store cannot read is
    /// [`ErrorKind::Corrupt`].
    async fn try_manifest(&self, name: BackupName) -> Result<Option<Manifest>, StoreError> {
        let key = layout::manifest(name);
        let Some((bytes, _)) = self.core.archive.store().read(&key).await.optional()? else { return Ok(None) };
        match Manifest::decode(&bytes) {
            Ok(manifest) if manifest.name == name => Ok(Some(manifest)),
            Ok(_) => Ok(None),
            Err(reason) => {
                tracing::warn!(backup = %name, reason, "a manifest is not valid; the backup is not listed");
                Ok(None)
            }
        }
    }

    /// The state that a backup names. [`Error::DamagedBackup`] if a part of it is missing or damaged; of a tree, that
    /// shows when its pages are read.
    pub(crate) async fn view(&self, manifest: &Manifest) -> Result<View> {
        if let Some(entries) = manifest.entries() {
            return Ok(self.core.catalog.archived_view(entries.clone()));
        }
        let read = async |chunk: &ChunkRef| -> Result<_> {
            self.read_chunk(&chunk.sha256).await?.ok_or(Error::DamagedBackup(manifest.name))
        };
        let mut chunks = stream::iter(&manifest.chunks).map(read).buffered(FETCHES);
        let mut entries = Vec::new();
        while let Some(chunk) = chunks.try_next().await? {
            entries.extend(chunk);
        }
        Ok(View::of(entries))
    }

    /// Reads one chunk of a backup of format 1; `None` if it is missing or its bytes do not match its digest.
    pub(crate) async fn read_chunk(&self, digest: &Digest) -> Result<Option<Vec<(ImageId, Arc<Entry>)>>, StoreError> {
        let Some((bytes, _)) = self.core.archive.store().read(&layout::chunk(digest)).await.intact()? else {
            return Ok(None);
        };
        Ok(if Digest::of(&bytes) == *digest { decode_chunk(&bytes).ok() } else { None })
    }

    /// The newest valid backup whose parts exist, read from the archive if none is cached yet. Checks only the first
    /// part, so that the cost of a backup does not grow. This detects at once that `catalog/` was removed. A single
    /// missing page is detected by the next recovery, which checks `thoroughly`, all of them.
    pub(crate) async fn newest_manifest(&self, thoroughly: bool) -> Result<Option<Arc<Manifest>>, CatalogError> {
        let known = lock(&self.known.base).clone();
        if let Some(known) = known
            && self.core.archive.store().head(&layout::manifest(known.name)).await.optional()?.is_some()
            && self.has_parts(&known, thoroughly).await?
        {
            return Ok(Some(known));
        }
        let (mut manifests, _) = self.list_manifests().await?;
        let mut newest = None;
        while let Some((name, _)) = manifests.pop()
            && newest.is_none()
        {
            let manifest = match self.try_manifest(name).await {
                Err(e) if fails_by_itself(&e) => None,
                read => read?,
            };
            if let Some(manifest) = manifest
                && self.has_parts(&manifest, thoroughly).await?
            {
                newest = Some(Arc::new(manifest));
            }
        }
        lock(&self.known.base).clone_from(&newest);
        Ok(newest)
    }

    /// Deletes a backup. The objects that only it referenced are left to a prune. [`Error::RestoreRunning`] beside a
    /// restore.
    pub async fn delete(&self, name: BackupName) -> Result<()> {
        let lease = self.core.restore_lease_to_delete().await?;
        let deleted = self.delete_manifest(name).await;
        lease.end().await;
        self.core.note_write(deleted)
    }

    async fn delete_manifest(&self, name: BackupName) -> Result<()> {
        let (archive, key) = (self.core.archive.store(), layout::manifest(name));
        // This includes damaged ones: nothing else removes them.
        archive.head(&key).await.optional()?.ok_or_else(|| Error::NoSuchBackup(name.to_string()))?;
        archive.delete(&key).await?;
        self.forget(name);
        Ok(())
    }

    /// Drops a deleted backup from the cache.
    pub(crate) fn forget(&self, name: BackupName) {
        lock(&self.known.seen).remove(&name);
        let mut base = lock(&self.known.base);
        *base = base.take().filter(|base| base.name != name);
    }

    /// Whether the archive holds the parts of a backup: the first one, or all of them.
    async fn has_parts(&self, manifest: &Manifest, thoroughly: bool) -> Result<bool, CatalogError> {
        if let Some(entries) = manifest.entries() {
            return self.core.catalog.archive_has(entries, thoroughly).await;
        }
        let first = if thoroughly { manifest.chunks.len() } else { manifest.chunks.len().min(1) };
        let head =
            async |chunk: &ChunkRef| self.core.archive.store().head(&layout::chunk(&chunk.sha256)).await.optional();
        let mut heads = stream::iter(&manifest.chunks[..first]).map(head).buffered(FETCHES);
        while let Some(head) = heads.try_next().await? {
            if head.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether an object exists and cannot be read. This does not affect other objects.
pub(crate) fn fails_by_itself(error: &StoreError) -> bool {
    matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Refused)
}
