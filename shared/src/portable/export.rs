//! Taking out: the present state or a backup, as a zip or as a folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use tokio::io::AsyncWrite;

use super::zip_writer::ZipWriter;
use super::{Meter, OnProgress, Stage};
use crate::catalog::{Chunk, Entry, Record};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::keepsake::Keepsake;
use crate::layout::{self, BackupName, ImageId};
use crate::media::location::Patches;
use crate::places::places_in;
use crate::store::{Body, DiskStore, ErrorKind, Key, ObjectMeta, Optional, PutMode, Spool, Store, StoreError};

/// Images up to this many bytes are read once and sent from memory; longer ones are read twice.
const IN_MEMORY: u64 = 4 * 1024 * 1024;
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
    keepsake: &'a Keepsake,
    backup: Option<BackupName>,
    moment: Timestamp,
    chunks: Vec<Part>,
    records: u64,
}

enum Part {
    Archived(Digest),
    Held(Arc<Chunk>),
}

/// An image's bytes, found right.
#[derive(Clone)]
pub(super) struct Sound {
    digest: Digest,
    /// What is written in the place of other bytes.
    patches: Patches,
    pub(super) crc: u32,
    pub(super) size: u64,
    bytes: Held,
}

#[derive(Clone)]
enum Held {
    InMemory(Bytes),
    At(Store, ObjectMeta),
}

impl Keepsake {
    /// Writes a zip of what `what` names. Memory does not grow with the images, and by some hundred bytes for each of them.
    ///
    /// Every image is read through and compared with its digest before it is written, from the archive where the primary's
    /// copy is not right. Of an error all that follows is missing, the directory included, so that what was written is no
    /// zip: so it is where the backup is deleted meanwhile, and something that it names with it.
    pub async fn export_zip(&self, what: What, out: impl AsyncWrite + Unpin, told: OnProgress<'_>) -> Result<Exported> {
        let contents = Contents::open(self, what).await?;
        let mut zip = ZipWriter::new(out, contents.moment);
        let mut exported = Exported { records: contents.records, ..Exported::default() };
        let meter = Meter::new(told, Stage::Exporting, contents.records);
        let mut images = pin!(contents.images());
        while let Some((id, found)) = images.try_next().await? {
            exported.count(&id, found.as_ref(), &meter);
            let Some(sound) = found else { continue };
            let key = layout::image(&id);
            zip.begin(key.as_str(), sound.size, sound.crc).await.map_err(unwritten)?;
            let mut bytes = sound.stream(&id).await?;
            while let Some(chunk) = bytes.try_next().await? {
                zip.write(&chunk).await.map_err(unwritten)?;
            }
        }
        let mut listed = Vec::new();
        for text in contents.texts(&exported.missing) {
            let (size, crc, digest) = text.measure(&listed).await?;
            zip.begin(text.name.as_str(), size, crc).await.map_err(unwritten)?;
            {
                let mut pieces = pin!(text.pieces(&listed));
                while let Some(piece) = pieces.try_next().await? {
                    zip.write(&piece).await.map_err(unwritten)?;
                }
            }
            listed.push((text.name.clone(), digest));
        }
        zip.finish().await.map_err(unwritten)?;
        Ok(exported)
    }

    /// Writes what `what` names into a folder, which is made where it is missing. Files that are there with the same bytes
    /// are left alone, so that an export that was cut off can be repeated; others are never replaced ([`Error::Invalid`]).
    /// The metadata come after the images, and the list of digests last.
    pub async fn export_folder(&self, what: What, folder: &Path, told: OnProgress<'_>) -> Result<Exported> {
        let contents = Contents::open(self, what).await?;
        let target = {
            let folder = folder.to_owned();
            let opened = crate::keepsake::blocking(move || DiskStore::open(&folder)).await??;
            Store::new(Arc::new(opened), &std::env::temp_dir())
        };
        let mut exported = Exported { records: contents.records, ..Exported::default() };
        let meter = Meter::new(told, Stage::Exporting, contents.records);
        let mut images = pin!(contents.images());
        while let Some((id, found)) = images.try_next().await? {
            exported.count(&id, found.as_ref(), &meter);
            let Some(sound) = found else { continue };
            put_file(&target, &layout::image(&id), &sound.body(&id, &target).await?).await?;
        }
        let mut listed = Vec::new();
        for text in contents.texts(&exported.missing) {
            let body = spooled(target.spool(), text.pieces(&listed)).await?;
            put_file(&target, &text.name, &body).await?;
            listed.push((text.name.clone(), body.digest()));
        }
        Ok(exported)
    }
}

