//! Recovery: making every place whole again out of what survives.
//!
//! It runs at start and on demand. The records are the join of all pieces in all places. Then, image by image, missing
//! bytes come back from the archive and missing second copies from the primary; files without a record are adopted, or
//! set aside where they are what an interrupted upload left. Nothing that cannot be explained is deleted: it is moved
//! to the archive's quarantine. In doubt nothing is overwritten.

mod files;

use std::collections::HashMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};

use crate::archive::Archived;
use crate::backup::Kind;
use crate::catalog::Record;
use crate::digest::Digest;
use crate::error::Result;
use crate::keepsake::Keepsake;
use crate::layout::{self, ImageId};
use crate::store::{ErrorKind, StoreError};
use crate::sync::lock;

/// What lies without an owner for less than this may belong to an upload or a restore that is still under way, in this
/// process or another. Nothing is under way for so long; the rest is for clocks that differ.
pub(crate) const IN_FLIGHT: SignedDuration = SignedDuration::from_hours(24);
/// Images worked on at a time.
const COPIES: usize = 8;

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

impl Keepsake {
    /// Makes every place whole again; safe to run while this and other processes serve the store.
    pub async fn recover(&self) -> Result<Report> {
        if self.withheld().is_some() {
            // What can be read is read, and no more.
            let _ = self.catalog.load().await;
            return Err(StoreError::new("put", layout::checkpoint(), ErrorKind::Withheld).into());
        }
        let recovered = self.note_write(self.recover_all().await);
        let report = recovered.inspect_err(|error| self.note_foreign(error))?;
        *lock(&self.recovered) = Some(Arc::new(report.clone()));
        Ok(report)
    }

    async fn recover_all(&self) -> Result<Report> {
        let loaded = self.catalog.load().await?;
        // From here on the records are safe in every place, whatever happens to the rest.
        self.catalog.fold().await?;
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
        self.heal_images(&uploads, &archived, &mut report).await?;
        let adopted = self.settle_files(&uploads, &loaded, &mut report).await?;
        if !adopted.is_empty() {
            self.catalog.commit(adopted).await?;
        }
        self.catalog.fold().await?;
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
        report: &mut Report,
    ) -> Result<()> {
        let needs: Vec<(ImageId, Need)> = self.catalog.read(|state| {
            let needs = state.live().map(|(id, record)| (id, need(record, uploads.get(id).copied(), archived)));
            needs.filter(|(_, need)| !matches!(need, Need::Nothing)).map(|(id, need)| (id.clone(), need)).collect()
        });
        let heal = async |(id, need)| {
            let healed = self.heal(&id, need).await?;
            Ok::<_, crate::error::Error>((id, healed))
        };
        let mut healed = stream::iter(needs).map(heal).buffer_unordered(COPIES);
        while let Some((id, healed)) = healed.try_next().await? {
            match healed {
                Healed::SecondCopy => report.archived += 1,
                Healed::Bytes { set_aside } => {
                    report.brought_back += 1;
                    report.set_aside += u64::from(set_aside);
                }
                Healed::Missing => report.missing.push(id),
            }
        }
        report.missing.sort();
        Ok(())
    }

    async fn heal(&self, id: &ImageId, need: Need) -> Result<Healed> {
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
                Ok(match self.archive.bring_back(&self.primary, id, digest).await? {
                    Archived::Yes => Healed::Bytes { set_aside },
                    Archived::Missing => Healed::Missing,
                })
            }
            Need::Missing | Need::Nothing => Ok(Healed::Missing),
        }
    }
}

enum Healed {
    SecondCopy,
    Bytes { set_aside: bool },
    Missing,
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
