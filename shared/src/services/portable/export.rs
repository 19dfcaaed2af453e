//! Taking out: the present state or a backup, as a zip or as a folder.

use crate::services::backup::Backups;
use crate::services::gps::GpsPositions;
use crate::services::images::records::ImageRecords;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use tokio::io::AsyncWrite;

use super::sound::{Sound, read_through};
use super::text::texts;
use super::zip_writer::ZipWriter;
use super::{Meter, OnProgress, Stage};
use crate::catalog::{Chunk, Entry};
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::digest::Digest;
use crate::layout::{self, BackupName, ImageId};
use crate::services::images::records::Listed;
use crate::store::{Body, DiskStore, ErrorKind, Key, Optional, PutMode, Spool, Store, StoreError};
use crate::sync::{Mutex, lock};

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

/// What was taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records, links to files elsewhere included.
    pub records: u64,
    /// Images whose bytes are in it.
    pub images: u64,
    /// Length of those images in bytes.
    pub bytes: u64,
    /// Images whose record is in it, but whose bytes are in neither place.
    pub missing: BTreeSet<ImageId>,
}

/// The state that is taken out: its chunks, one of which is in memory at a time.
pub(super) struct Contents<'a> {
    exports: &'a Exports,
    backup: Option<BackupName>,
    pub(super) moment: Timestamp,
    pub(super) chunks: Vec<Part>,
    records: u64,
    /// Images that are left out of a zip whose length is announced; every other one must be found.
    left_out: Option<BTreeSet<ImageId>>,
}

pub(super) enum Part {
    Archived(Digest),
    Held(Arc<Chunk>),
}

/// Writes images and their records out as plain files.
#[derive(Debug)]
pub struct Exports {
    pub(super) core: Arc<Core>,
    pub(super) records: Arc<ImageRecords>,
    pub(super) backups: Arc<Backups>,
    pub(super) gps: Arc<GpsPositions>,
    /// Digests of images whose bytes a download found wrong in both places.
    unsound: Mutex<BTreeSet<Digest>>,
}

impl Exports {
    /// Writes images and their records out as plain files, in the store that `core` has.
    pub fn new(core: Arc<Core>, records: Arc<ImageRecords>, backups: Arc<Backups>, gps: Arc<GpsPositions>) -> Self {
        Self { core, records, backups, gps, unsound: Mutex::default() }
    }

    /// Writes a zip of what `what` names. Memory does not grow with the images, and by some hundred bytes for each of them.
    ///
    /// Every image is read through and compared with its digest before it is written, from the archive where the primary's
    /// copy is not right. Of an error all that follows is missing, the directory included, so that what was written is no
    /// zip: so it is where the backup is deleted meanwhile, and something that it names with it.
    pub async fn export_zip(&self, what: What, out: impl AsyncWrite + Unpin, told: OnProgress<'_>) -> Result<Exported> {
        self.write_zip(&Contents::open(self, what).await?, out, told).await
    }

    pub(super) async fn write_zip(
        &self,
        contents: &Contents<'_>,
        out: impl AsyncWrite + Unpin,
        told: OnProgress<'_>,
    ) -> Result<Exported> {
        let mut zip = ZipWriter::new(out, contents.moment);
        let mut exported = Exported { records: contents.records, ..Exported::default() };
        let meter = Meter::new(told, Stage::Exporting, contents.records);
        let mut images = pin!(contents.images());
        while let Some((id, found)) = images.try_next().await? {
            exported.count(&id, found.as_ref(), &meter);
            let Some(sound) = found else { continue };
            let key = layout::image(&id);
            zip.begin(key.as_str(), sound.size, sound.crc).await.map_err(no_zip)?;
            let mut bytes = sound.stream(&id).await?;
            while let Some(chunk) = bytes.try_next().await? {
                zip.write(&chunk).await.map_err(no_zip)?;
            }
        }
        let mut listed = Vec::new();
        for text in texts(contents, &exported.missing) {
            let (size, crc, digest) = text.measure(&listed).await?;
            zip.begin(text.name.as_str(), size, crc).await.map_err(no_zip)?;
            {
                let mut pieces = pin!(text.pieces(&listed));
                while let Some(piece) = pieces.try_next().await? {
                    zip.write(&piece).await.map_err(no_zip)?;
                }
            }
            listed.push((text.name.clone(), digest));
        }
        zip.finish().await.map_err(no_zip)?;
        Ok(exported)
    }

