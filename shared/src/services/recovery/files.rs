//! Files in `uploads/` that no live record explains.

use std::collections::HashMap;
use std::sync::Arc;

use super::{IN_FLIGHT, Listed, Report, vanished};
use crate::base::clock::format_millis;
use crate::catalog::{Change, Content, Entry, Loaded, Record, Stamp, Tombstone};
use crate::core::error::{Error, Result};
use crate::digest::Digest;
use crate::keepsake::{Keepsake, blocking};
use crate::layout::{self, ImageId};
use crate::media::{self, Limits, Media};
use crate::services::upload::{DEFAULT_CATEGORY, DEFAULT_ORDER};
use crate::store::{ErrorKind, ObjectMeta};

impl Keepsake {
    /// Adopts, sets aside or deletes what has no live record; returns the adopted ones' records.
    ///
    /// A name that Keepsake makes is never without a record unless an upload was cut off, so such a file is set aside:
    /// a failed upload must not turn up later. Only where all metadata was lost are they adopted like any other.
    pub(super) async fn settle_files(
        &self,
        uploads: &HashMap<ImageId, Listed>,
        loaded: &Loaded,
        report: &mut Report,
    ) -> Result<Vec<(ImageId, Change)>> {
        let now = self.clock.now();
        let mut unexplained: Vec<(&ImageId, &Listed, Option<Tombstone>)> = self.catalog.read(|state| {
            let entry_of = |id: &ImageId| state.get(id.as_str());
            let live = |id: &ImageId| entry_of(id).is_some_and(|entry| entry.live().is_some());
            let listed = uploads.iter().filter(|(id, _)| !live(id));
            listed.map(|(id, listed)| (id, listed, entry_of(id).and_then(|e| e.tombstone().cloned()))).collect()
        });
        unexplained.sort_by_key(|(id, ..)| *id);
        let tickets = self.open_tickets().await?;
        let mut adopted = Vec::new();
        for (id, listed, tombstone) in unexplained {
            let may_be_in_flight = now.duration_since(listed.modified) < IN_FLIGHT;
            let settled = match tombstone {
                Some(_) if may_be_in_flight => Ok(()),
                Some(tombstone) => match self.still_unexplained(id, listed).await? {
                    Some(file) => self.finish_delete(&file, &tombstone, report).await,
                    None => Ok(()),
                },
                // What a ticket has brought this far, it can still be completed with.
                None if id.uuid().is_some_and(|uuid| tickets.contains(&uuid)) => Ok(()),
                // A commit that cannot be read now may be the one that made it.
                None if id.uuid().is_some() && loaded.some_unreadable => Ok(()),
                None if id.uuid().is_some() && !loaded.no_checkpoint => {
                    if !may_be_in_flight
                        && let Some(file) = self.still_unexplained(id, listed).await?
                        && self.archive.quarantine(&self.primary, &file.key).await?
                    {
                        report.set_aside += u64::from(self.delete_copied(&file).await?);
                    }
                    Ok(())
                }
                None => self.adopt(id, listed).await.map(|record| {
                    report.adopted += u64::from(record.is_some());
                    adopted.extend(record.map(|r| (id.clone(), Change { version: 0, content: Content::Live(r) })));
                }),
            };
            match settled {
                // Gone, or put anew meanwhile: then someone has a use for it.
                Err(Error::Store(error)) if vanished(&error) || error.kind == ErrorKind::Changed => {}
                settled => settled?,
            }
        }
        Ok(adopted)
    }

    /// A file, if it is the one that was listed and still has no live record: what was listed may be long ago, and a
    /// ticket or a repeated upload may have put the same bytes there anew.
    async fn still_unexplained(&self, id: &ImageId, listed: &Listed) -> Result<Option<ObjectMeta>> {
        let now = self.primary.head(&layout::image(id)).await?;
        self.catalog.refresh().await?;
        let live = self.catalog.read(|state| state.lives(id.as_str()));
        let same = (now.size, now.modified) == (listed.size, listed.modified);
        Ok((!live && same).then_some(now))
    }

