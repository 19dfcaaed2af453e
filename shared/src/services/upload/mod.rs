//! Stores new images: all of a request or none of it.

pub mod links;

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::catalog::{CatalogError, Change, CommitError, Content, Entry, Record, View};
use crate::core::error::{Error, Result};
use crate::core::{Core, blocking};
use crate::layout::{self, BackupName, ImageId};
use crate::media::{self, Media};
use crate::services::backup::Backups;
use crate::services::images::fields::{DEFAULT_ORDER, Fields, check_name};
use crate::services::replication::Replicator;
use crate::services::room::Room;
use store::digest::{Digest, Hasher};
use store::sync::{Mutex, lock};
use store::{Body, ErrorKind, PutMode};

/// After this long, an upload checks before its commit that its bytes still exist. Recovery leaves them alone for a
/// day.
const RECHECK_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// Images of one request that are written concurrently.
const PUTS: usize = 4;

/// An image that has arrived in full.
#[derive(Debug)]
pub struct NewImage {
    /// Its bytes.
    pub body: Body,
    /// The client's file name.
    pub original_name: Option<String>,
}

/// Stored images.
#[derive(Debug)]
pub struct Uploaded {
    /// Their names and records, in the order in which they were sent.
    pub images: Vec<(ImageId, Arc<Entry>)>,
    /// How many copies of each existed when the upload was acknowledged.
    pub copies: u8,
    /// The automatic backup that this upload triggered.
    pub backup: Option<BackupName>,
}

struct Prepared {
    id: ImageId,
    body: Body,
    record: Record,
}

impl NewImage {
    /// How an error refers to it: by its original name, or by its position among several.
    fn label(&self, index: usize, several: bool) -> Option<String> {
        let position = || several.then(|| format!("image {}", index + 1));
        self.original_name.clone().or_else(position)
    }
}

/// Uploads in a single request.
#[derive(Debug)]
pub struct Uploads {
    core: Arc<Core>,
    room: Arc<Room>,
    replication: Arc<Replicator>,
    backups: Arc<Backups>,
    /// Digests of the idempotency keys of uploads in progress.
    uploading: Mutex<HashSet<Digest>>,
}

impl Uploads {
    /// Uploads for the stores of `core`.
    pub fn new(core: Arc<Core>, room: Arc<Room>, replication: Arc<Replicator>, backups: Arc<Backups>) -> Self {
        Self { core, room, replication, backups, uploading: Mutex::default() }
    }

    /// Stores images and their records in one commit. Repeating this with the same `idempotency_key`, images and fields
    /// changes nothing and returns the result of the first call.
    pub async fn upload(
        &self,
        images: Vec<NewImage>,
        fields: Fields,
        idempotency_key: Option<&str>,
    ) -> Result<Uploaded> {
        fields.check()?;
        if images.is_empty() {
            return Err(Error::NoFile);
        }
        let several = images.len() > 1;
        for (index, image) in images.iter().enumerate() {
            let not_empty = if image.body.size() == 0 { Err(Error::EmptyFile) } else { Ok(()) };
            let checked = not_empty.and_then(|()| check_name(image.original_name.as_deref()));
            checked.map_err(|error| error.of_file(image.label(index, several).as_deref(), several))?;
        }
        self.replication.check_lag()?;
        let bytes = images.iter().map(|image| image.body.size()).sum();
        self.core.note_write(self.room.check(bytes).await)?;
        let key = idempotency_key.map(IdempotencyKey::new);
        let _guard = key.map(|key| InProgress::enter(&self.uploading, key.digest)).transpose()?;
        let prepared = self.prepare(images, &fields, key).await?;
        if let Some(key) = key
            && let Some(earlier) = self.earlier_answer(key, &prepared).await?
        {
            return Ok(earlier);
        }
        let images = self.core.note_write(self.store(prepared, &fields).await)?;
        Ok(self.acknowledge(images).await)
    }