/// Puts a file that must not be there with other bytes.
async fn put_file(target: &Store, key: &Key, body: &Body) -> Result<()> {
    match target.put(key, body, &PutMode::Create).await {
        Err(e) if e.kind == ErrorKind::AlreadyExists => match target.hash(key).await? {
            (_, digest) if digest == body.digest() => Ok(()),
            _ => Err(Error::Invalid(format!(
                "There is another file {:?} already, and nothing is replaced.",
                key.as_str()
            ))),
        },
        put => Ok(put.map(drop)?),
    }
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
    pub(super) fn of_single_images(keepsake: &'a Keepsake) -> Self {
        Self { keepsake, backup: None, moment: keepsake.clock.now(), chunks: Vec::new(), records: 0 }
    }

    async fn open(keepsake: &'a Keepsake, what: What) -> Result<Self> {
        match what {
            What::Backup(name) => {
                let manifest = keepsake.manifest(name).await?;
                let chunks = manifest.chunks.iter().map(|chunk| Part::Archived(chunk.sha256)).collect();
                let (moment, records) = (manifest.created, manifest.images);
                Ok(Self { keepsake, backup: Some(name), moment, chunks, records })
            }
            What::Now => {
                keepsake.catalog.refresh().await?;
                keepsake.complete_records().await?;
                let snapshot = keepsake.catalog.read(|state| state.snapshot());
                let chunks = snapshot.chunks().iter().map(|chunk| Part::Held(Arc::clone(chunk))).collect();
                let (moment, records) = (keepsake.clock.now(), snapshot.totals().live);
                Ok(Self { keepsake, backup: None, moment, chunks, records })
            }
        }
    }

    /// The live entries of one chunk, by name.
    async fn entries(&self, part: &Part) -> Result<Vec<(ImageId, Arc<Entry>)>> {
        match (part, self.backup) {
            (Part::Held(chunk), _) => Ok(chunk.live().map(|(id, entry)| (id.clone(), Arc::clone(entry))).collect()),
            (Part::Archived(digest), Some(name)) => match self.keepsake.read_chunk(digest).await? {
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
        let entries = stream::iter(&self.chunks).then(|part| self.entries(part));
        let each = entries.map_ok(|entries| stream::iter(entries.into_iter().map(Ok::<_, Error>))).try_flatten();
        let found = each.map_ok(|(id, entry)| self.find(id, entry)).try_buffered(AHEAD);
        found.try_filter_map(async |found| Ok(found))
    }

    pub(super) async fn find(&self, id: ImageId, entry: Arc<Entry>) -> Result<Option<(ImageId, Option<Sound>)>> {
        let Some(record) = entry.live() else { return Ok(None) };
        let found = match record.sha256 {
            Some(digest) => self.sound(&id, digest).await?,
            None if record.is_link() => return Ok(None),
            // Its file was nowhere to be found when the records were completed.
            None => None,
        };
        if found.is_none() {
            self.check_stands().await?;
        }
        Ok(Some((id, found)))
    }

    /// A prune and the delete of a backup take its manifest away before anything that it names. So where something is
    /// missing and the manifest still stands, neither of them was it.
    async fn check_stands(&self) -> Result<()> {
        let Some(name) = self.backup else { return Ok(()) };
        let stands = self.keepsake.archive.store().head(&layout::manifest(name)).await.optional()?;
        stands.map(drop).ok_or_else(|| Error::NoSuchBackup(name.to_string()))
    }

    /// The bytes of an image from where they are right: the primary, else the archive.
    async fn sound(&self, id: &ImageId, digest: Digest) -> Result<Option<Sound>> {
        let (primary, archive) = (&self.keepsake.primary, self.keepsake.archive.store());
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

    /// The texts of an export, in their order.
    fn texts<'b>(&'b self, missing: &'b BTreeSet<ImageId>) -> Vec<Text<'b>> {
        let kinds: &[_] = if missing.is_empty() {
            &[(TextKind::Metadata, layout::checkpoint()), (TextKind::Digests, layout::exported_digests())]
        } else {
            &[
                (TextKind::Missing, layout::exported_missing()),
                (TextKind::Metadata, layout::checkpoint()),
                (TextKind::Digests, layout::exported_digests()),
            ]
        };
        kinds.iter().map(|(kind, name)| Text { contents: self, missing, kind: *kind, name: name.clone() }).collect()
    }
}

/// Reads an object through; keeps its bytes where they are few.
async fn read_through(store: &Store, key: &Key) -> Result<Sound, StoreError> {
    let mut object = store.get(key, None).await?;
    let (mut hasher, mut crc) = (Hasher::default(), crc32fast::Hasher::new());
    let mut kept = (object.meta.size <= IN_MEMORY).then(|| BytesMut::with_capacity(object.meta.size as usize));
    while let Some(chunk) = object.body.next().await.transpose()? {
        hasher.update(&chunk);
        crc.update(&chunk);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&chunk);
        }
    }
    let size = object.meta.size;
    let bytes = match kept {
        Some(kept) => Held::InMemory(kept.freeze()),
        None => Held::At(store.clone(), object.meta),
    };
    Ok(Sound { digest: hasher.finish(), patches: Patches::default(), crc: crc.finalize(), size, bytes })
}

impl Sound {
    /// The bytes, which end with an error where they are not those that were found right.
    pub(super) async fn stream(self, id: &ImageId) -> Result<stream::BoxStream<'static, Result<Bytes>>> {
        let patches = self.patches;
        let (store, meta) = match self.bytes {
            Held::InMemory(bytes) => return Ok(stream::iter([Ok(bytes)]).boxed()),
            Held::At(store, meta) => (store, meta),
        };
        let changed = StoreError::new("read", id, ErrorKind::Corrupt);
        let object = store.get(&meta.key, None).await?;
        let state = Some((object.body, Hasher::default(), self.digest, changed));
        let checked = stream::try_unfold(state, async |state| {
            let Some((mut body, mut hasher, digest, changed)) = state else { return Ok(None) };
            match body.next().await.transpose()? {
                Some(chunk) => {
                    hasher.update(&chunk);
                    Ok(Some((chunk, Some((body, hasher, digest, changed)))))
                }
                None if hasher.finish() == digest => Ok(None),
                None => Err(changed.into()),
            }
        });
        Ok(patches.over(0, checked).boxed())
    }

    /// The same image, which does not say where it was taken.
    pub(super) async fn without_places(self, keepsake: &Keepsake, id: &ImageId, record: &Record) -> Result<Self> {
        if let Held::InMemory(bytes) = self.bytes {
            let bytes = places_in(bytes.clone()).await?.applied(0, bytes);
            return Ok(Self { crc: crc32fast::hash(&bytes), bytes: Held::InMemory(bytes), ..self });
        }
        let patches = keepsake.places(id, record).await?.patches;
        if patches.is_empty() {
            return Ok(self);
        }
        let patched = Self { patches, ..self };
        let (mut crc, mut bytes) = (crc32fast::Hasher::new(), patched.clone().stream(id).await?);
        while let Some(chunk) = bytes.try_next().await? {
            crc.update(&chunk);
        }
        Ok(Self { crc: crc.finalize(), ..patched })
    }

    async fn body(self, id: &ImageId, target: &Store) -> Result<Body> {
        if let Held::InMemory(bytes) = self.bytes {
            return Ok(bytes.into());
        }
        spooled(target.spool(), self.stream(id).await?).await
    }
}

