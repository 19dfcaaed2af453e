//! Migration: copies a store from one location to another.
//!
//! FROM is only read, and may be served meanwhile. TO receives image bytes first, then replicas, chunks and backups,
//! and last, in one put, the root: until then TO is not a store, or is the older one that it was. An object that
//! exists in TO with the right length is not copied again, since a put is atomic. So another run completes an
//! interrupted one, and a later run copies what changed. Nothing in TO is deleted.
//!
//! While TO has no root yet, it contains a marker, and a start refuses it: the files alone would look like a
//! store whose metadata was lost.
//!
//! Architecture invariant: nothing here writes to FROM.

mod copy;
mod lacking;
mod marker;

use std::collections::BTreeSet;

use futures::stream::TryStreamExt;
use serde::Serialize;

use crate::catalog::{CatalogError, Difference, View};
use crate::core::Core;
use crate::core::error::{Error, Result};
use crate::layout::{self, BackupName, ImageId};
use store::digest::Digest;
use store::{Store, StoreError};

/// How often a run copies what has changed in FROM meanwhile. If FROM keeps changing, TO ends up slightly behind.
const ROUNDS: usize = 8;

/// What a migration did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrated {
    /// Images that are in TO now.
    pub images: u64,
    /// Image files that this run copied.
    pub copied: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Replicas that it made.
    pub second_copies: u64,
    /// Catalog chunks that it copied.
    pub chunks: u64,
    /// Backups that it copied.
    pub backups: u64,
    /// Quarantined objects that it copied.
    pub set_aside: u64,
    /// Changes of images that were made in FROM during the run and are in TO too.
    pub caught_up: u64,
    /// Changes that were made after that: another run copies them.
    pub behind: u64,
    /// Images whose bytes in FROM were missing or damaged, and were copied from their replica.
    pub repaired: BTreeSet<ImageId>,
    /// Images without an intact copy in FROM. Their records are in TO.
    pub missing: BTreeSet<ImageId>,
    /// Replicas of images that only backups reference and that are damaged in FROM. They are not in TO.
    pub lost_copies: BTreeSet<Digest>,
    /// Backups of FROM that are damaged or incomplete. They are not in TO.
    pub damaged_backups: BTreeSet<BackupName>,
    /// Commits of FROM that cannot be read, or that only its archive holds: a start of FROM recovers what it can.
    pub unreadable_commits: usize,
}

impl Migrated {
    /// Whether TO lacks something that FROM should have.
    pub fn needs_attention(&self) -> bool {
        let whole = self.missing.is_empty() && self.lost_copies.is_empty() && self.damaged_backups.is_empty();
        !whole || self.unreadable_commits > 0 || self.behind > 0
    }
}

/// Copies the store in `from` to `to`. Reports through the progress of `to`. [`Error::MigrationRefused`], with nothing
/// written, if `to` holds anything but an older state of the same store.
pub async fn migrate(from: &Core, to: &Core) -> Result<Migrated> {
    from.catalog.refresh().await?;
    let Some(store) = from.catalog.store_id() else {
        return refused("The store to migrate from is not one yet: it has no root. Start the server on it once.");
    };
    check_target(from, to, store).await?;
    let (mut report, mut last) = (Migrated::default(), None::<View>);
    for _ in 0..ROUNDS {
        // The objects that these backups reference are older than the backups, so the later listings include them.
        let backups = backup_names(from.archive.store()).await?;
        from.catalog.refresh().await?;
        let now = from.catalog.view();
        if let Some(last) = &last {
            report.caught_up += changes(last, &now).await?;
        }
        report = Migrated { missing: BTreeSet::new(), ..report };
        copy::round(from, to, &now, &backups, &mut report).await?;
        if !to.catalog.adopt(&now, store).await? {
            return refused(TARGET_IS_AHEAD);
        }
        marker::remove(&to.primary).await?;
        from.catalog.refresh().await?;
        report.behind = changes(&now, &from.catalog.view()).await?;
        report.images = now.totals().live;
        last = Some(now);
        let rests = backup_names(from.archive.store()).await?.iter().all(|name| backups.contains(name));
        if report.behind == 0 && rests {
            break;
        }
    }
    // An image that was deleted meanwhile does not count as missing.
    let (view, mut missing) = (from.catalog.view(), BTreeSet::new());
    for id in report.missing {
        if view.is_live(id.as_str()).await? {
            missing.insert(id);
        }
    }
    report.missing = missing;
    report.unreadable_commits = from.catalog.unreadable().len() + from.catalog.only_in_mirrors().await?.len();
    Ok(report)
}

