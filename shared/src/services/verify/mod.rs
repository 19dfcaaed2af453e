//! Verification: reads all stored objects, a slice at a time, and compares them with their digests. Each damaged copy
//! is replaced by the intact one.
//!
//! A failure on one object does not stop the verification of the others.

mod backups;
mod record;
mod sizes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::base::seal;
use crate::catalog::Entry;
use crate::core::Core;
use crate::core::ages::uploaded_after;
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::layout::{self, BackupName, ImageId};
use crate::services::backup::Backups;
use crate::services::images::bytes::{ImageBytes, is_unreadable};
use crate::services::images::records::ImageRecords;
use crate::services::replication::Replicator;
use store::digest::Digest;
use store::{Body, Change, Found, Key, Optional, Store, StoreError};

pub use record::Record;

/// Objects read concurrently.
const READS: usize = 4;
/// The number of slices in the schedule: at one slice per hour, everything is read in thirty days.
pub const SLICES: u32 = 720;
/// With asynchronous replication, the replica of an image younger than this may still be pending.
const REPLICATED_WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// A part of all stored objects, selected by digest: slice `number` of `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    number: u32,
    of: u32,
}

impl Slice {
    /// Everything.
    pub const WHOLE: Self = Self { number: 1, of: 1 };

    /// Slice `number` of `of`, counted from 1; `None` if there is no such slice.
    pub fn new(number: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    fn takes(self, digest: &Digest) -> bool {
        let [a, b, c, d, ..] = *digest.as_bytes();
        u32::from_be_bytes([a, b, c, d]) % self.of == self.number - 1
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Slice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(number, of)| Self::new(number.parse().ok()?, of.parse().ok()?));
        parsed.ok_or_else(|| Error::Invalid("A slice is written as 1/30: the first of thirty.".to_owned()))
    }
}

/// What a verification found and repaired.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Findings {
    /// Images whose copies were read.
    pub images: u64,
    /// Total size of those images in bytes.
    pub bytes: u64,
    /// Images whose bytes in the primary were missing or damaged, and were restored from the archive.
    pub repaired: BTreeSet<ImageId>,
    /// Images whose replica was missing or damaged, and was replaced.
    pub copied: BTreeSet<ImageId>,
    /// Images with one missing, damaged or unreadable copy that was not repaired, because no repair was requested or
    /// the repair failed. Also images without an intact copy for which a store holds an object that it fails to return.
    pub damaged: BTreeSet<ImageId>,
    /// Images without an intact copy.
    pub lost: BTreeSet<ImageId>,
    /// Replicas of deleted images that were read.
    pub deleted: u64,
    /// Damaged ones among these replicas: no restore can recover these images.
    pub lost_copies: BTreeSet<Digest>,
    /// Catalog chunks and manifests that were read.
    pub pieces: u64,
    /// Damaged or missing pages that were put back from another location.
    pub rewritten: u64,
    /// Backups with a missing or damaged part that could not be rewritten.
    pub damaged_backups: BTreeSet<BackupName>,
    /// The expected digests of the images in `damaged` and `lost`.
    #[serde(skip)]
    pub(crate) wrong: BTreeMap<ImageId, Digest>,
}

impl Findings {
    /// Whether any damage remains.
    pub fn needs_attention(&self) -> bool {
        let well = self.damaged.is_empty() && self.lost.is_empty();
        !(well && self.lost_copies.is_empty() && self.damaged_backups.is_empty())
    }
}

/// The state of one copy of an image's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    /// The bytes have the expected digest.
    Right,
    /// The copy is missing, or its bytes have another digest.
    Wrong,
    /// The store lists the object and answers other requests, but fails to return its bytes. A storage service that
    /// checks its own data fails in this way when an object has rotted.
    Unreadable,
}

/// The state of both copies of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copies {
    primary: Copy,
    archive: Copy,
}

impl Copies {
    const RIGHT: Self = Self { primary: Copy::Right, archive: Copy::Right };
}

/// Verifies and repairs stored objects.
#[derive(Debug)]
pub struct Verifier {
    core: Arc<Core>,
    bytes: Arc<ImageBytes>,
    records: Arc<ImageRecords>,
    backups: Arc<Backups>,
    replication: Arc<Replicator>,
    /// Allows one verification at a time.
    verifying: tokio::sync::Mutex<()>,
}

impl Verifier {
    /// A verifier for the stores of `core`.
    pub fn new(
        core: Arc<Core>,
        bytes: Arc<ImageBytes>,
        records: Arc<ImageRecords>,
        backups: Arc<Backups>,
        replication: Arc<Replicator>,
    ) -> Self {
        Self { core, bytes, records, backups, replication, verifying: tokio::sync::Mutex::default() }
    }