    /// Completes an upload after its images are stored. With `archive_sync`, makes the automatic backup if it is due;
    /// otherwise backups are made together with the replicas.
    pub(crate) async fn acknowledge(&self, images: Vec<(ImageId, Arc<Entry>)>) -> Uploaded {
        let mut backup = None;
        if self.core.settings.archive_sync {
            match self.backups.make_due().await {
                Ok(made) => backup = made,
                Err(error) => {
                    // The upload is committed. The claim stays, and the next upload makes the backup.
                    tracing::error!(error = &error as &dyn std::error::Error, "an automatic backup failed");
                }
            }
        }
        self.core.changed.notify_one();
        Uploaded { images, copies: self.copies(), backup }
    }

    pub(crate) fn copies(&self) -> u8 {
        if self.core.settings.archive_sync { 2 } else { 1 }
    }

    /// Inspects the images' bytes and makes their records, except for their order in a group.
    async fn prepare(
        &self,
        images: Vec<NewImage>,
        fields: &Fields,
        key: Option<IdempotencyKey>,
    ) -> Result<Vec<Prepared>> {
        let limits = self.core.settings.media;
        let inspect = move || {
            let several = images.len() > 1;
            let inspect = |(index, image): (usize, NewImage)| match media::inspect(&image.body, &limits) {
                Ok(media) => Ok((media, image)),
                Err(error) => Err(Error::from(error).of_file(image.label(index, several).as_deref(), several)),
            };
            images.into_iter().enumerate().map(inspect).collect::<Result<Vec<(Media, NewImage)>>>()
        };
        let inspected = blocking(inspect).await??;
        let request = key.map(|_| request_digest(&inspected, fields));
        let uploaded = self.core.clock.now();
        let prepare = |(index, (media, image)): (usize, (Media, NewImage))| {
            let uuid = key.map_or_else(|| self.core.clock.new_id(), |key| key.id(index));
            let record = Record::of_bytes(image.body.size(), image.body.digest(), &media);
            let record = Record { request_digest: request, ..record.described(fields, image.original_name, uploaded) };
            let body = image.body.of_type(media.format.content_type());
            Prepared { id: ImageId::generate(uuid, media.format.extension()), body, record }
        };
        Ok(inspected.into_iter().enumerate().map(prepare).collect())
    }

    /// The images that an earlier upload with this key stored and that still exist, if there was one.
    /// [`Error::DeletedSince`] if none of them exists.
    async fn earlier_answer(&self, key: IdempotencyKey, prepared: &[Prepared]) -> Result<Option<Uploaded>> {
        self.core.catalog.refresh().await?;
        let stored = self.all_stored_under(key).await?;
        if stored.is_empty() {
            return Ok(None);
        }
        let same = |((_, entry), wanted): (&(ImageId, Arc<Entry>), &Prepared)| match entry.live() {
            Some(record) => record.request_digest == wanted.record.request_digest,
            // Of a deleted image only the digest of its bytes remains.
            None => entry.content_digest().is_none_or(|digest| digest == wanted.body.digest()),
        };
        if stored.len() != prepared.len() || !stored.iter().zip(prepared).all(same) {
            return Err(Error::IdempotencyMismatch);
        }
        let images: Vec<_> = stored.into_iter().filter(|(_, entry)| entry.live().is_some()).collect();
        if images.is_empty() {
            return Err(Error::DeletedSince);
        }
        Ok(Some(Uploaded { images, copies: self.copies(), backup: None }))
    }

    /// The images that an upload with this key stored, deleted ones included, as far as is cached.
    async fn all_stored_under(&self, key: IdempotencyKey) -> Result<Vec<(ImageId, Arc<Entry>)>> {
        let (view, mut stored) = (self.core.catalog.view(), Vec::new());
        while let Some(image) = image_of_uuid(&view, key.id(stored.len())).await? {
            stored.push(image);
        }
        Ok(stored)
    }

    /// The images that an upload with this key stored and that still exist.
    pub async fn stored_under(&self, idempotency_key: &str) -> Result<Uploaded> {
        self.core.catalog.refresh().await?;
        let mut images = self.all_stored_under(IdempotencyKey::new(idempotency_key)).await?;
        images.retain(|(_, entry)| entry.live().is_some());
        Ok(Uploaded { images, copies: self.copies(), backup: None })
    }

