//! Recovery: restores all locations from what is left of the records and bytes.
//!
//! It runs at start and on demand. The records are the join of all pieces in all locations. Then, image by image,
//! missing bytes are restored from the archive and missing replicas from the primary. Files without a record are
//! adopted, or set aside if an interrupted upload left them. Unexplained files are never deleted: they are moved to the
//! archive's quarantine. In doubt nothing is overwritten.

mod files;
mod state;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::SignedDuration;

use crate::catalog::{Loaded, Record};
use crate::core::ages::IN_FLIGHT;
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::core::{COPIES, Core};
use crate::layout::{self, ImageId};
use crate::services::backup::{Backups, Kind};
use crate::services::images::bytes::ImageBytes;
use crate::services::images::files::{Listed, Paired};
use crate::services::images::records::ImageRecords;
use crate::services::migrate;
use crate::services::persistence::Persistence;
use crate::services::replication::{Replicator, is_refusal};
use crate::services::unfinished::ticket::Tickets;
use store::digest::Digest;
use store::{ErrorKind, ObjectMeta, StoreError};

pub use state::{RecoveryState, Report, Restoring};

/// A start does not wait until the files of so many images were compared with their records.
const LARGE: u64 = 10_000;
/// How old the state of the catalog may be when an image is healed.
const RECENT: SignedDuration = SignedDuration::from_secs(1);

/// What an image with a record needs.
enum Need {
    Replica(Digest),
    Bytes(Digest, Option<Listed>),
    Nothing,
    Missing,
}

impl Need {
    /// The content that was missing somewhere.
    fn content(&self) -> Option<Digest> {
        match self {
            Self::Replica(digest) | Self::Bytes(digest, _) => Some(*digest),
            Self::Nothing | Self::Missing => None,
        }
    }
}

/// What a comparison of records and files found.
struct Compared {
    /// What images need, the newest first, with the lengths of these images.
    needs: Vec<(ImageId, Need, u64)>,
    /// Files without a live record.
    unrecorded: Vec<(ImageId, Listed)>,
    /// Whether there is a file at all.
    found_files: bool,
}

/// The recovered records, and the remaining work on files.
#[derive(Debug)]
pub struct Records {
    loaded: Loaded,
}

/// Restores all locations.
#[derive(Debug)]
pub struct Recovery {
    pub(crate) core: Arc<Core>,
    pub(crate) records: Arc<ImageRecords>,
    pub(crate) bytes: Arc<ImageBytes>,
    pub(crate) backups: Arc<Backups>,
    pub(crate) replication: Arc<Replicator>,
    pub(crate) tickets: Arc<Tickets>,
    pub(crate) persistence: Arc<Persistence>,
    pub(crate) recovering: Arc<RecoveryState>,
}

impl Recovery {
    /// Recovers records and files; safe to run while this and other processes serve the store.
    pub async fn recover(&self) -> Result<Report> {
        let records = self.recover_records().await?;
        self.recover_files(records).await
    }

    /// The first half of [`recover`](Self::recover): joins what is left of the records. From then on they can be
    /// served, and so can images from the archive.
    pub async fn recover_records(&self) -> Result<Records> {
        if self.core.is_fenced() {
            // Unreadable pieces are skipped.
            let _ = self.core.catalog.load().await;
            return Err(StoreError::new("put", layout::root(), ErrorKind::Fenced).into());
        }
        let joined = self.core.note_write(self.join_records().await);
        joined.inspect_err(|error| self.persistence.note_foreign(error))
    }

    /// After a read found that a page is missing: rebuilds the catalog, unless it was the page of an older state.
    pub async fn repair_catalog(&self) -> Result<()> {
        if self.core.catalog.rebuild().await? {
            self.core.changed.notify_one();
            return Ok(());
        }
        Ok(self.core.catalog.refresh().await?)
    }

    async fn join_records(&self) -> Result<Records> {
        migrate::check_migration(&self.core.primary).await?;
        let mut loaded = match self.core.catalog.load().await {
            Err(error) if error.is_damage() => {
                self.core.catalog.rebuild().await?;
                self.core.catalog.load().await?
            }
            loaded => loaded?,
        };
        if self.core.settings.archive_sync {
            // From here on the records are safe in every location, whatever happens to the rest.
            self.core.catalog.compact().await?;
            loaded.unarchived.clear();
        } else {
            // Safe in the primary. The archive follows as far as it has the images, which can take long.
            drop(self.core.catalog.begin_compaction().await?);
        }
        Ok(Records { loaded })
    }

