//! [`Contents`]: the state that is taken out, chunk by chunk.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use store::Optional;
use store::digest::Digest;
use store::sync::{Mutex, lock};

use super::sound::Sound;
use crate::catalog::{Chunk, Entry};
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout::{self, BackupName, ImageId};
use crate::services::backup::Backups;
use crate::services::gps::GpsPositions;
use crate::services::images::bytes::ImageBytes;
use crate::services::images::records::{ImageRecords, Listed};

/// Images read ahead.
const AHEAD: usize = 4;
/// Which state is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// That of now.
    Now,
    /// That of a backup.
    Backup(BackupName),
}

/// Writes images and their records out as plain files.
#[derive(Debug)]
pub struct Exports {
    pub(super) core: Arc<Core>,
    pub(super) records: Arc<ImageRecords>,
    pub(super) backups: Arc<Backups>,
    pub(super) gps: Arc<GpsPositions>,
    pub(super) bytes: Arc<ImageBytes>,
    /// Digests of images whose bytes a download found wrong in both places.
    pub(super) unsound: Mutex<BTreeSet<Digest>>,
}

impl Exports {
    /// Writes images and their records out as plain files, in the store that `core` has.
    pub fn new(
        core: Arc<Core>,
        records: Arc<ImageRecords>,
        backups: Arc<Backups>,
        gps: Arc<GpsPositions>,
        bytes: Arc<ImageBytes>,
    ) -> Self {
        Self { core, records, backups, gps, bytes, unsound: Mutex::default() }
    }
}

/// The state that is taken out: its chunks, one of which is in memory at a time.
pub(super) struct Contents<'a> {
    pub(super) exports: &'a Exports,
    pub(super) backup: Option<BackupName>,
    pub(super) moment: Timestamp,
    pub(super) chunks: Vec<Part>,
    pub(super) records: u64,
    /// Images that are left out of a zip whose length is announced; every other one must be found.
    pub(super) left_out: Option<BTreeSet<ImageId>>,
}

pub(super) enum Part {
    Archived(Digest),
    Held(Arc<Chunk>),
}

impl<'a> Contents<'a> {
    /// Nothing but a way to [`find`](Self::find) images that live now.
    pub(super) fn of_single_images(exports: &'a Exports) -> Self {
        Self { exports, backup: None, moment: exports.core.clock.now(), chunks: Vec::new(), records: 0, left_out: None }
    }

    /// The same for a zip whose length is announced, in which these images are not.
    pub(super) fn leaving_out(self, left_out: BTreeSet<ImageId>) -> Self {
        Self { left_out: Some(left_out), ..self }
    }

    pub(super) async fn open(exports: &'a Exports, what: What) -> Result<Self> {
        match what {
            What::Backup(name) => {
                let manifest = exports.backups.manifest(name).await?;
                let chunks = manifest.chunks.iter().map(|chunk| Part::Archived(chunk.sha256)).collect();
                let (moment, records) = (manifest.created, manifest.images);
                Ok(Self { exports, backup: Some(name), moment, chunks, records, left_out: None })
            }
            What::Now => {
                exports.core.catalog.refresh().await?;
                exports.records.complete().await?;
                let snapshot = exports.core.catalog.read(|state| state.snapshot());
                let chunks = snapshot.chunks().iter().map(|chunk| Part::Held(Arc::clone(chunk))).collect();
                let (moment, records) = (exports.core.clock.now(), snapshot.totals().live);
                Ok(Self { exports, backup: None, moment, chunks, records, left_out: None })
            }
        }
    }

    /// The live entries of one chunk, by name.
    pub(super) async fn entries(&self, part: &Part) -> Result<Vec<(ImageId, Arc<Entry>)>> {
        match (part, self.backup) {
            (Part::Held(chunk), _) => Ok(chunk.live().map(|(id, entry)| (id.clone(), Arc::clone(entry))).collect()),
            (Part::Archived(digest), Some(name)) => match self.exports.backups.read_chunk(digest).await? {
                Some(entries) => Ok(entries),
                None => {
                    self.check_stands().await?;
                    Err(Error::DamagedBackup(name))
                }
            },
            (Part::Archived(_), None) => Ok(Vec::new()),
        }
    }

    /// Every image with its bytes, or with `None` where these are in neither place. Links have none and are passed over.
    pub(super) fn images(&self) -> impl Stream<Item = Result<(ImageId, Option<Sound>)>> {
        let found = self.each().map_ok(|(id, entry)| self.find(id, entry)).try_buffered(AHEAD);
        found.try_filter_map(async |found| Ok(found))
    }

    /// Every live entry in the order of a zip.
    pub(super) fn each(&self) -> impl Stream<Item = Result<(ImageId, Arc<Entry>)>> {
        let entries = stream::iter(&self.chunks).then(|part| self.entries(part));
        entries.map_ok(|entries| stream::iter(entries.into_iter().map(Ok::<_, Error>))).try_flatten()
    }

    pub(super) async fn find(&self, id: ImageId, entry: Arc<Entry>) -> Result<Option<(ImageId, Option<Sound>)>> {
        let Some(record) = entry.live() else { return Ok(None) };
        if self.left_out.as_ref().is_some_and(|left_out| left_out.contains(&id)) {
            return Ok(Some((id, None)));
        }
        let found = match record.sha256 {
            Some(digest) => Sound::find(&self.exports.bytes, &id, digest).await?,
            None if record.is_link() => return Ok(None),
            // Its file was nowhere to be found when the records were completed.
            None => None,
        };
        if found.is_none() {
            self.check_stands().await?;
            if self.left_out.is_some() {
                // The length is announced. The next zip leaves it out.
                lock(&self.exports.unsound).extend(record.sha256);
                tracing::error!(image = %id, "a download needs an image whose bytes are right in neither place");
                return Err(Error::MissingBytes);
            }
        }
        Ok(Some((id, found)))
    }

    /// The length of what [`find`](Self::find) would find; `None` inside where that is nothing. Bytes of the right length are
    /// not read, whether they are listed in `uploads`, or without such a list in the primary, or in the archive: but those
    /// that a download found wrong before are.
    pub(super) async fn look(
        &self,
        id: ImageId,
        entry: Arc<Entry>,
        uploads: Option<&HashMap<ImageId, Listed>>,
    ) -> Result<Option<(ImageId, Option<u64>)>> {
        let known = entry.live().and_then(|record| record.sha256.zip(record.size));
        if let Some((digest, size)) = known.filter(|(digest, _)| !lock(&self.exports.unsound).contains(digest)) {
            let lying = match uploads {
                Some(uploads) => uploads.get(&id).map(|file| file.size),
                None => self.exports.core.primary.head(&layout::image(&id)).await.ok().map(|meta| meta.size),
            };
            if lying == Some(size) || self.exports.core.archive.has(&digest, Some(size)).await.is_ok_and(|has| has) {
                return Ok(Some((id, Some(size))));
            }
        }
        let found = self.find(id, entry).await?;
        Ok(found.map(|(id, found)| (id, found.map(|sound| sound.size))))
    }

    /// A prune and the delete of a backup take its manifest away before anything that it names. So where something is
    /// missing and the manifest still stands, neither of them was it.
    async fn check_stands(&self) -> Result<()> {
        let Some(name) = self.backup else { return Ok(()) };
        let stands = self.exports.core.archive.store().head(&layout::manifest(name)).await.optional()?;
        stands.map(drop).ok_or_else(|| Error::NoSuchBackup(name.to_string()))
    }
}