    /// Writes the bytes, then the commit. A failure is rolled back.
    async fn store(&self, prepared: Vec<Prepared>, fields: &Fields) -> Result<Vec<(ImageId, Arc<Entry>)>> {
        let (begun, retried) = (self.core.clock.now(), prepared.iter().any(|p| p.record.request_digest.is_some()));
        // Every put runs to its end, even after one has failed: a file that is still being written cannot be removed.
        let put = async |p: &Prepared| {
            let replicate_image =
                async { if self.core.settings.archive_sync { self.core.archive.put(&p.body).await } else { Ok(()) } };
            let (put, archived) = futures::join!(self.put_new(p), replicate_image);
            let mine = matches!(put, Ok(true)).then(|| p.id.clone());
            (mine, put.and(archived.map_err(Error::from)))
        };
        let puts: Vec<_> = stream::iter(&prepared).map(put).buffer_unordered(PUTS).collect().await;
        let (mine, outcomes): (Vec<Option<ImageId>>, Vec<Result<()>>) = puts.into_iter().unzip();
        let mine: Vec<ImageId> = mine.into_iter().flatten().collect();
        if let Err(error) = outcomes.into_iter().collect::<Result<()>>() {
            self.delete_unrecorded(&mine, retried).await;
            return Err(error);
        }
        let records = prepared.into_iter().map(|p| (p.id, p.record)).collect();
        match self.commit_new(records, fields, begun).await {
            Err(Error::Commit(CommitError::NotStored(error))) => {
                self.delete_unrecorded(&mine, retried).await;
                Err(CommitError::NotStored(error).into())
            }
            committed => committed,
        }
    }

    /// Gives new images their order in the group and commits their records. Their bytes must have been put into the
    /// primary since `begun`.
    pub(crate) async fn commit_new(
        &self,
        mut records: Vec<(ImageId, Record)>,
        fields: &Fields,
        begun: Timestamp,
    ) -> Result<Vec<(ImageId, Arc<Entry>)>> {
        // The next order number in a group stays reserved until the commit exists.
        let in_sequence = fields.group_id.is_some() && fields.order.is_none();
        let _guard = if in_sequence { Some(self.core.editing.lock().await) } else { None };
        if in_sequence {
            self.core.catalog.refresh().await?;
        }
        let view = self.core.catalog.view();
        let (next, title) = match &fields.group_id {
            Some(group) => (view.next_order(group).await?, view.group_title(group).await?),
            None => (None, None),
        };
        let mut order = fields.order.or(next);
        for (_, record) in &mut records {
            record.order = Some(order.unwrap_or(DEFAULT_ORDER));
            order = order.map(|order| order.saturating_add(1));
            record.group_title.clone_from(&title);
        }
        let sizes: Vec<u64> = records.iter().filter_map(|(_, record)| record.size).collect();
        let version = view.first_version();
        let change = |(id, record): (ImageId, Record)| (id, Change { version, content: Content::Live(record) });
        let changes: Vec<(ImageId, Change)> = records.into_iter().map(change).collect();
        let committed = self.core.catalog.commit(changes.clone()).await;
        // If the outcome is unknown, the background task resolves it.
        let commit = committed.inspect_err(|_| self.core.changed.notify_one())?;
        sizes.into_iter().for_each(|size| self.core.counts.add_upload(size));
        if self.core.clock.now().duration_since(begun) > RECHECK_AFTER {
            // A recovery may have treated the bytes as those of an interrupted upload.
            for (id, _) in changes.iter().filter(|(id, _)| !id.is_link()) {
                self.core.primary.head(&layout::image(id)).await?;
            }
        }
        Ok(changes.into_iter().map(|(id, change)| (id, change.stamped(commit))).collect())
    }

