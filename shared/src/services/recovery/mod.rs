//! Recovery: making every place whole again out of what survives.
//!
//! It runs at start and on demand. The records are the join of all pieces in all places. Then, image by image, missing
//! bytes come back from the archive and missing second copies from the primary; files without a record are adopted, or
//! set aside where they are what an interrupted upload left. Nothing that cannot be explained is deleted: it is moved
//! to the archive's quarantine. In doubt nothing is overwritten.

mod files;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub(crate) use files::{completed, next_version};
use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::catalog::{Loaded, Record};
use crate::core::archive::Archived;
use crate::core::error::{Error, Result};
use crate::digest::Digest;
use crate::keepsake::Keepsake;
use crate::layout::{self, ImageId};
use crate::services::backup::Kind;
use crate::services::replication::is_refusal;
use crate::store::{ErrorKind, StoreError};
use crate::sync::lock;

/// What lies without an owner for less than this may belong to an upload or a restore that is still under way, in this
/// process or another. Nothing is under way for so long; the rest is for clocks that differ.
pub(crate) const IN_FLIGHT: SignedDuration = SignedDuration::from_hours(24);
/// Images worked on at a time.
const COPIES: usize = 8;
/// A start waits until so much has been set right, and serves before the rest of what is more.
const FEW_IMAGES: u64 = 100;
const FEW_BYTES: u64 = 256 * 1024 * 1024;
/// The log tells of so many images that were brought back.
const TOLD_EVERY: u64 = 1_000;

/// What a recovery found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether the store was new.
    pub is_new: bool,
    /// Images there are now.
    pub images: u64,
    /// Whether metadata came back from a second copy.
    pub metadata_restored: bool,
    /// Damaged commits that were set aside.
    pub damaged_commits: usize,
    /// Images whose bytes came back from the archive.
    pub brought_back: u64,
    /// Images that got their second copy.
    pub archived: u64,
    /// Records of the older format that were completed from their files.
    pub imported: u64,
    /// Files that had no record and have one now.
    pub adopted: u64,
    /// Files that were moved to quarantine.
    pub set_aside: u64,
    /// Deleted images whose bytes were still there and are gone now.
    pub deletes_finished: u64,
    /// Images whose bytes are in neither place. Their records are kept.
    pub missing: Vec<ImageId>,
    /// Names in an older `image-metadata.json` that cannot name a file here; the original was set aside.
    pub unusable_names: Vec<String>,
}

impl Report {
    /// Whether anything had to be done.
    pub fn found_nothing(&self) -> bool {
        let done = [
            self.brought_back,
            self.archived,
            self.imported,
            self.adopted,
            self.set_aside,
            self.deletes_finished,
            self.damaged_commits as u64,
            u64::from(self.metadata_restored),
        ];
        done.iter().sum::<u64>() == 0
    }
}

/// A file in `uploads/` as it was listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listed {
    /// Length in bytes.
    pub(crate) size: u64,
    modified: Timestamp,
}

/// What must be done for one image that has a record.
enum Need {
    SecondCopy(Digest),
    Bytes(Digest, Option<Listed>),
    Nothing,
    Missing,
}

/// Records that are whole again, and what is left to be done with files.
#[derive(Debug)]
pub struct Records {
    loaded: Loaded,
}

/// How far images have been brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restoring {
    /// How many images are dealt with.
    pub done: u64,
    /// How many there are to be dealt with.
    pub total: u64,
}

/// How a recovery that runs goes on.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Whether so much is to be done that nobody should wait for it.
    long: bool,
    /// Images whose bytes come back from the archive, where there are any.
    restoring: Option<Restoring>,
}

impl Keepsake {
    /// Makes every place whole again; safe to run while this and other processes serve the store.
    pub async fn recover(&self) -> Result<Report> {
        let records = self.recover_records().await?;
        self.recover_files(records).await
    }

    /// The first half of [`recover`](Self::recover): joins what is left of the records. From then on they can be served,
    /// and images from the archive.
    pub async fn recover_records(&self) -> Result<Records> {
        if self.withheld().is_some() {
            // What can be read is read, and no more.
            let _ = self.catalog.load().await;
            return Err(StoreError::new("put", layout::checkpoint(), ErrorKind::Withheld).into());
        }
        let joined = self.note_write(self.join_records().await);
        joined.inspect_err(|error| self.note_foreign(error))
    }

    async fn join_records(&self) -> Result<Records> {
        self.check_migration().await?;
        let mut loaded = self.catalog.load().await?;
        if self.settings.archive_sync {
            // From here on the records are safe in every place, whatever happens to the rest.
            self.catalog.fold().await?;
            loaded.unarchived.clear();
        } else {
            // Safe in the primary. The archive follows as far as it has the images, which can take long.
            drop(self.catalog.begin_fold().await?);
        }
        Ok(Records { loaded })
    }

