//! [`Contents`]: the state to export, of which only a part is in memory at a time.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::stream::{Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::verified_image::VerifiedImage;
use crate::catalog::{CatalogError, Entry, View};
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout::{self, BackupName, ImageId};
use crate::services::backup::Backups;
use crate::services::gps::GpsPositions;
use crate::services::images::bytes::ImageBytes;
use crate::services::images::records::ImageRecords;
use store::Optional;
use store::digest::Digest;
use store::sync::{Mutex, lock};

/// Images read ahead.
const PREFETCH: usize = 4;
/// Which state to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The present one.
    Now,
    /// That of a backup.
    Backup(BackupName),
}

/// Exports images and their records as plain files.
#[derive(Debug)]
pub struct Exports {
    pub(super) core: Arc<Core>,
    pub(super) records: Arc<ImageRecords>,
    pub(super) backups: Arc<Backups>,
    pub(super) gps: Arc<GpsPositions>,
    pub(super) bytes: Arc<ImageBytes>,
    /// Digests of images that a download found without an intact copy.
    pub(super) damaged_in_both: Mutex<BTreeSet<Digest>>,
}

impl Exports {
    /// Exports from the stores of `core`.
    pub fn new(
        core: Arc<Core>,
        records: Arc<ImageRecords>,
        backups: Arc<Backups>,
        gps: Arc<GpsPositions>,
        bytes: Arc<ImageBytes>,
    ) -> Self {
        Self { core, records, backups, gps, bytes, damaged_in_both: Mutex::default() }
    }
}

/// The state to export.
pub(super) struct Contents<'a> {
    pub(super) exports: &'a Exports,
    entries: Entries,
    pub(super) moment: Timestamp,
    pub(super) records: u64,
    /// Images that are left out of a zip with an announced length; every other one must be found.
    pub(super) left_out: Option<BTreeSet<ImageId>>,
}

/// Where the entries are.
enum Entries {
    Now(View),
    Backup(BackupName, View),
}

impl<'a> Contents<'a> {
    /// Empty contents, only for [`find`](Self::find) on live images.
    pub(super) fn of_single_images(exports: &'a Exports) -> Self {
        let (entries, moment) = (Entries::Now(View::of([])), exports.core.clock.now());
        Self { exports, entries, moment, records: 0, left_out: None }
    }

    /// The same for a zip with an announced length that does not contain these images.
    pub(super) fn leaving_out(self, left_out: BTreeSet<ImageId>) -> Self {
        Self { left_out: Some(left_out), ..self }
    }

    pub(super) async fn open(exports: &'a Exports, what: What) -> Result<Self> {
        match what {
            What::Backup(name) => {
                let manifest = exports.backups.manifest(name).await?;
                let view = exports.backups.view(&manifest).await?;
                let (moment, records) = (manifest.created, manifest.images);
                Ok(Self { exports, entries: Entries::Backup(name, view), moment, records, left_out: None })
            }
            What::Now => {
                exports.core.catalog.refresh().await?;
                exports.records.complete().await?;
                let view = exports.core.catalog.view();
                let (moment, records) = (exports.core.clock.now(), view.totals().live);
                Ok(Self { exports, entries: Entries::Now(view), moment, records, left_out: None })
            }
        }
    }

    /// Every image with its bytes, or with `None` if it has no intact copy. Links have no bytes and are skipped.
    pub(super) fn images(&self) -> impl Stream<Item = Result<(ImageId, Option<VerifiedImage>)>> {
        let found = self.each().map_ok(|(id, entry)| self.find(id, entry)).try_buffered(PREFETCH);
        found.try_filter_map(async |found| Ok(found))
    }

    /// Every live entry in the order of a zip.
    pub(super) fn each(&self) -> impl Stream<Item = Result<(ImageId, Arc<Entry>)>> {
        match &self.entries {
            Entries::Now(view) => view.live().map_err(Error::from).left_stream(),
            Entries::Backup(name, view) => {
                let failure = async |error: CatalogError| match error.is_damage() {
                    true => Err(self.check_backup_exists().await.err().unwrap_or(Error::DamagedBackup(*name))),
                    false => Err(error.into()),
                };
                view.live().or_else(failure).right_stream()
            }
        }
    }

    pub(super) async fn find(
        &self,
        id: ImageId,
        entry: Arc<Entry>,
    ) -> Result<Option<(ImageId, Option<VerifiedImage>)>> {
        let Some(record) = entry.live() else { return Ok(None) };
        if self.left_out.as_ref().is_some_and(|left_out| left_out.contains(&id)) {
            return Ok(Some((id, None)));
        }
        let found = match record.sha256 {
            Some(digest) => VerifiedImage::find(&self.exports.bytes, &id, digest).await?,
            None if record.is_link() => return Ok(None),
            // Its file did not exist when the records were completed.
            None => None,
        };
        if found.is_none() {
            self.check_backup_exists().await?;
            if self.left_out.is_some() {
                // The length has been announced. The next zip leaves the image out.
                lock(&self.exports.damaged_in_both).extend(record.sha256);
                tracing::error!(image = %id, "a download needs an image without an intact copy");
                return Err(Error::MissingBytes);
            }
        }
        Ok(Some((id, found)))
    }

    /// The length of what [`find`](Self::find) would find; `None` inside if it would find nothing. Bytes of the right
    /// length are not read, whether in the primary, where `file` yields the length of the image's file, or in the
    /// archive. Those that a download found damaged before are read.
    pub(super) async fn look(
        &self,
        id: ImageId,
        entry: Arc<Entry>,
        file: impl Future<Output = Option<u64>>,
    ) -> Result<Option<(ImageId, Option<u64>)>> {
        let known = entry.live().and_then(|record| record.sha256.zip(record.size));
        let known = known.filter(|(digest, _)| !lock(&self.exports.damaged_in_both).contains(digest));
        if let Some((digest, size)) = known
            && (file.await == Some(size) || self.exports.core.archive.has(&digest, Some(size)).await.unwrap_or(false))
        {
            return Ok(Some((id, Some(size))));
        }
        let found = self.find(id, entry).await?;
        Ok(found.map(|(id, found)| (id, found.map(|image| image.size))))
    }

    /// A prune and the delete of a backup remove its manifest before anything that it references. So if something is
    /// missing and the manifest still exists, neither of them caused it.
    async fn check_backup_exists(&self) -> Result<()> {
        let Entries::Backup(name, _) = self.entries else { return Ok(()) };
        let manifest = self.exports.core.archive.store().head(&layout::manifest(name)).await.optional()?;
        manifest.map(drop).ok_or_else(|| Error::NoSuchBackup(name.to_string()))
    }
}
