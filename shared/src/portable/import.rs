//! Taking in: carrying out the plan of an import.
//!
//! | Step | A crash after it leaves |
//! |---|---|
//! | 1. Take the lease of a restore, and plan: read the source through. | a lease that ends by itself |
//! | 2. Make a safety backup, if anything is to be done. | one backup more |
//! | 3. Store second copies of the bytes, in the archive. | objects that nothing names, for a prune |
//! | 4. One commit with all records. | all images, served from the archive; a start brings them to `uploads/` |
//! | 5. Store the bytes in `uploads/`. | likewise |
//!
//! The bytes come to `uploads/` last: under the names that people gave them, what lay there without a record would be
//! adopted by a recovery, and their real records would then be taken for older ones.

use futures::stream::{self, StreamExt, TryStreamExt};

use super::decide::{COPIES, ImportPlan, Take, TakenBytes};
use super::source::{Source, SourceFile};
use super::{Meter, OnProgress, Stage};
use crate::archive::Archived;
use crate::backup::Kind;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keepsake::Keepsake;
use crate::layout::{self, BackupName, ImageId};
use crate::lease::Lease;
use crate::store::{Body, ErrorKind, PutMode};

/// What an import did.
#[derive(Debug)]
pub struct Imported {
    /// The plan as it was carried out.
    pub plan: ImportPlan,
    /// The backup of the state before, where anything was to be done; restoring it exactly undoes the import.
    pub safety_backup: Option<BackupName>,
}

impl Keepsake {
    /// Takes in what a source holds and is not here, in one commit. What lives here stays as it is. May be repeated, also
    /// after it was killed: then it does the rest. [`Error::RestoreRunning`] beside a restore or another import.
    pub async fn import(&self, source: &Source, told: OnProgress<'_>) -> Result<Imported> {
        let lease = Lease::acquire(self.archive.store(), &self.clock).await?.ok_or(Error::RestoreRunning)?;
        let outcome = self.import_leased(source, told, &lease).await;
        lease.end().await;
        self.note_write(outcome)
    }

    async fn import_leased(&self, source: &Source, told: OnProgress<'_>, lease: &Lease<'_>) -> Result<Imported> {
        // What is here can only be compared once its digest is known.
        self.complete_records().await?;
        let mut plan = self.plan_import_leased(source, told, Some(lease)).await?;
        if plan.takes.is_empty() {
            self.set_aside(source, &plan).await?;
            return Ok(Imported { plan, safety_backup: None });
        }
        self.check_room_for(&plan).await?;
        lease.renew_if_due().await?;
        let safety_backup = Some(self.create_backup(Kind::Safety).await?.name);
        lease.renew_if_due().await?;
        self.set_aside(source, &plan).await?;
        self.store_second_copies(source, &plan, told, lease).await?;
        self.commit_import(&mut plan, lease).await?;
        let result = self.store_taken(source, &mut plan, told, lease).await;
        self.backup_once_for_all().await;
        result?;
        Ok(Imported { plan, safety_backup })
    }

    /// Refuses an import for which there is too little room.
    async fn check_room_for(&self, plan: &ImportPlan) -> Result<()> {
        let bytes = plan.takes.values().map(|take| match &take.bytes {
            TakenBytes::File { file, .. } => file.size,
            TakenBytes::Nowhere | TakenBytes::Archive(_) => 0,
        });
        let bytes = bytes.fold(0, u64::saturating_add);
        let (primary, archive) = (self.primary.free_bytes().await?, self.archive.store().free_bytes().await?);
        // Of one disk both take their share.
        let copies = if primary.is_some() && primary == archive { 2 } else { 1 };
        self.check_room(bytes.saturating_mul(copies)).await
    }

    /// Puts into quarantine what is not taken in and has no other place.
    async fn set_aside(&self, source: &Source, plan: &ImportPlan) -> Result<()> {
        for file in &plan.set_aside {
            let body = source.read(file, self.archive.store().spool()).await?;
            let name = file.path.rsplit('/').next().and_then(|name| ImageId::new(name).ok());
            let name = name.as_ref().map_or("file", ImageId::as_str);
            let key = layout::quarantined(&body.digest(), name);
            match self.archive.store().put(&key, &body, &PutMode::Create).await {
                Err(e) if e.kind == ErrorKind::AlreadyExists => {}
                put => _ = put?,
            }
        }
        Ok(())
    }

    async fn store_second_copies(
        &self,
        source: &Source,
        plan: &ImportPlan,
        told: OnProgress<'_>,
        lease: &Lease<'_>,
    ) -> Result<()> {
        let files = plan.takes.values().filter_map(|take| take.file());
        let meter = Meter::new(told, Stage::Archiving, files.clone().count() as u64);
        let store = async |(file, digest, content_type)| {
            let body = self.read_again(source, file, digest).await?;
            let body = of_type(body, content_type);
            self.archive.put(&body).await?;
            meter.add(body.size());
            lease.renew_if_due().await
        };
        stream::iter(files).map(store).buffer_unordered(COPIES).try_collect().await
    }

