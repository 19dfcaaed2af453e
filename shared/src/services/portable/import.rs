//! Applies the plan of an import.
//!
//! | Step | A crash after it leaves |
//! |---|---|
//! | 1. Take the lease of a restore, and plan: read the source in full. | a lease that expires |
//! | 2. Make a safety backup, if there is anything to do. | an additional backup |
//! | 3. Store replicas of the bytes, in the archive. | unreferenced objects, for a prune |
//! | 4. Record that of the automatic backups which the commit makes due only the last is to be made. | a note without effect |
//! | 5. One commit with all records. | all images, served from the archive; a start restores them to `uploads/` |
//! | 6. Store the bytes in `uploads/`. | the same |
//!
//! The bytes are stored in `uploads/` last: under names given by users, files without a record would be adopted by a
//! recovery, and their real records would then count as older ones.

use futures::stream::{self, StreamExt, TryStreamExt};

use super::decide::{ImportPlan, Imports, Take, TakenBytes};
use super::source::Source;
use super::source_file::SourceFile;
use crate::catalog::View;
use crate::catalog::quarantine::put_into_quarantine;
use crate::core::COPIES;
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::core::lease::Lease;
use crate::layout::{self, BackupName, ImageId};
use crate::media::Format;
use crate::services::backup::Kind;
use store::digest::Digest;
use store::{Body, ErrorKind, PutMode};

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// The plan as it was applied.
    pub plan: ImportPlan,
    /// The backup of the previous state, if there was anything to do; restoring it exactly undoes the import.
    pub safety_backup: Option<BackupName>,
}

impl Imports {
    /// Imports what exists in a source and not here, in one commit. Live images stay as they are. May be repeated, also
    /// after it was killed: then it does the rest. [`Error::RestoreRunning`] beside a restore, another import, or a
    /// plan of an import in this process.
    pub async fn import(&self, source: &Source) -> Result<Imported> {
        let _guard = self.importing.try_lock().map_err(|_| Error::RestoreRunning)?;
        let lease = self.core.restore_lease().await?;
        let outcome = self.import_leased(source, &lease).await;
        lease.end().await;
        self.core.note_write(outcome)
    }

    async fn import_leased(&self, source: &Source, lease: &Lease<'_>) -> Result<Imported> {
        // Existing images can only be compared once their digests are known.
        self.records.complete().await?;
        let mut plan = self.plan_import_leased(source, Some(lease)).await?;
        if plan.takes.is_empty() {
            self.set_aside(source, &plan).await?;
            return Ok(Imported { plan, safety_backup: None });
        }
        self.check_room_for(&plan).await?;
        lease.renew_if_due().await?;
        let safety_backup = Some(self.backups.create(Kind::Safety).await?.name);
        lease.renew_if_due().await?;
        self.set_aside(source, &plan).await?;
        self.store_replicas(source, &plan, lease).await?;
        self.commit_import(&mut plan, lease).await?;
        let result = self.store_taken(source, &mut plan, lease).await;
        self.backup_once_for_all().await;
        result?;
        Ok(Imported { plan, safety_backup })
    }

    /// Refuses an import if there is too little free space.
    async fn check_room_for(&self, plan: &ImportPlan) -> Result<()> {
        let bytes = plan.takes.values().map(|take| match &take.bytes {
            TakenBytes::File { file, .. } => file.size,
            TakenBytes::Nowhere | TakenBytes::Archive(_) => 0,
        });
        let bytes = bytes.fold(0, u64::saturating_add);
        self.room.check_each(bytes, bytes).await
    }

    /// Quarantines what is not imported and is stored nowhere else.
    async fn set_aside(&self, source: &Source, plan: &ImportPlan) -> Result<()> {
        for file in &plan.set_aside {
            let body = source.read(file, self.core.archive.store().spool()).await?;
            let name = file.path.rsplit('/').next().and_then(|name| ImageId::new(name).ok());
            let name = name.as_ref().map_or("file", ImageId::as_str);
            put_into_quarantine(self.core.archive.store(), &body, name).await?;
        }
        Ok(())
    }

    async fn store_replicas(&self, source: &Source, plan: &ImportPlan, lease: &Lease<'_>) -> Result<()> {
        let mut files = Vec::new();
        for take in plan.takes.values() {
            if let TakenBytes::File { file, digest, format } = &take.bytes {
                files.push((file.clone(), *digest, *format));
            }
        }
        self.core.progress.begin("replicas", files.len() as u64);
        let store = async |(file, digest, format): (SourceFile, Digest, Option<Format>)| {
            let body = self.read_again(source, &file, digest).await?;
            let body = of_type(body, format);
            self.core.archive.put(&body).await?;
            self.core.progress.advance();
            lease.renew_if_due().await
        };
        stream::iter(files).map(store).buffer_unordered(COPIES).try_collect().await
    }