    /// Takes in what another server has put into the archive since this one started: where each has a disk of its own and
    /// they share the archive, as the old and the new instance do while a deploy goes on.
    pub async fn look_at_archive_again(&self) -> Result<()> {
        if self.withheld().is_none() {
            self.catalog.load().await?;
            self.changed.notify_one();
        }
        Ok(())
    }

    /// The second half: the bytes of images, in both places. Where it takes long, [`is_long`](Self::is_long) says so.
    pub async fn recover_files(&self, records: Records) -> Result<Report> {
        let report = self.note_write(self.settle_all(&records.loaded).await)?;
        self.recovering.send_replace(Progress::default());
        *lock(&self.recovered) = Some(Arc::new(report.clone()));
        Ok(report)
    }

    /// Waits until a recovery that runs has found so much to do that nobody should wait for it.
    pub async fn is_long(&self) {
        // The sender lives as long as this does.
        let _ = self.recovering.subscribe().wait_for(|progress| progress.long).await;
    }

    /// How far a recovery has brought images back, where one does.
    pub fn restoring(&self) -> Option<Restoring> {
        self.recovering.borrow().restoring
    }

    fn note_work(&self, images: u64, bytes: u64) {
        if images > FEW_IMAGES || bytes > FEW_BYTES {
            self.recovering.send_modify(|progress| progress.long = true);
        }
    }

    async fn settle_all(&self, loaded: &Loaded) -> Result<Report> {
        self.note_work(self.catalog.read(|state| state.totals().undigested), 0);
        let imported = self.complete_records().await?;
        // Before the files are listed: with its ticket, what a completion that was cut off left loses its owner.
        self.clear_tickets().await?;
        let (uploads, archived) = futures::try_join!(self.list_uploads(), self.list_archived())?;
        let mut report = Report {
            is_new: loaded.is_new && uploads.is_empty(),
            metadata_restored: loaded.from_mirrors && !loaded.is_new,
            imported,
            damaged_commits: loaded.damaged_commits.len(),
            unusable_names: loaded.unusable_names.clone(),
            ..Report::default()
        };
        self.heal_images(&uploads, &archived, &loaded.unarchived, &mut report).await?;
        let adopted = self.settle_files(&uploads, loaded, &mut report).await?;
        if !adopted.is_empty() {
            self.catalog.commit(adopted).await?;
        }
        self.fold().await?;
        self.resume_automatic_backups().await?;
        report.images = self.catalog.read(|state| state.totals().live);
        if report.images > 0 && self.newest_manifest(true).await?.is_none() {
            self.create_backup(Kind::Safety).await?;
        }
        let stale = self.clock.now() - IN_FLIGHT;
        for store in [&self.primary, self.archive.store()] {
            store.sweep_unfinished(stale).await?;
        }
        Ok(report)
    }

    /// The files in `uploads/`, by the image that each holds.
    pub(crate) async fn list_uploads(&self) -> Result<HashMap<ImageId, Listed>, StoreError> {
        let uploads = self.primary.list(layout::UPLOADS, None);
        uploads
            .try_filter_map(async |meta| {
                let listed = Listed { size: meta.size, modified: meta.modified };
                Ok(layout::parse_image(&meta.key).map(|id| (id, listed)))
            })
            .try_collect()
            .await
    }

    async fn list_archived(&self) -> Result<HashMap<Digest, u64>, StoreError> {
        let images = self.archive.store().list(layout::ARCHIVED_IMAGES, None);
        images
            .try_filter_map(async |meta| Ok(layout::parse_archived_image(&meta.key).map(|digest| (digest, meta.size))))
            .try_collect()
            .await
    }