    /// Verifies one slice. With `repair`, replaces each damaged copy whose other copy is intact.
    /// [`Error::VerificationRunning`] while another verification runs in this process.
    pub async fn verify(&self, slice: Slice, repair: bool) -> Result<Findings> {
        let _guard = self.verifying.try_lock().map_err(|_| Error::VerificationRunning)?;
        self.core.catalog.refresh().await?;
        let mut findings = Findings::default();
        let mut failure = self.verify_slice(slice, repair, &mut findings).await.err();
        if repair && let Err(error) = self.measure_older_records(slice).await {
            // No copy is damaged by this, and the next verification of the slice tries again.
            tracing::warn!(error = &error as &dyn std::error::Error, "sizes in older records could not be corrected");
        }
        failure = failure.or(self.verify_deleted(slice, &mut findings).await.err());
        let backups = self.verify_backups(slice, repair, &mut findings).await;
        let (backups, failed) = backups.map_or_else(|error| (None, Some(error)), |names| (Some(names), None));
        failure = failure.or(failed);
        if let Err(error) = self.note_findings(slice, &findings, backups.as_deref(), failure.is_none()).await {
            // The store is then not writable, and the findings are most needed: log them.
            tracing::warn!(error = &error as &dyn std::error::Error, ?findings, "the findings could not be stored");
        }
        failure.map_or(Ok(findings), Err)
    }

    /// Verifies and repairs the slice that was verified longest ago; for an unattended schedule.
    pub async fn verify_next(&self) -> Result<(Slice, Findings)> {
        let slice = self.verifications().await?.next_slice();
        let findings = self.verify(slice, true).await?;
        if findings.needs_attention() {
            tracing::error!(%slice, ?findings, "a verification found damage that it cannot repair");
        }
        Ok((slice, findings))
    }

    async fn was_deleted(&self, id: &ImageId) -> bool {
        let refreshed = self.core.catalog.refresh().await;
        refreshed.is_ok() && self.core.catalog.view().is_live(id.as_str()).await.is_ok_and(|is_live| !is_live)
    }