    /// Completes records that have no digest (imported ones) from their files, and gives these their second copies;
    /// returns how many those were. Until then a record is in no backup and must not be deleted.
    pub(crate) async fn complete_records(&self) -> Result<u64> {
        if self.catalog.read(|state| state.totals().undigested) == 0 {
            return Ok(0);
        }
        let incomplete: Vec<(ImageId, Arc<Entry>)> = self.catalog.read(|state| {
            let lacks_digest = |id: &ImageId, entry: &Entry| {
                !id.is_link() && entry.live().is_some_and(|record| record.sha256.is_none())
            };
            state
                .iter()
                .filter(|(id, entry)| lacks_digest(id, entry))
                .map(|(id, e)| (id.clone(), Arc::clone(e)))
                .collect()
        });
        let mut completed = Vec::new();
        for (id, entry) in incomplete {
            let Some(record) = entry.live().cloned() else { continue };
            match self.describe(&id, record).await {
                Ok((_, record)) => {
                    completed.push((
                        id,
                        entry.stamp,
                        Change { version: next_version(&entry), content: Content::Live(record) },
                    ));
                }
                Err(Error::Store(error)) if vanished(&error) => {}
                Err(error) => return Err(error),
            }
        }
        self.commit_unless_changed(completed).await
    }

    /// Commits changes of records that are still in the state that each was made from; returns how many were.
    pub(crate) async fn commit_unless_changed(&self, mut changes: Vec<(ImageId, Stamp, Change)>) -> Result<u64> {
        let _turn = self.editing.lock().await;
        self.catalog.refresh().await?;
        let unchanged = |id: &ImageId, stamp| self.catalog.read(|s| s.get(id.as_str()).map(|e| e.stamp) == Some(stamp));
        changes.retain(|(id, stamp, _)| unchanged(id, *stamp));
        let count = changes.len() as u64;
        if count > 0 {
            self.catalog.commit(changes.into_iter().map(|(id, _, change)| (id, change)).collect()).await?;
            self.changed.notify_one();
        }
        Ok(count)
    }

    /// Deletes the bytes of a deleted image, if it is these bytes that were deleted.
    async fn finish_delete(&self, file: &ObjectMeta, tombstone: &Tombstone, report: &mut Report) -> Result<()> {
        let body = self.primary.fetch(&file.key).await?;
        if tombstone.sha256 == Some(body.digest()) {
            self.archive.put_named(&body).await?;
            report.deletes_finished += u64::from(self.delete_copied(file).await?);
        }
        Ok(())
    }

    /// Deletes this version of a file, of which the archive has a copy; returns false where the store refuses, as a service
    /// without conditional deletes does.
    async fn delete_copied(&self, file: &ObjectMeta) -> Result<bool> {
        match self.primary.delete_version(file).await {
            Err(error) if error.kind == ErrorKind::Refused => {
                let key = file.key.as_str();
                tracing::warn!(key, error = &error as &dyn std::error::Error, "a file without a record stays");
                Ok(false)
            }
            deleted => Ok(deleted.map(|()| true)?),
        }
    }

    /// The record of a file that has none; `None` where it is not an image, which is left alone.
    async fn adopt(&self, id: &ImageId, listed: &Listed) -> Result<Option<Record>> {
        // A camera or a copy may have set a time in the future, which would keep the image in front of all others.
        let uploaded = format_millis(listed.modified.min(self.clock.now()));
        let record = Record {
            category: Some(DEFAULT_CATEGORY.to_owned()),
            description: Some(String::new()),
            upload_date: Some(uploaded),
            order: Some(DEFAULT_ORDER),
            original_name: Some(id.to_string()),
            ..Record::default()
        };
        let (media, record) = self.describe(id, record).await?;
        Ok(media.map(|_| record))
    }

    /// Completes a record from its file, and gives an image or what a record already names its second copy.
    pub(super) async fn describe(&self, id: &ImageId, record: Record) -> Result<(Option<Media>, Record)> {
        let body = self.primary.fetch(&layout::image(id)).await?;
        // The limits are for what comes in. What is here is kept, however large it is.
        let (limits, inspected) = (Limits { max_pixels: u64::MAX, max_frames: u32::MAX }, body.clone());
        let media = blocking(move || media::inspect(&inspected, &limits)).await?.ok();
        let known = record.kind.is_some();
        if media.is_some() || known {
            self.archive.put(&body).await?;
        }
        Ok((media, completed(record, body.size(), body.digest(), media.as_ref())))
    }
}

/// The version of a record that was completed. What was imported yields to any real state; what was edited since must be
/// replaced.
pub(crate) fn next_version(entry: &Entry) -> u64 {
    if entry.stamp.version == 0 { 0 } else { entry.stamp.version + 1 }
}

/// Adds what the bytes say where the record says nothing.
pub(crate) fn completed(record: Record, size: u64, digest: Digest, media: Option<&Media>) -> Record {
    let record = match media {
        Some(media) if record.lacks_orientation_only(media) => record.measured(media),
        _ => record,
    };
    Record {
        kind: record.kind.or_else(|| media.map(|_| "image".to_owned())),
        content_type: record.content_type.or_else(|| media.map(|m| m.format.content_type().to_owned())),
        size: Some(size),
        sha256: Some(digest),
        ..record
    }
}
