//! Corrects the image dimensions in records of older versions.
//!
//! These records have the size of the stored pixels and no orientation. A verification that repairs measures each such
//! image again, by its header, and commits the result.

use futures::stream::TryStreamExt;

use super::{Slice, Verifier};
use crate::catalog::{Change, Content, Record, Stamp};
use crate::core::blocking;
use crate::core::error::{Error, Result};
use crate::layout::ImageId;
use crate::media::{self, MediaError};
use crate::services::images::records::next_version;
use store::Ranged;

/// Records changed by one commit.
const BATCH: usize = 500;

impl Verifier {
    /// Measures the images of this slice whose records have no orientation, and corrects these records. An image that
    /// cannot be measured keeps its record. Safe to interrupt and to run in several processes at once: all compute the
    /// same result.
    pub(super) async fn measure_older_records(&self, slice: Slice) -> Result<()> {
        let is_older = |record: &Record| {
            let is_mine = record.sha256.is_some_and(|digest| slice.takes(&digest));
            is_mine && record.orientation.is_none() && !record.is_link()
        };
        let live = self.core.catalog.view().live();
        let older = live.try_filter(|(_, entry)| std::future::ready(entry.live().is_some_and(is_older)));
        let mut batches = older.try_chunks(BATCH);
        while let Some(batch) = batches.try_next().await.map_err(|failed| failed.1)? {
            let mut measured: Vec<(ImageId, Stamp, Change)> = Vec::new();
            for (id, entry) in batch {
                let Some(record) = entry.live() else { continue };
                if let Some(record) = self.measured_anew(&id, record).await? {
                    let change = Change { version: next_version(&entry), content: Content::Live(record) };
                    measured.push((id, entry.stamp, change));
                }
            }
            self.records.commit_unless_changed(measured).await?;
        }
        Ok(())
    }

    /// The record with the image's actual dimensions; `None` if the bytes are missing or are no image within today's
    /// limits.
    async fn measured_anew(&self, id: &ImageId, record: &Record) -> Result<Option<Record>> {
        let Ok((store, meta)) = self.bytes.locate(id, record).await else { return Ok(None) };
        let (bytes, limits) = (Ranged::open(&store, meta.key, meta.size).await?, self.core.settings.media);
        match blocking(move || media::inspect(&bytes, &limits)).await? {
            Ok(media) => Ok(Some(record.clone().measured(&media))),
            Err(MediaError::Read(error)) => Err(Error::Media(MediaError::Read(error))),
            Err(_) => Ok(None),
        }
    }
}