    /// Gives every image that has a record its bytes in both places.
    async fn heal_images(
        &self,
        uploads: &HashMap<ImageId, Listed>,
        archived: &HashMap<Digest, u64>,
        unrecorded: &BTreeSet<ImageId>,
        report: &mut Report,
    ) -> Result<()> {
        let mut needs: Vec<(ImageId, Need, u64)> = self.catalog.read(|state| {
            let needs = state.live().map(|(id, record)| {
                (id, need(record, uploads.get(id).copied(), archived), record.size.unwrap_or_default())
            });
            let needs = needs.filter(|(_, need, _)| !matches!(need, Need::Nothing));
            needs.map(|(id, need, size)| (id.clone(), need, size)).collect()
        });
        // Those that people look at first.
        needs.reverse();
        let owed = needs.iter().filter(|(_, need, _)| matches!(need, Need::SecondCopy(_))).map(|(id, ..)| id.clone());
        self.note_owed(owed.collect(), unrecorded.clone());
        let total = needs.iter().filter(|(_, need, _)| matches!(need, Need::Bytes(..))).count() as u64;
        if total > 0 {
            let restoring = Some(Restoring { done: 0, total });
            self.recovering.send_modify(|progress| progress.restoring = restoring);
        }
        self.note_work(needs.len() as u64, needs.iter().map(|(.., size)| size).sum());
        let heal = async |(id, need, _): (ImageId, Need, u64)| {
            let restores = matches!(need, Need::Bytes(..));
            let copies = matches!(need, Need::SecondCopy(_));
            match self.heal(&id, need).await {
                // What the archive does not take holds up no other, and goes on to be owed.
                Err(error) if copies && is_refusal(&error) => Ok(Err(error)),
                healed => {
                    let healed = healed?;
                    self.note_paid(&id);
                    Ok::<_, Error>(Ok((id, healed, restores)))
                }
            }
        };
        let mut refused = None;
        let mut healed = stream::iter(needs).map(heal).buffer_unordered(COPIES);
        while let Some(healed) = healed.try_next().await? {
            let (id, healed, restores) = match healed {
                Ok(healed) => healed,
                Err(error) => {
                    refused = Some(error);
                    continue;
                }
            };
            if restores {
                self.note_restored();
            }
            match healed {
                Healed::SecondCopy => report.archived += 1,
                Healed::Bytes { set_aside } => {
                    report.brought_back += 1;
                    report.set_aside += u64::from(set_aside);
                }
                Healed::Missing => report.missing.push(id),
                Healed::Overtaken => {}
            }
        }
        report.missing.sort();
        refused.map_or(Ok(()), Err)
    }

    /// Counts an image that was brought back, and says so in the log now and then.
    fn note_restored(&self) {
        self.recovering.send_modify(|progress| {
            let Some(Restoring { done, total }) = &mut progress.restoring else { return };
            *done += 1;
            if progress.long && (done.is_multiple_of(TOLD_EVERY) || done == total) {
                tracing::info!(done, total, "images are brought back from the archive");
            }
        });
    }

    async fn heal(&self, id: &ImageId, need: Need) -> Result<Healed> {
        // Since the places were listed, it may have been deleted, or only then have come.
        let lives = || self.catalog.read(|state| state.lives(id.as_str()));
        if !lives() {
            return Ok(Healed::Overtaken);
        }
        match need {
            Need::SecondCopy(digest) => Ok(match self.archive.verify_named(&self.primary, id, digest).await? {
                Archived::Yes => Healed::SecondCopy,
                Archived::Missing => Healed::Missing,
            }),
            Need::Bytes(digest, present) => {
                let set_aside = present.is_some();
                if set_aside {
                    self.archive.quarantine(&self.primary, &layout::image(id)).await?;
                }
                let brought = self.archive.bring_back(&self.primary, id, digest).await?;
                if brought == Archived::Yes && !lives() {
                    // It was deleted meanwhile, and the archive has what was brought.
                    self.primary.delete(&layout::image(id)).await?;
                    return Ok(Healed::Overtaken);
                }
                Ok(match brought {
                    Archived::Yes => Healed::Bytes { set_aside },
                    Archived::Missing => Healed::Missing,
                })
            }
            Need::Missing | Need::Nothing => {
                let entry = self.catalog.read(|state| state.get(id.as_str()).cloned());
                let Some(record) = entry.as_ref().and_then(|entry| entry.live()) else { return Ok(Healed::Overtaken) };
                match self.locate_bytes(id, record).await {
                    Ok(_) => Ok(Healed::Overtaken),
                    Err(Error::MissingBytes) => Ok(Healed::Missing),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

enum Healed {
    SecondCopy,
    Bytes {
        set_aside: bool,
    },
    Missing,
    /// What was listed is not so any more.
    Overtaken,
}

fn need(record: &Record, present: Option<Listed>, archived: &HashMap<Digest, u64>) -> Need {
    let Some(digest) = record.sha256 else {
        return match present {
            // It arrived since the records were completed.
            Some(_) => Need::Nothing,
            // A link to a file elsewhere has no bytes here, and none are missed.
            None if record.is_link() => Need::Nothing,
            None => Need::Missing,
        };
    };
    let right = |size: u64| record.size.is_none_or(|wanted| wanted == size);
    match (present.filter(|p| right(p.size)), archived.get(&digest).filter(|size| right(**size))) {
        (Some(_), Some(_)) => Need::Nothing,
        (Some(_), None) => Need::SecondCopy(digest),
        (None, Some(_)) => Need::Bytes(digest, present),
        (None, None) => Need::Missing,
    }
}

/// Whether an error means that a file went away while it was looked at.
fn vanished(error: &StoreError) -> bool {
    error.kind == ErrorKind::NotFound
}