    /// Writes an image's bytes; returns whether this call wrote them. Only with an idempotency key may they exist
    /// already, from an earlier attempt that was interrupted or from one in another process. Different bytes are never
    /// replaced.
    async fn put_new(&self, prepared: &Prepared) -> Result<bool> {
        let key = layout::image(&prepared.id);
        match self.core.primary.put(&key, &prepared.body, &PutMode::Create).await {
            Ok(_) => Ok(true),
            Err(e) if e.kind == ErrorKind::AlreadyExists && prepared.record.request_digest.is_some() => {
                if self.core.primary.digest(&key).await?.1 != prepared.body.digest() {
                    return Err(Error::IdempotencyMismatch);
                }
                // Rewritten, so that for a recovery they are as recent as this attempt.
                self.core.primary.put(&key, &prepared.body, &PutMode::Overwrite).await?;
                Ok(false)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Deletes the bytes of images that have no record. Replicas stay: another image may have the same content. If the
    /// upload may be `retried`, everything stays: another attempt may be storing the same image.
    async fn delete_unrecorded(&self, ids: &[ImageId], retried: bool) {
        for id in ids.iter().filter(|_| !retried) {
            if let Err(error) = self.core.primary.delete(&layout::image(id)).await {
                // Recovery sets aside files in `uploads/` without a record.
                tracing::warn!(image = %id, error = &error as &dyn std::error::Error, "a failed upload's bytes could not be deleted; a start quarantines them after a day");
            }
        }
    }
}

/// The image whose name contains this UUID, whatever its format.
pub(crate) async fn image_of_uuid(view: &View, uuid: Uuid) -> Result<Option<(ImageId, Arc<Entry>)>, CatalogError> {
    for format in media::Format::ALL {
        let id = ImageId::generate(uuid, format.extension());
        if let Some(entry) = view.get(id.as_str()).await? {
            return Ok(Some((id, entry)));
        }
    }
    Ok(None)
}

/// An idempotency key.
#[derive(Debug, Clone, Copy)]
struct IdempotencyKey {
    digest: Digest,
    /// The time in it, as the first six bytes of a UUID of version 7 have it.
    time: Option<[u8; 6]>,
}

impl IdempotencyKey {
    fn new(key: &str) -> Self {
        let uuid = Uuid::try_parse(key).ok().filter(|uuid| uuid.get_version_num() == 7);
        let time = uuid.and_then(|uuid| uuid.as_bytes().first_chunk().copied());
        Self { digest: Digest::of(key.as_bytes()), time }
    }

    /// The id of the image at `index` of an upload with this key: the same each time. If the key contains a time, so
    /// does the id. Then new images are neighbours in the catalog, as those without a key are, and a backup stores few
    /// chunks.
    fn id(self, index: usize) -> Uuid {
        let mut hasher = Hasher::default();
        hasher.update(self.digest.as_bytes());
        hasher.update(&(index as u64).to_be_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finish().as_bytes()[..16]);
        if let Some(time) = self.time {
            bytes[..time.len()].copy_from_slice(&time);
        }
        Uuid::new_v8(bytes)
    }
}

/// The digest of a request: these images with these fields.
fn request_digest(images: &[(Media, NewImage)], fields: &Fields) -> Digest {
    let files: Vec<_> = images.iter().map(|(_, i)| (i.body.digest(), i.original_name.as_deref())).collect();
    let said = (&fields.category, &fields.description, &fields.group_id, fields.order);
    let json = serde_json::to_vec(&(files, said)).unwrap_or_else(|e| unreachable!("plain data serialises: {e}"));
    Digest::of(&json)
}

/// Marks an idempotency key or a ticket as in progress, until dropped.
#[derive(Debug)]
pub struct InProgress<'a>(&'a Mutex<HashSet<Digest>>, Digest);

impl<'a> InProgress<'a> {
    pub(crate) fn enter(marked: &'a Mutex<HashSet<Digest>>, key: Digest) -> Result<Self> {
        if lock(marked).insert(key) { Ok(Self(marked, key)) } else { Err(Error::IdempotencyInProgress) }
    }
}

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(&self.1);
    }
}