    /// Loads what another server has written to the archive since this one started. This applies if servers have
    /// separate disks and share the archive, as the old and the new instance do during a deploy.
    pub async fn look_at_archive_again(&self) -> Result<()> {
        if !self.core.is_fenced() {
            self.core.catalog.load().await?;
            self.core.changed.notify_one();
        }
        Ok(())
    }

    /// The second half: the bytes of images, in the primary and the archive. If it takes long,
    /// [`is_long`](Self::is_long) reports that.
    pub async fn recover_files(&self, records: Records) -> Result<Report> {
        let recovered = match self.recover_all(&records.loaded).await {
            Err(Error::Catalog(error)) if error.is_damage() => {
                self.repair_catalog().await?;
                self.recover_all(&records.loaded).await
            }
            recovered => recovered,
        };
        let report = self.core.note_write(recovered)?;
        self.recovering.note_end(report.clone());
        Ok(report)
    }

    async fn recover_all(&self, loaded: &Loaded) -> Result<Report> {
        let totals = self.core.catalog.view().totals();
        // In a large store, even to look at everything takes longer than a start should.
        self.recovering.note_work(totals.undigested.max(if totals.live > LARGE { totals.live } else { 0 }), 0);
        let imported = self.records.complete().await?;
        // Before the files are listed: without its ticket, the file of an interrupted completion has no owner.
        self.tickets.clear().await?;
        let Compared { needs, unrecorded, found_files } = self.compare().await?;
        let mut report = Report {
            is_new: loaded.is_new && !found_files,
            metadata_restored: loaded.from_mirrors && !loaded.is_new,
            imported,
            damaged_commits: loaded.damaged_commits.len(),
            unusable_names: loaded.unusable_names.clone(),
            ..Report::default()
        };
        self.heal_images(needs, &loaded.unarchived, &mut report).await?;
        let adopted = self.recover_unrecorded(unrecorded, loaded, &mut report).await?;
        if !adopted.is_empty() {
            self.core.catalog.commit(adopted).await?;
        }
        self.replication.compact().await?;
        self.backups.resume_automatic().await?;
        report.images = self.core.catalog.view().totals().live;
        if report.images > 0 && self.backups.newest_manifest(true).await?.is_none() {
            self.backups.create(Kind::Safety).await?;
        }
        let stale = self.core.clock.now() - IN_FLIGHT;
        for store in [&self.core.primary, self.core.archive.store()] {
            store.sweep_unfinished(stale).await?;
        }
        Ok(report)
    }

    /// Compares the records with the files. What the result names may have changed since: see
    /// [`with_files`](ImageRecords::with_files).
    async fn compare(&self) -> Result<Compared> {
        let archived = self.list_archived().await?;
        let (mut needs, mut unrecorded, mut found_files) = (Vec::new(), Vec::new(), false);
        let mut images = self.records.with_files(self.core.catalog.view().live().map_err(Error::from));
        while let Some(Paired { id, entry, file }) = images.try_next().await? {
            found_files |= file.is_some();
            match entry.as_ref().and_then(|entry| entry.live()) {
                Some(record) => match need(record, file, &archived) {
                    Need::Nothing => {}
                    need => needs.push((id, need, record.size.unwrap_or_default())),
                },
                None => unrecorded.extend(file.map(|file| (id, file))),
            }
        }
        // The newest first: users look at them first.
        needs.reverse();
        Ok(Compared { needs, unrecorded, found_files })
    }

    async fn list_archived(&self) -> Result<Replicas, StoreError> {
        let images = self.core.archive.store().list(layout::ARCHIVED_IMAGES, None);
        let replica = |meta: ObjectMeta| Some(Replicas::key(&layout::parse_archived_image(&meta.key)?, meta.size));
        let mut replicas: Vec<_> = images.try_filter_map(async |meta| Ok(replica(meta))).try_collect().await?;
        replicas.sort_unstable();
        Ok(Replicas(replicas))
    }