const TARGET_IS_AHEAD: &str = "The store to migrate to holds changes that the other one does not. Migrate the other way \
                               round, or to an empty location.";

fn refused<T>(sentence: &str) -> Result<T> {
    Err(Error::MigrationRefused(sentence.to_owned()))
}

/// Checks that `to` is empty, and marks it, or that it holds an unfinished migration or an older state of this store.
async fn check_target(from: &Core, to: &Core, store: uuid::Uuid) -> Result<()> {
    for target in [&to.primary, to.archive.store()] {
        target.check_conditional_writes(&layout::scratch()).await?;
    }
    if let Some(other) = marker::read(&to.primary).await? {
        return if other == store { Ok(()) } else { refused("Another store is being migrated to this location.") };
    }
    to.catalog.refresh().await?;
    match to.catalog.store_id() {
        Some(found) if found == store => {
            return if to.catalog.is_ahead_of(&from.catalog.view()).await? { refused(TARGET_IS_AHEAD) } else { Ok(()) };
        }
        // A server that was once started here has left an empty store.
        Some(_) if to.catalog.view().totals().uploads() == 0 && holds_no_images(to).await? => {}
        None if is_empty(&to.primary).await? && is_empty(to.archive.store()).await? => {}
        _ => return refused("The location to migrate to is not empty, and is not this store."),
    }
    match marker::put(&to.primary, store, to.clock.now()).await? {
        true => Ok(()),
        false => refused("Another migration to this location has just begun. Run this one again."),
    }
}

/// Whether a store holds nothing except files whose name begins with a dot.
async fn is_empty(store: &Store) -> Result<bool, StoreError> {
    let mut all = store.list("", None);
    while let Some(meta) = all.try_next().await? {
        if !meta.key.as_str().starts_with('.') {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn holds_no_images(to: &Core) -> Result<bool, StoreError> {
    let mut uploads = to.primary.list(layout::UPLOADS, None);
    while let Some(meta) = uploads.try_next().await? {
        if layout::parse_image(&meta.key).is_some() {
            return Ok(false);
        }
    }
    let archive = to.archive.store();
    let mut copies = archive.list(layout::ARCHIVED_IMAGES, None);
    Ok(copies.try_next().await?.is_none() && backup_names(archive).await?.is_empty())
}

/// The backups of an archive, complete or not.
async fn backup_names(archive: &Store) -> Result<Vec<BackupName>, StoreError> {
    let backups = archive.list(layout::BACKUPS, None);
    backups.try_filter_map(async |meta| Ok(layout::parse_manifest(&meta.key))).try_collect().await
}

/// How many images have changed between a state and a later one. Tombstones that were dropped do not count.
async fn changes(then: &View, now: &View) -> Result<u64, CatalogError> {
    let is_newer = |Difference { before, after, .. }: &Difference| {
        after.as_ref().is_some_and(|after| before.as_ref().is_none_or(|before| after.supersedes(before)))
    };
    let newer = then.differences(now).try_filter(|difference| std::future::ready(is_newer(difference)));
    newer.try_fold(0, async |count, _| Ok(count + 1)).await
}

/// [`Error::MigrationUnfinished`] if a migration into this store has begun and not ended.
pub async fn check_migration(primary: &Store) -> Result<()> {
    match marker::read(primary).await? {
        Some(_) => Err(Error::MigrationUnfinished),
        None => Ok(()),
    }
}