    async fn verify_slice(&self, slice: Slice, repair: bool, findings: &mut Findings) -> Result<()> {
        let replicated_by = self.core.clock.now() - REPLICATED_WITHIN;
        let queued = self.replication.queued_since(replicated_by);
        let mine = |(id, entry): (ImageId, Arc<Entry>)| {
            let record = entry.live()?;
            let digest = record.sha256.filter(|digest| slice.takes(digest))?;
            let new = !self.core.settings.archive_sync && uploaded_after(record, replicated_by);
            Some((id, digest, record.size.unwrap_or(0), new || queued.contains(&entry.stamp.commit)))
        };
        let images = self.core.catalog.view().live().try_filter_map(async |live| Ok(mine(live)));
        let images: Vec<(ImageId, Digest, u64, bool)> = images.try_collect().await?;
        self.core.progress.begin("images", images.len() as u64);
        let look = async |(id, digest, size, may_wait)| {
            (self.look_allowing_lag(&id, digest, may_wait).await, id, digest, size)
        };
        let mut looked = stream::iter(images).map(look).buffer_unordered(READS);
        let mut failure = None;
        while let Some((found, id, digest, size)) = looked.next().await {
            findings.images += 1;
            self.core.progress.advance();
            findings.bytes += size;
            let repaired = match found {
                Ok(None) => Ok(()),
                // An image deleted since then needs no repair.
                Ok(Some(_)) if self.was_deleted(&id).await => Ok(()),
                Ok(Some(copies)) => self.repair(&id, digest, copies, repair, findings).await,
                Err(error) => Err(error),
            };
            if let Err(error) = repaired {
                tracing::error!(image = %id, error = &error as &dyn std::error::Error, "an image could not be verified");
                failure = failure.or(Some(error));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Like [`look_at`](Self::look_at), but a pending replica is no fault if `may_wait` is set.
    async fn look_allowing_lag(&self, id: &ImageId, digest: Digest, may_wait: bool) -> Result<Option<Copies>> {
        let found = self.look_at(id, digest).await?;
        match found {
            Some(Copies { primary: Copy::Right, archive: Copy::Wrong }) if may_wait => {}
            _ => return Ok(found),
        }
        // A replica that does not exist yet is pending. One that exists may have been made after the check: check
        // again.
        if self.core.archive.has(&digest, None).await? { self.look_at(id, digest).await } else { Ok(None) }
    }

    /// Reads both copies of an image; `None` if both are intact.
    async fn look_at(&self, id: &ImageId, digest: Digest) -> Result<Option<Copies>> {
        let (image, copy) = (layout::image(id), layout::archived_image(&digest));
        let primary = read_through(&self.core.primary, &image, digest);
        let archive = read_through(self.core.archive.store(), &copy, digest);
        let (primary, archive) = futures::try_join!(primary, archive)?;
        let copies = Copies { primary, archive };
        Ok((copies != Copies::RIGHT).then_some(copies))
    }

    /// Repairs images that were found damaged when they were served. Those that cannot be repaired are recorded for the
    /// health report until a verification finds them intact.
    pub async fn repair_suspects(&self) -> Result<()> {
        let suspects = self.bytes.take_suspects();
        let (mut failure, mut findings) = (None, Findings::default());
        for id in suspects {
            failure = failure.or(self.repair_suspect(&id, &mut findings).await.err());
        }
        if findings != Findings::default() {
            // Only adds findings to the record: this was not a full verification.
            let noted = self.note_findings(Slice::WHOLE, &findings, None, false).await;
            failure = failure.or(noted.err());
        }
        failure.map_or(Ok(()), Err)
    }

    async fn repair_suspect(&self, id: &ImageId, findings: &mut Findings) -> Result<()> {
        // Bytes of an image that another process has just deleted must not come back.
        self.core.catalog.refresh().await?;
        let entry = self.core.catalog.view().get_live(id.as_str()).await?;
        let Some(digest) = entry.and_then(|entry| entry.live()?.sha256) else { return Ok(()) };
        match self.look_at(id, digest).await? {
            // Neither copy is intact, so there is no source for a repair.
            Some(Copies { primary: Copy::Wrong, archive: Copy::Wrong }) | None => Ok(()),
            Some(copies) => self.repair(id, digest, copies, true, findings).await,
        }
    }

    async fn repair(
        &self,
        id: &ImageId,
        digest: Digest,
        copies: Copies,
        repair: bool,
        findings: &mut Findings,
    ) -> Result<()> {
        tracing::warn!(image = %id, ?copies, "a copy of an image is missing, damaged or unreadable");
        let Copies { primary, archive } = copies;
        let repaired = match (primary, archive) {
            (Copy::Wrong, Copy::Wrong) => {
                findings.lost.insert(id.clone());
                findings.wrong.insert(id.clone(), digest);
                return Ok(());
            }
            (_, Copy::Right) if repair => self.repair_image(id, digest, primary).await.map(|()| &mut findings.repaired),
            (Copy::Right, _) if repair => self.repair_copy(id, digest, archive).await.map(|()| &mut findings.copied),
            // Also if neither copy is intact, since the storage service may still recover the bytes of one.
            _ => Ok(&mut findings.damaged),
        };
        let failed = match repaired {
            Ok(found) => {
                found.insert(id.clone());
                Ok(())
            }
            Err(error) => {
                findings.damaged.insert(id.clone());
                Err(error)
            }
        };
        if findings.damaged.contains(id) {
            findings.wrong.insert(id.clone(), digest);
        }
        failed
    }

    /// Moves an image's bytes in the primary, if they are readable, to quarantine and restores the verified bytes from
    /// the archive.
    async fn repair_image(&self, id: &ImageId, digest: Digest, found: Copy) -> Result<()> {
        if found != Copy::Unreadable {
            self.core.archive.quarantine(&self.core.primary, &layout::image(id)).await?;
        }
        match self
            .core
            .note_write(self.core.archive.bring_back(&self.core.primary, id, digest).await.map_err(Error::from))?
        {
            Archived::Yes => Ok(()),
            Archived::Missing => Err(Error::MissingBytes),
        }
    }

    /// Replaces a damaged replica in the archive by the bytes in the primary; the counterpart of
    /// [`repair_image`](Self::repair_image).
    async fn repair_copy(&self, id: &ImageId, digest: Digest, found: Copy) -> Result<()> {
        let (archive, to) = (self.core.archive.store(), layout::archived_image(&digest));
        if found != Copy::Unreadable {
            self.core.archive.quarantine(archive, &to).await?;
        }
        let copied = self.core.primary.copy_to(&layout::image(id), archive, &to, digest, None).await;
        self.core.note_write(copied.map_err(Error::from))
    }

    /// The recorded findings of past verifications.
    pub async fn verifications(&self) -> Result<Record> {
        let kept = self.core.archive.store().read(&layout::verified()).await.intact()?;
        Ok(kept.and_then(|(bytes, _)| seal::open(&bytes)).unwrap_or_default())
    }

    /// Records the findings of a verification. Only a verification that read all of its slice clears earlier findings.
    async fn note_findings(
        &self,
        slice: Slice,
        findings: &Findings,
        backups: Option<&[BackupName]>,
        saw_all: bool,
    ) -> Result<()> {
        let note = |found: Found| {
            let mut record = match found {
                Found::Absent | Found::Unreadable => Record::default(),
                Found::Bytes(bytes) => seal::open(&bytes).unwrap_or_default(),
            };
            if let Some(backups) = backups {
                // A backup that was deleted is no longer damaged.
                record.damaged_backups.retain(|name| backups.contains(name));
            }
            record.note(slice, findings, self.core.clock.now(), saw_all);
            Ok::<_, Error>(Change::Put(Body::from(seal::seal(&record)), ()))
        };
        self.core.archive.store().update(&layout::verified(), note).await
    }
}

/// Reads an object in full and compares its digest. A store that does not answer at all is an error.
async fn read_through(store: &Store, key: &Key, digest: Digest) -> Result<Copy, StoreError> {
    let mut tried_again = false;
    loop {
        match store.hash(key).await.intact() {
            Ok(Some((_, found))) if found == digest => return Ok(Copy::Right),
            Ok(_) => return Ok(Copy::Wrong),
            Err(error) if !is_unreadable(store, key, &error).await => return Err(error),
            // A single failed read may be transient.
            Err(_) if tried_again => return Ok(Copy::Unreadable),
            Err(_) => tried_again = true,
        }
    }
}