    /// Writes what `what` names into a folder, which is made where it is missing. Files that are there with the same bytes
    /// are left alone, so that an export that was cut off can be repeated; others are never replaced ([`Error::Invalid`]).
    /// The metadata come after the images, and the list of digests last. That the folder cannot be written is
    /// [`Error::Unwritable`]: it is no fault of the store.
    pub async fn export_folder(&self, what: What, folder: &Path, told: OnProgress<'_>) -> Result<Exported> {
        let contents = Contents::open(self, what).await?;
        let target = {
            let path = folder.to_owned();
            let opened = crate::core::blocking(move || DiskStore::open(&path)).await?;
            let opened = opened.map_err(|error| no_file(folder, &error))?;
            Store::new(Arc::new(opened), &std::env::temp_dir())
        };
        let mut exported = Exported { records: contents.records, ..Exported::default() };
        let meter = Meter::new(told, Stage::Exporting, contents.records);
        let mut images = pin!(contents.images());
        while let Some((id, found)) = images.try_next().await? {
            exported.count(&id, found.as_ref(), &meter);
            let Some(sound) = found else { continue };
            put_file(&target, folder, &layout::image(&id), &sound.body(&id, &target).await?).await?;
        }
        let mut listed = Vec::new();
        for text in texts(&contents, &exported.missing) {
            let body = spooled(target.spool(), text.pieces(&listed)).await?;
            put_file(&target, folder, &text.name, &body).await?;
            listed.push((text.name.clone(), body.digest()));
        }
        Ok(exported)
    }
}

/// Puts a file that must not be there with other bytes into the target, which is this folder.
async fn put_file(target: &Store, folder: &Path, key: &Key, body: &Body) -> Result<()> {
    let failed = |error: StoreError| no_file(&folder.join(key.as_str()), &error);
    match target.put(key, body, &PutMode::Create).await {
        Err(e) if e.kind == ErrorKind::AlreadyExists => match target.hash(key).await.map_err(failed)? {
            (_, digest) if digest == body.digest() => Ok(()),
            _ => Err(Error::Invalid(format!(
                "There is another file {:?} already, and nothing is replaced.",
                key.as_str()
            ))),
        },
        put => put.map(drop).map_err(failed),
    }
}

fn no_file(path: &Path, error: &StoreError) -> Error {
    let why = error.source.as_ref().map_or_else(|| error.kind.to_string(), ToString::to_string);
    Error::Unwritable(path.display().to_string(), why)
}

pub(super) fn no_zip(error: std::io::Error) -> Error {
    Error::Unwritable("The zip".to_owned(), error.to_string())
}

pub(super) fn unwritten(error: std::io::Error) -> Error {
    StoreError::io("write", "export", error).into()
}

impl Exported {
    fn count(&mut self, id: &ImageId, found: Option<&Sound>, meter: &Meter<'_>) {
        match found {
            Some(sound) => {
                self.images += 1;
                self.bytes += sound.size;
            }
            None => _ = self.missing.insert(id.clone()),
        }
        meter.add(found.map_or(0, |sound| sound.size));
    }
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
    fn images(&self) -> impl Stream<Item = Result<(ImageId, Option<Sound>)>> {
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
            Some(digest) => self.sound(&id, digest).await?,
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

    /// The bytes of an image from where they are right: the primary, else the archive.
    async fn sound(&self, id: &ImageId, digest: Digest) -> Result<Option<Sound>> {
        let (primary, archive) = (&self.exports.core.primary, self.exports.core.archive.store());
        let mut failure = None;
        for (store, key) in [(primary, layout::image(id)), (archive, layout::archived_image(&digest))] {
            match read_through(store, &key).await.sound() {
                Ok(Some(found)) if found.digest == digest => return Ok(Some(found)),
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), |error| Err(error.into()))
    }
}

pub(super) async fn spooled(mut spool: Spool, pieces: impl Stream<Item = Result<impl AsRef<[u8]>>>) -> Result<Body> {
    let mut pieces = pin!(pieces);
    while let Some(piece) = pieces.try_next().await? {
        spool.write(piece.as_ref()).await.map_err(unwritten)?;
    }
    spool.finish().await.map_err(unwritten)
}