    /// Reads a file, which must have the same bytes as in the plan.
    async fn read_again(&self, source: &Source, file: &SourceFile, digest: Digest) -> Result<Body> {
        let body = source.read(file, self.core.primary.spool()).await?;
        if body.digest() == digest {
            return Ok(body);
        }
        Err(Error::UnusableArchive(format!("{:?} changed while it was imported.", file.path)))
    }

    async fn commit_import(&self, plan: &mut ImportPlan, lease: &Lease<'_>) -> Result<()> {
        lease.renew().await?;
        let _guard = self.core.editing.lock().await;
        self.core.catalog.refresh().await?;
        let now = self.core.catalog.view();
        plan.skip_changed(&now).await?;
        let changes = plan.takes.iter_mut();
        let changes: Vec<_> = changes.filter_map(|(id, take)| Some((id.clone(), take.change.take()?.1))).collect();
        if !changes.is_empty() {
            // An import is not a series of uploads with a backup for each ten: one backup covers all of it.
            let mut new = 0;
            for (id, _) in &changes {
                new += u64::from(now.get(id.as_str()).await?.is_none());
            }
            self.backups.pass_over_automatic(new).await?;
            self.core.catalog.commit(changes).await?;
            self.core.changed.notify_one();
        }
        Ok(())
    }

    async fn store_taken(&self, source: &Source, plan: &mut ImportPlan, lease: &Lease<'_>) -> Result<()> {
        let takes = std::mem::take(&mut plan.takes);
        self.core.progress.begin("images", takes.len() as u64);
        let store = async |(id, take): (ImageId, Take)| {
            let stored = match take.bytes {
                TakenBytes::Nowhere => Archived::Yes,
                TakenBytes::Archive(digest) => self.core.archive.bring_back(&self.core.primary, &id, digest).await?,
                TakenBytes::File { file, digest, format } => match self.read_again(source, &file, digest).await {
                    Ok(body) => self.put_taken(&id, &of_type(body, format)).await?,
                    // The source is gone; its bytes are in the archive.
                    Err(_) => self.core.archive.bring_back(&self.core.primary, &id, digest).await?,
                },
            };
            self.core.progress.advance();
            lease.renew_if_due().await?;
            Ok::<_, Error>((stored == Archived::Missing).then_some(id))
        };
        let stored = stream::iter(takes).map(store).buffer_unordered(COPIES);
        let lost: Vec<Option<ImageId>> = stored.try_collect().await?;
        plan.missing.extend(lost.into_iter().flatten());
        Ok(())
    }

    /// Puts the bytes of an image whose record and replica exist.
    async fn put_taken(&self, id: &ImageId, body: &Body) -> Result<Archived> {
        let key = layout::image(id);
        match self.core.primary.put(&key, body, &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            put => return Ok(put.map(|_| Archived::Yes)?),
        }
        if self.core.primary.digest(&key).await?.1 == body.digest() {
            return Ok(Archived::Yes);
        }
        let differs_in_case = |other: &ImageId| other != id && other.as_str().eq_ignore_ascii_case(id.as_str());
        if self.core.catalog.view().live().try_any(async |(other, _)| differs_in_case(&other)).await? {
            // On a case-insensitive file system, the file belongs to the other image.
            tracing::warn!(image = %id, "another image's name differs only in case; this image is served from the archive");
            return Ok(Archived::Yes);
        }
        self.core.archive.quarantine(&self.core.primary, &key).await?;
        self.core.primary.put(&key, body, &PutMode::Overwrite).await?;
        Ok(Archived::Yes)
    }

    async fn backup_once_for_all(&self) {
        if !self.core.settings.archive_sync {
            return;
        }
        if let Err(error) = self.backups.make_due().await {
            // The images are committed; the next upload makes the backup.
            tracing::error!(error = &error as &dyn std::error::Error, "the backup after an import failed");
        }
    }
}

fn of_type(body: Body, format: Option<Format>) -> Body {
    match format {
        Some(format) => body.of_type(format.content_type()),
        None => body,
    }
}

impl ImportPlan {
    /// Skips what changed after the plan was made.
    async fn skip_changed(&mut self, now: &View) -> Result<()> {
        let mut moved = Vec::new();
        for (id, take) in &self.takes {
            if let Some((planned, _)) = &take.change
                && now.get(id.as_str()).await?.map(|entry| entry.stamp) != *planned
            {
                moved.push(id.clone());
            }
        }
        for id in moved {
            self.takes.remove(&id);
            self.restored.remove(&id);
            self.adopted.remove(&id);
            self.missing.remove(&id);
            self.redated.remove(&id);
            self.undated.remove(&id);
            self.kept += 1;
        }
        Ok(())
    }
}
