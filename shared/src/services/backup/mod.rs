//! Backups: immutable snapshots of the catalog.
//!
//! A backup is a manifest that references catalog chunks, which reference images; all are stored in the archive once
//! each, by digest. The manifest is written last, so a backup without a valid manifest does not exist.

pub(crate) mod automatic;
mod create;
mod manifest;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use crate::catalog::gc_hints::{GcHints, Swept};
use crate::catalog::{Chunk, Entry, QUEUED_AT_MOST, decode_chunk, uploaded_at};
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
    /// The chunks of the last backup that this process made, so that changes can be found without reading them again.
    made: Mutex<HashMap<Digest, Arc<Chunk>>>,
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
    pub(crate) fn uploaded_after(&self, newest: Option<BackupName>) -> u64 {
        let since = newest.map_or(Timestamp::MIN, BackupName::moment);
        // An image's position in lists may precede its upload by a bounded time.
        let earliest = since.checked_sub(QUEUED_AT_MOST).unwrap_or(Timestamp::MIN);
        let is_after = |entry: &Entry| entry.live().is_some_and(|record| uploaded_at(record) > since);
        self.core.catalog.read(|state| {
            let newest = state.newest(None).take_while(|((at, _), _)| *at > earliest);
            newest.filter(|(_, entry)| is_after(entry)).count() as u64
        })
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

    /// Reads one chunk of a backup; `None` if it is missing or its bytes do not match its digest.
    pub(crate) async fn read_chunk(&self, digest: &Digest) -> Result<Option<Vec<(ImageId, Arc<Entry>)>>, StoreError> {
        let Some((bytes, _)) = self.core.archive.store().read(&layout::chunk(digest)).await.intact()? else {
            return Ok(None);
        };
        Ok(if Digest::of(&bytes) == *digest { decode_chunk(&bytes).ok() } else { None })
    }

    /// The newest valid backup whose chunks exist, read from the archive if none is cached yet. Checks only the first
    /// chunk, so that the cost of a backup does not grow. This detects at once that `catalog/` was removed. A single
    /// missing chunk is detected by the next recovery, which checks `thoroughly`, all of them.
    pub(crate) async fn newest_manifest(&self, thoroughly: bool) -> Result<Option<Arc<Manifest>>, StoreError> {
        let to_check =
            |manifest: &Manifest| if thoroughly { manifest.chunks.len() } else { manifest.chunks.len().min(1) };
        let known = lock(&self.known.base).clone();
        if let Some(known) = known
            && self.core.archive.store().head(&layout::manifest(known.name)).await.optional()?.is_some()
            && self.has_chunks(&known.chunks[..to_check(&known)]).await?
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
                && self.has_chunks(&manifest.chunks[..to_check(&manifest)]).await?
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
        match self.read_manifest(name).await? {
            Some(manifest) => {
                let chunks = manifest.chunks.iter().map(|chunk| chunk.sha256).collect();
                GcHints::of_chunks(chunks).put(archive, self.core.clock.new_id()).await?;
            }
            None => Swept::forget(archive).await?,
        }
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

    /// Whether the archive holds these chunks.
    async fn has_chunks(&self, chunks: &[ChunkRef]) -> Result<bool, StoreError> {
        let head =
            async |chunk: &ChunkRef| self.core.archive.store().head(&layout::chunk(&chunk.sha256)).await.optional();
        let mut heads = stream::iter(chunks).map(head).buffered(FETCHES);
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
