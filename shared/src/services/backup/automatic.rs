//! The automatic backup at each tenth upload: exactly one per ten, whichever process stores the uploads.
//!
//! The number of images ever uploaded is the size of a set that only grows, so every process that has read the catalog
//! counts the same. The record of due automatic backups is one small object, changed by compare-and-set. A process that
//! sees the next ten completed claims them there, together with the name of the backup. If it dies before the manifest
//! exists, the claim stays, and the next process makes the backup under that name, which can succeed only once.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::{Backups, Kind};
use crate::base::seal;
use crate::core::error::{Error, Result};
use crate::layout::{self, BackupName};
use store::sync::lock;
use store::{Body, Change, Contention, ErrorKind, Found, StoreError};

/// After this long, the process of a claim is considered dead. If it is not, that costs duplicate work, not an extra
/// backup.
const CLAIM_AGE: SignedDuration = SignedDuration::from_mins(10);

/// Which automatic backups are due; sealed JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// How many automatic backups have been claimed, or were not due when counting began.
    claimed: u64,
    /// Claimed backups whose manifest is not known to exist.
    pending: BTreeMap<u64, BackupName>,
    /// The greatest name assigned.
    last: Option<BackupName>,
    /// Set if a commit in progress completes several tens at once: all tens before this one are covered by one backup
    /// instead of one each. It counts once that many images exist, so a commit that never happens changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at_once: Option<u64>,
}

impl Sequence {
    /// Claims the automatic backup `number` under a name that no other claim had.
    fn claim(&mut self, number: u64, not_before: BackupName) -> BackupName {
        let next = self.last.map(BackupName::next);
        let name = next.map_or(not_before, |next| next.max(not_before));
        self.last = Some(name);
        self.pending.insert(number, name);
        name
    }

    /// Marks the backups that were completed at once as made, now that `due` are due.
    fn pass_over(&mut self, due: u64) {
        if let Some(reached) = self.at_once.take_if(|reached| *reached <= due) {
            self.claimed = self.claimed.max(reached.saturating_sub(1));
        }
    }
}

impl Backups {
    /// Makes the automatic backups that are due, if any; returns the last one that this call made. Call it after an
    /// upload's commit, and before any compaction of this process: if there is no count yet, it starts at what the
    /// root held when this process first read it.
    pub async fn make_due(&self) -> Result<Option<BackupName>> {
        self.core.note_upkeep(self.make_due_backups().await)
    }

    async fn make_due_backups(&self) -> Result<Option<BackupName>> {
        self.core.catalog.refresh().await?;
        let due = self.due();
        let unfinished = || std::mem::take(&mut *lock(&self.known.unfinished));
        let known = *lock(&self.known.claimed);
        if known.is_some_and(|claimed| due <= claimed) {
            return self.make_claimed(unfinished()).await;
        }
        let now = self.core.clock.now();
        let start = known.unwrap_or(self.core.catalog.uploads_at_first() / self.core.settings.backup_every);
        let (claimed, mut claims) = self
            .change_sequence(start, |sequence| {
                sequence.pass_over(due);
                let mut mine: BTreeMap<u64, BackupName> = sequence.pending.clone();
                mine.retain(|_, name| now.duration_since(name.moment()) > CLAIM_AGE);
                for number in sequence.claimed + 1..=due {
                    mine.insert(number, sequence.claim(number, BackupName::at(now)));
                }
                sequence.claimed = sequence.claimed.max(due);
                (sequence.claimed, mine)
            })
            .await?;
        {
            let mut known = lock(&self.known.claimed);
            *known = (*known).max(Some(claimed));
        }
        claims.extend(unfinished());
        self.make_claimed(claims).await
    }

    /// Starts the count if there is none, and makes the backups that were claimed and never made. For recovery.
    pub(crate) async fn resume_automatic(&self) -> Result<Option<BackupName>> {
        let due = self.due();
        let pending = self.change_sequence(due, |sequence| sequence.pending.clone()).await?;
        self.make_claimed(pending).await
    }

    /// Announces, before a commit, that it will add this many images at once: of the automatic backups that become due,
    /// only the last is made, whichever process sees the commit first. If the commit never happens, none is skipped.
    pub(crate) async fn pass_over_automatic(&self, added: u64) -> Result<()> {
        let (due, every) = (self.due(), self.core.settings.backup_every);
        let reached = self.core.catalog.view().totals().uploads().saturating_add(added) / every;
        if reached <= due + 1 {
            return Ok(());
        }
        let announce = |sequence: &mut Sequence| {
            sequence.pass_over(due);
            sequence.at_once = Some(reached);
        };
        self.change_sequence(self.core.catalog.uploads_at_first() / every, announce).await
    }

    fn due(&self) -> u64 {
        self.core.catalog.view().totals().uploads() / self.core.settings.backup_every
    }

    /// Makes claimed backups; those that fail are left to the next upload.
    async fn make_claimed(&self, mut claims: BTreeMap<u64, BackupName>) -> Result<Option<BackupName>> {
        let mut last = None;
        while let Some((number, name)) = claims.first_key_value().map(|(number, name)| (*number, *name)) {
            match self.make_one(number, name).await {
                Ok(made) => last = Some(made),
                Err(error) => {
                    lock(&self.known.unfinished).append(&mut claims);
                    return Err(error);
                }
            }
            claims.remove(&number);
        }
        Ok(last)
    }

    /// Makes the automatic backup `number`, unless another process already has; returns its name.
    async fn make_one(&self, number: u64, mut name: BackupName) -> Result<BackupName> {
        let mut contention = Contention::new(layout::sequence());
        while self.create_named(name, Kind::Auto, Some(number)).await?.is_none() {
            match self.manifest(name).await {
                Ok(made) if made.sequence == Some(number) => break,
                Ok(_) | Err(Error::NoSuchBackup(_) | Error::DamagedBackup(_)) => {}
                Err(error) => return Err(error),
            }
            contention.lost().await?;
            // Another kind of backup has this name. Another process that makes this backup may have found that out
            // before.
            let again = |sequence: &mut Sequence| match sequence.pending.get(&number) {
                Some(theirs) if *theirs != name => Some(*theirs),
                Some(_) => Some(sequence.claim(number, name.next())),
                None => None,
            };
            match self.change_sequence(number, again).await? {
                Some(other) => name = other,
                None => return Ok(name),
            }
        }
        self.change_sequence(number, |sequence| sequence.pending.remove(&number)).await?;
        Ok(name)
    }

    /// Changes the object by compare-and-set; if there is none that can be read, counting starts at `start`.
    async fn change_sequence<T>(&self, start: u64, change: impl Fn(&mut Sequence) -> T) -> Result<T> {
        let apply = |found: Found| {
            let before = match found {
                Found::Absent => None,
                Found::Bytes(bytes) => seal::open(&bytes),
                // A single failed read must not drop the claims of backups that are not made yet.
                Found::Unreadable => return Err(StoreError::new("get", layout::sequence(), ErrorKind::Corrupt).into()),
            };
            let fresh = || Sequence { claimed: start, ..Sequence::default() };
            let mut after = before.clone().unwrap_or_else(fresh);
            let result = change(&mut after);
            if before.as_ref() == Some(&after) {
                return Ok::<_, Error>(Change::Keep(result));
            }
            Ok(Change::Put(Body::from(seal::seal(&after)), result))
        };
        self.core.archive.store().update(&layout::sequence(), apply).await
    }
}
