//! What follows a change where nothing runs all the time, besides second copies: automatic backups, folding.
//!
//! Each step may be done again, late, by several processes at once and in any order.

use jiff::SignedDuration;

use crate::core::error::Result;
use crate::keepsake::Keepsake;
use crate::layout::BackupName;

impl Keepsake {
    /// Makes the automatic backups that are due, and folds where that is worth its requests.
    pub async fn follow_up(&self) -> Result<()> {
        self.backup_if_due().await?;
        if self.catalog.fold_is_worthwhile() {
            self.fold().await?;
        }
        Ok(())
    }

    /// Likewise, and finishes what others began and left: for a schedule.
    pub async fn tidy(&self) -> Result<()> {
        self.backup_if_due().await?;
        self.resume_automatic_backups().await?;
        self.fold().await?;
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
        let since =
            name.map(BackupName::moment).or_else(|| self.catalog.read(|state| state.span().map(|(_, oldest)| oldest)));
        Ok(since.map_or(SignedDuration::ZERO, |since| self.clock.now().duration_since(since)))
    }
}
