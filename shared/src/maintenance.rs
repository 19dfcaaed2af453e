//! What follows a change where nothing runs all the time: second copies, automatic backups, folding.
//!
//! Each step may be done again, late, by several processes at once and in any order.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use jiff::SignedDuration;
use uuid::Uuid;

use crate::archive::Archived;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::keepsake::Keepsake;
use crate::layout::{BackupName, ImageId};

/// Commits and images worked on at a time.
const COPIES: usize = 8;

impl Keepsake {
    /// Makes the second copies that these commits call for; returns those that failed, each with its reason.
    ///
    /// A commit that has been folded meanwhile is found by the records it made. One of which nothing is left was taken
    /// back, or its records have changed since, and then the commit that did that has the same images.
    pub async fn follow_commits(&self, commits: &BTreeSet<Uuid>) -> Result<Vec<(Uuid, Error)>> {
        self.catalog.refresh().await?;
        let images = self.catalog.made_by(commits);
        let copy = async |(id, commit, digest): (ImageId, Uuid, Digest)| (commit, self.second_copy(&id, digest).await);
        let mirror = async |commit: Uuid| (commit, self.catalog.mirror_commit(commit).await.map_err(Error::from));
        let copied = stream::iter(images).map(copy).buffer_unordered(COPIES);
        let mirrored = stream::iter(commits.iter().copied()).map(mirror).buffer_unordered(COPIES);
        let outcomes: Vec<(Uuid, Result<()>)> = stream::select(copied, mirrored).collect().await;
        Ok(outcomes.into_iter().filter_map(|(commit, outcome)| Some((commit, outcome.err()?))).collect())
    }

    async fn second_copy(&self, id: &ImageId, digest: Digest) -> Result<()> {
        match self.archive.verify(&self.primary, id, digest).await? {
            Archived::Yes => Ok(()),
            Archived::Missing => {
                self.catalog.refresh().await?;
                let lives = self.catalog.read(|state| state.lives(id.as_str()));
                if lives { Err(Error::MissingBytes) } else { Ok(()) }
            }
        }
    }

    /// Makes the automatic backups that are due, and folds where that is worth its requests.
    pub async fn follow_up(&self) -> Result<()> {
        self.backup_if_due().await?;
        if self.catalog.fold_is_worthwhile() {
            self.catalog.fold().await?;
        }
        Ok(())
    }

    /// Likewise, and finishes what others began and left: for a schedule.
    pub async fn tidy(&self) -> Result<()> {
        self.backup_if_due().await?;
        self.resume_automatic_backups().await?;
        self.catalog.fold().await?;
        Ok(self.catalog.sweep_strays().await?)
    }

    /// For how long an automatic backup has been overdue: nothing while fewer uploads than make one are outside the
    /// newest backup, else that backup's age; where there is none at all, the time since the first of them.
    pub async fn backup_overdue(&self) -> Result<SignedDuration> {
        self.catalog.refresh().await?;
        let newest = self.newest_manifest(false).await?;
        let name = newest.as_ref().map(|manifest| manifest.name);
        if self.uploaded_after(name) < self.settings.backup_every {
            return Ok(SignedDuration::ZERO);
        }
        let since = name.map(BackupName::moment).or_else(|| self.catalog.read(|state| state.oldest()));
        Ok(since.map_or(SignedDuration::ZERO, |since| self.clock.now().duration_since(since)))
    }
}