    /// Restores missing bytes and replicas.
    async fn heal_images(
        &self,
        needs: Vec<(ImageId, Need, u64)>,
        unrecorded: &BTreeSet<ImageId>,
        report: &mut Report,
    ) -> Result<()> {
        let pending_images =
            needs.iter().filter(|(_, need, _)| matches!(need, Need::Replica(_))).map(|(id, ..)| id.clone());
        self.replication.note_missing(pending_images.collect(), unrecorded.clone());
        let total = needs.iter().filter(|(_, need, _)| matches!(need, Need::Bytes(..))).count() as u64;
        if total > 0 {
            self.recovering.note_restoring(total);
        }
        self.recovering.note_work(needs.len() as u64, needs.iter().map(|(.., size)| size).sum());
        let heal = async |(id, need, _): (ImageId, Need, u64)| {
            let restores = matches!(need, Need::Bytes(..));
            let copies = matches!(need, Need::Replica(_));
            match self.heal(&id, need).await {
                // An image that the archive rejects blocks no other, and stays pending.
                Err(error) if copies && is_refusal(&error) => Ok(Err(error)),
                healed => {
                    let healed = healed?;
                    self.replication.note_replicated(&id);
                    Ok::<_, Error>(Ok((id, healed, restores)))
                }
            }
        };
        let mut refused = None;
        let mut healed = stream::iter(needs).map(heal).buffer_unordered(COPIES);
        while let Some(healed) = healed.try_next().await? {
            let (id, healed, restores) = match healed {
                Ok(healed) => healed,
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            };
            if restores {
                self.recovering.note_restored();
            }
            match healed {
                Healed::Replica => report.archived += 1,
                Healed::Bytes { set_aside } => {
                    report.brought_back += 1;
                    report.set_aside += u64::from(set_aside);
                }
                Healed::Missing => report.missing.push(id),
                Healed::Outdated => {}
            }
        }
        report.missing.sort();
        refused.map_or(Ok(()), Err)
    }

    async fn heal(&self, id: &ImageId, need: Need) -> Result<Healed> {
        // Since the comparison, the image may have been deleted, and another one imported under its name.
        if !self.core.catalog.is_fresh(RECENT) {
            self.core.catalog.refresh().await?;
        }
        let Some(entry) = self.core.catalog.view().get_live(id.as_str()).await? else { return Ok(Healed::Outdated) };
        if need.content().is_some_and(|digest| entry.content_digest() != Some(digest)) {
            return Ok(Healed::Outdated);
        }
        match need {
            Need::Replica(digest) => Ok(match self.core.archive.verify_named(&self.core.primary, id, digest).await? {
                Archived::Yes => Healed::Replica,
                Archived::Missing => Healed::Missing,
            }),
            Need::Bytes(digest, present) => {
                let set_aside = present.is_some();
                if set_aside {
                    self.core.archive.quarantine(&self.core.primary, &layout::image(id)).await?;
                }
                let brought = self.core.archive.bring_back(&self.core.primary, id, digest).await?;
                if brought == Archived::Missing {
                    return Ok(Healed::Missing);
                }
                self.core.catalog.refresh().await?;
                if !self.core.catalog.view().is_live(id.as_str()).await? {
                    // It was deleted meanwhile, and the archive has the restored bytes.
                    self.core.primary.delete(&layout::image(id)).await?;
                    return Ok(Healed::Outdated);
                }
                Ok(Healed::Bytes { set_aside })
            }
            Need::Missing | Need::Nothing => {
                let Some(record) = entry.live() else { return Ok(Healed::Outdated) };
                match self.bytes.locate(id, record).await {
                    Ok(_) => Ok(Healed::Outdated),
                    Err(Error::MissingBytes) => Ok(Healed::Missing),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

enum Healed {
    Replica,
    Bytes {
        set_aside: bool,
    },
    Missing,
    /// The listing is outdated.
    Outdated,
}

/// The replicas in the archive, sorted: images come by name, and are looked up by content. Of each, 12 bytes of its digest
/// and 4 of its length, since there may be millions. That no two contents have these in common is as certain as that a
/// disk returns what was written.
struct Replicas(Vec<u128>);

impl Replicas {
    fn key(digest: &Digest, size: u64) -> u128 {
        let digest = digest.as_bytes()[..12].iter().fold(0, |key, byte| key << 8 | u128::from(*byte));
        digest << 32 | u128::from(size as u32)
    }

    /// Whether there is a replica, of this length if one is given.
    fn has(&self, digest: &Digest, size: Option<u64>) -> bool {
        match size {
            Some(size) => self.0.binary_search(&Self::key(digest, size)).is_ok(),
            None => {
                let first = Self::key(digest, 0);
                let at = self.0.partition_point(|key| *key < first);
                self.0.get(at).is_some_and(|key| key >> 32 == first >> 32)
            }
        }
    }
}

fn need(record: &Record, present: Option<Listed>, archived: &Replicas) -> Need {
    let Some(digest) = record.sha256 else {
        return match present {
            // It arrived since the records were completed.
            Some(_) => Need::Nothing,
            // A link has no bytes here, so none are missing.
            None if record.is_link() => Need::Nothing,
            None => Need::Missing,
        };
    };
    let is_right = |file: &Listed| record.size.is_none_or(|wanted| wanted == file.size);
    match (present.filter(is_right), archived.has(&digest, record.size)) {
        (Some(_), true) => Need::Nothing,
        (Some(_), false) => Need::Replica(digest),
        (None, true) => Need::Bytes(digest, present),
        (None, false) => Need::Missing,
    }
}