    /// Reads a file that must still be what the plan found it to be.
    async fn read_again(&self, source: &Source, file: &SourceFile, digest: Digest) -> Result<Body> {
        let body = source.read(file, self.primary.spool()).await?;
        if body.digest() == digest {
            return Ok(body);
        }
        Err(Error::UnusableArchive(format!("{:?} has changed while it was taken in.", file.path)))
    }

    async fn commit_import(&self, plan: &mut ImportPlan, lease: &Lease<'_>) -> Result<()> {
        lease.renew().await?;
        let _turn = self.editing.lock().await;
        self.catalog.refresh().await?;
        plan.leave_what_changed(|id| self.catalog.read(|state| state.get(id.as_str()).map(|entry| entry.stamp)));
        let changes = plan.takes.iter_mut();
        let changes: Vec<_> = changes.filter_map(|(id, take)| Some((id.clone(), take.change.take()?.1))).collect();
        if !changes.is_empty() {
            self.catalog.commit(changes).await?;
            self.changed.notify_one();
        }
        Ok(())
    }

    async fn store_taken(
        &self,
        source: &Source,
        plan: &mut ImportPlan,
        told: OnProgress<'_>,
        lease: &Lease<'_>,
    ) -> Result<()> {
        let meter = Meter::new(told, Stage::Storing, plan.takes.len() as u64);
        let store = async |(id, take): (&ImageId, &Take)| {
            let stored = match &take.bytes {
                TakenBytes::Nowhere => Archived::Yes,
                TakenBytes::Archive(digest) => self.archive.bring_back(&self.primary, id, *digest).await?,
                TakenBytes::File { file, digest, content_type } => {
                    match self.read_again(source, file, *digest).await {
                        Ok(body) => self.put_taken(id, &of_type(body, *content_type)).await?,
                        // The source is gone; its bytes are not.
                        Err(_) => _ = self.archive.bring_back(&self.primary, id, *digest).await?,
                    }
                    Archived::Yes
                }
            };
            meter.add(take.file().map_or(0, |(file, ..)| file.size));
            lease.renew_if_due().await?;
            Ok::<_, Error>((stored == Archived::Missing).then(|| id.clone()))
        };
        let lost: Vec<Option<ImageId>> =
            stream::iter(&plan.takes).map(store).buffer_unordered(COPIES).try_collect().await?;
        plan.missing.extend(lost.into_iter().flatten());
        Ok(())
    }

    /// Puts the bytes of an image whose record stands and whose second copy stands.
    async fn put_taken(&self, id: &ImageId, body: &Body) -> Result<()> {
        let key = layout::image(id);
        match self.primary.put(&key, body, &PutMode::Create).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => {}
            put => return Ok(put.map(drop)?),
        }
        if self.primary.digest(&key).await?.1 == body.digest() {
            return Ok(());
        }
        let differs_in_case = |other: &ImageId| other != id && other.as_str().eq_ignore_ascii_case(id.as_str());
        if self.catalog.read(|state| state.live().any(|(other, _)| differs_in_case(other))) {
            // On a file system that takes both names for one, the file is the other image's.
            tracing::warn!(image = %id, "another image has this name but for capital letters; the archive serves this one");
            return Ok(());
        }
        self.archive.quarantine(&self.primary, &key).await?;
        self.primary.put(&key, body, &PutMode::Overwrite).await?;
        Ok(())
    }

    /// What was taken in is no row of uploads, of which each tenth makes a backup: one backup is made for all of it.
    async fn backup_once_for_all(&self) {
        let made = async {
            self.pass_over_automatic_backups().await?;
            if self.settings.archive_sync { self.backup_if_due().await } else { Ok(None) }
        };
        if let Err(error) = made.await {
            // The images stand; whoever uploads next makes the backup.
            tracing::error!(error = &error as &dyn std::error::Error, "the backup after an import failed");
        }
    }
}

fn of_type(body: Body, content_type: Option<&'static str>) -> Body {
    match content_type {
        Some(content_type) => body.of_type(content_type),
        None => body,
    }
}

impl Take {
    fn file(&self) -> Option<(&SourceFile, Digest, Option<&'static str>)> {
        match &self.bytes {
            TakenBytes::File { file, digest, content_type } => Some((file, *digest, *content_type)),
            TakenBytes::Nowhere | TakenBytes::Archive(_) => None,
        }
    }
}

impl ImportPlan {
    /// Leaves alone what someone changed after the plan was made.
    fn leave_what_changed(&mut self, now: impl Fn(&ImageId) -> Option<crate::catalog::Stamp>) {
        let moved = |(id, take): (&ImageId, &Take)| {
            let (planned, _) = take.change.as_ref()?;
            (now(id) != *planned).then(|| id.clone())
        };
        for id in self.takes.iter().filter_map(moved).collect::<Vec<_>>() {
            self.takes.remove(&id);
            self.restored.remove(&id);
            self.adopted.remove(&id);
            self.missing.remove(&id);
            self.kept += 1;
        }
    }
}
