//! [`ImageRecords`]: changes of records that several services share, and access to the files of these records.

use std::sync::Arc;

use futures::stream::TryStreamExt;

use crate::catalog::{Change, Content, Entry, Record, Stamp};
use crate::core::error::{Error, Result};
use crate::core::{Core, blocking};
use crate::layout::{self, ImageId};
use crate::media::{self, Limits, Media};
use store::digest::Digest;
use store::{ErrorKind, StoreError};

/// The effect of a change on one image.
pub(crate) struct Changed {
    pub(crate) id: ImageId,
    pub(crate) before: Arc<Entry>,
    pub(crate) after: Arc<Entry>,
}

/// Changes of records that several services share.
#[derive(Debug)]
pub struct ImageRecords {
    pub(crate) core: Arc<Core>,
}

impl ImageRecords {
    /// Commits new contents of images, each with the state that it was made from; the caller holds the edit permit.
    /// Without changes, nothing is written.
    pub(crate) async fn commit_changes(&self, changes: Vec<(ImageId, Arc<Entry>, Content)>) -> Result<Vec<Changed>> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let change = |(id, before, content): (ImageId, Arc<Entry>, Content)| {
            let change = Change { version: before.stamp.version + 1, content };
            ((id.clone(), change.clone()), (id, before, change))
        };
        let (to_commit, changes): (Vec<_>, Vec<_>) = changes.into_iter().map(change).unzip();
        let committed = self.core.catalog.commit(to_commit).await;
        // Also if the outcome is unknown: the background task resolves it.
        self.core.changed.notify_one();
        let commit = self.core.note_write(committed.map_err(Error::from))?;
        let changed = |(id, before, change): (ImageId, Arc<Entry>, Change)| {
            let after = change.stamped(commit);
            Changed { id, before, after }
        };
        Ok(changes.into_iter().map(changed).collect())
    }

    /// Completes records without a digest (imported ones) from their files, and makes their replicas; returns the
    /// number of completed records. Until then a record is in no backup and must not be deleted.
    pub(crate) async fn complete(&self) -> Result<u64> {
        let view = self.core.catalog.view();
        if view.totals().undigested == 0 {
            return Ok(0);
        }
        let (mut undigested, mut completed) = (view.undigested(), Vec::new());
        while let Some((id, entry)) = undigested.try_next().await? {
            let Some(record) = entry.live().filter(|record| record.sha256.is_none() && !id.is_link()) else { continue };
            match self.describe(&id, record.clone()).await {
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

    /// Commits changes of those records that are still in the state that each was made from; returns their number.
    pub(crate) async fn commit_unless_changed(&self, changes: Vec<(ImageId, Stamp, Change)>) -> Result<u64> {
        let _guard = self.core.editing.lock().await;
        self.core.catalog.refresh().await?;
        let (view, mut unchanged) = (self.core.catalog.view(), Vec::new());
        for (id, stamp, change) in changes {
            if view.get(id.as_str()).await?.is_some_and(|entry| entry.stamp == stamp) {
                unchanged.push((id, change));
            }
        }
        let count = unchanged.len() as u64;
        if count > 0 {
            self.core.catalog.commit(unchanged).await?;
            self.core.changed.notify_one();
        }
        Ok(count)
    }

    /// Completes a record from its file, and makes the replica of the image or of the content that the record
    /// references.
    pub(crate) async fn describe(&self, id: &ImageId, record: Record) -> Result<(Option<Media>, Record)> {
        let body = self.core.primary.fetch(&layout::image(id)).await?;
        // The limits apply to new images. Existing ones are kept, however large.
        let (limits, inspected) = (Limits { max_pixels: u64::MAX, max_frames: u32::MAX }, body.clone());
        let media = blocking(move || media::inspect(&inspected, &limits)).await?.ok();
        let known = record.kind.is_some();
        if media.is_some() || known {
            self.core.archive.put(&body).await?;
        }
        Ok((media, completed(record, body.size(), body.digest(), media.as_ref())))
    }
}

/// The next version of a completed record. An imported record yields to any real state; one that was edited since must
/// be replaced.
pub(crate) fn next_version(entry: &Entry) -> u64 {
    if entry.stamp.version == 0 { 0 } else { entry.stamp.version + 1 }
}

/// Fills the record's missing fields from the image bytes.
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

/// Whether an error means that a file disappeared while it was read.
pub(crate) fn vanished(error: &StoreError) -> bool {
    error.kind == ErrorKind::NotFound
}
