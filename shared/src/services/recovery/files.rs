//! Files in `uploads/` without a live record.

use super::{Recovery, Report};
use crate::base::clock::format_millis;
use crate::catalog::{Change, Content, Loaded, Record, Tombstone};
use crate::core::ages::IN_FLIGHT;
use crate::core::error::{Error, Result};
use crate::layout::{self, ImageId};
use crate::services::images::files::Listed;
use crate::services::images::records::vanished;
use store::{ErrorKind, ObjectMeta};

impl Recovery {
    /// Adopts, sets aside or deletes files that had no live record when they were listed; returns the records of the
    /// adopted ones.
    ///
    /// A file whose name Keepsake made has no record only if an upload was interrupted, so it is set aside: a failed
    /// upload must not appear later. Only if all metadata was lost is it adopted like any other.
    pub(super) async fn recover_unrecorded(
        &self,
        unrecorded: Vec<(ImageId, Listed)>,
        loaded: &Loaded,
        report: &mut Report,
    ) -> Result<Vec<(ImageId, Change)>> {
        let now = self.core.clock.now();
        let tickets = self.tickets.open().await?;
        self.core.catalog.refresh().await?;
        let mut adopted = Vec::new();
        for (id, listed) in unrecorded {
            // Newer than the listing: the file may have got its record since.
            let entry = self.core.catalog.view().get(id.as_str()).await?;
            if entry.as_ref().is_some_and(|entry| entry.live().is_some()) {
                continue;
            }
            let may_be_in_flight = now.duration_since(listed.modified) < IN_FLIGHT;
            let handled = match entry.as_ref().and_then(|entry| entry.tombstone()) {
                Some(_) if may_be_in_flight => Ok(()),
                Some(tombstone) => match self.still_unexplained(&id, &listed).await? {
                    Some(file) => self.finish_delete(&file, tombstone, report).await,
                    None => Ok(()),
                },
                // A ticket whose bytes have come this far can still be completed.
                None if id.uuid().is_some_and(|uuid| tickets.contains(&uuid)) => Ok(()),
                // A commit that cannot be read now may contain its record.
                None if id.uuid().is_some() && loaded.some_unreadable => Ok(()),
                None if id.uuid().is_some() && !loaded.no_root => {
                    if !may_be_in_flight
                        && let Some(file) = self.still_unexplained(&id, &listed).await?
                        && self.core.archive.quarantine(&self.core.primary, &file.key).await?
                    {
                        report.set_aside += u64::from(self.delete_copied(&file).await?);
                    }
                    Ok(())
                }
                None => self.adopt(&id, &listed).await.map(|record| {
                    report.adopted += u64::from(record.is_some());
                    adopted.extend(record.map(|r| (id, Change { version: 0, content: Content::Live(r) })));
                }),
            };
            match handled {
                // Deleted or rewritten meanwhile: then it is in use.
                Err(Error::Store(error)) if vanished(&error) || error.kind == ErrorKind::Changed => {}
                handled => handled?,
            }
        }
        Ok(adopted)
    }

    /// The file, if it is the one that was listed and still has no live record. The listing may be old, and a ticket or
    /// a repeated upload may have put the same bytes there again.
    async fn still_unexplained(&self, id: &ImageId, listed: &Listed) -> Result<Option<ObjectMeta>> {
        let now = self.core.primary.head(&layout::image(id)).await?;
        self.core.catalog.refresh().await?;
        let live = self.core.catalog.view().is_live(id.as_str()).await?;
        let same = (now.size, now.modified) == (listed.size, listed.modified);
        Ok((!live && same).then_some(now))
    }

    /// Deletes the bytes of a deleted image, if the file has the bytes that were deleted.
    async fn finish_delete(&self, file: &ObjectMeta, tombstone: &Tombstone, report: &mut Report) -> Result<()> {
        let body = self.core.primary.fetch(&file.key).await?;
        if tombstone.sha256 == Some(body.digest()) {
            self.core.archive.put_named(&body).await?;
            report.deletes_finished += u64::from(self.delete_copied(file).await?);
        }
        Ok(())
    }

    /// Deletes this version of a file that has a copy in the archive; returns false if the store refuses, as a service
    /// without conditional deletes does.
    async fn delete_copied(&self, file: &ObjectMeta) -> Result<bool> {
        match self.core.primary.delete_version(file).await {
            Err(error) if error.kind == ErrorKind::Refused => {
                let key = file.key.as_str();
                tracing::warn!(key, error = &error as &dyn std::error::Error, "a file without a record stays");
                Ok(false)
            }
            deleted => Ok(deleted.map(|()| true)?),
        }
    }

    /// The record for a file that has none; `None` if it is not an image, which is left alone.
    async fn adopt(&self, id: &ImageId, listed: &Listed) -> Result<Option<Record>> {
        // A camera or a copy may have set a time in the future, which would sort the image before all others.
        let upload_date = Some(format_millis(listed.modified.min(self.core.clock.now())));
        let record = Record { upload_date, original_name: Some(id.to_string()), ..Record::adopted() };
        let (media, record) = self.records.describe(id, record).await?;
        Ok(media.map(|_| record))
    }
}