async fn spooled(mut spool: Spool, pieces: impl Stream<Item = Result<impl AsRef<[u8]>>>) -> Result<Body> {
    let mut pieces = pin!(pieces);
    while let Some(piece) = pieces.try_next().await? {
        spool.write(piece.as_ref()).await.map_err(unwritten)?;
    }
    spool.finish().await.map_err(unwritten)
}

/// A text of an export. It is made anew each time it is read, chunk by chunk, so that it is never in memory as a whole.
struct Text<'a> {
    contents: &'a Contents<'a>,
    missing: &'a BTreeSet<ImageId>,
    kind: TextKind,
    name: Key,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TextKind {
    /// The names of the missing images, one a line.
    Missing,
    /// The records, keyed by file name.
    Metadata,
    /// The digests of all other files, as `sha256sum --check` takes them.
    Digests,
}

impl Text<'_> {
    /// The text in pieces; `listed` are the texts before this one.
    fn pieces<'b>(&'b self, listed: &'b [(Key, Digest)]) -> impl Stream<Item = Result<Vec<u8>>> + 'b {
        let mut first = true;
        let chunks = stream::iter(&self.contents.chunks).then(|part| self.contents.entries(part));
        let middle = chunks.map_ok(move |entries| {
            let live = entries.iter().filter_map(|(id, entry)| Some((id, entry.live()?)));
            let mut piece = Vec::new();
            live.for_each(|(id, record)| self.write(id, record, &mut first, &mut piece));
            piece
        });
        let end = match self.kind {
            TextKind::Metadata => b"\n}\n".to_vec(),
            TextKind::Missing => Vec::new(),
            TextKind::Digests => {
                listed.iter().map(|(name, digest)| format!("{digest}  {name}\n")).collect::<String>().into_bytes()
            }
        };
        let start = if self.kind == TextKind::Metadata { b"{".to_vec() } else { Vec::new() };
        stream::iter([Ok(start)]).chain(middle).chain(stream::iter([Ok(end)]))
    }

    fn write(&self, id: &ImageId, record: &Record, first: &mut bool, piece: &mut Vec<u8>) {
        match (self.kind, record.sha256) {
            (TextKind::Metadata, _) => {
                let separator = if std::mem::take(first) { "\n  " } else { ",\n  " };
                piece.extend(separator.as_bytes());
                let json = |text: Result<String, serde_json::Error>| {
                    text.unwrap_or_else(|e| unreachable!("records serialise: {e}"))
                };
                piece.extend(json(serde_json::to_string(id)).as_bytes());
                piece.extend(b": ");
                // Line breaks inside a text are escaped, so that each of these ends a line of the layout.
                piece.extend(json(serde_json::to_string_pretty(record)).replace('\n', "\n  ").as_bytes());
            }
            (TextKind::Missing, _) if self.missing.contains(id) => piece.extend(format!("{id}\n").as_bytes()),
            (TextKind::Digests, Some(digest)) if !self.missing.contains(id) => {
                piece.extend(format!("{digest}  {}\n", layout::image(id)).as_bytes());
            }
            _ => {}
        }
    }

    async fn measure(&self, listed: &[(Key, Digest)]) -> Result<(u64, u32, Digest)> {
        let (mut size, mut crc, mut hasher) = (0, crc32fast::Hasher::new(), Hasher::default());
        let mut pieces = pin!(self.pieces(listed));
        while let Some(piece) = pieces.try_next().await? {
            size += piece.len() as u64;
            crc.update(&piece);
            hasher.update(&piece);
        }
        Ok((size, crc.finalize(), hasher.finish()))
    }
}
