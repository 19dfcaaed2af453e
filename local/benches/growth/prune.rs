//! A prune that has the same to remove whatever the store holds.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use shared::Keepsake;
use shared::backup::Kind;
use shared::catalog::{Change, Content, Record};
use shared::clock::Clock;
use shared::config::Config;
use shared::digest::Digest;

use crate::Result;
use crate::seed::IMAGE_BYTES;

/// What there is to remove.
const BACKUPS: usize = 10;
const IMAGES: usize = 100;

/// How long it took.
pub struct Took {
    /// To find out what there is to remove, by a process that has not looked before,
    pub first_look: Duration,
    /// the same again,
    pub look: Duration,
    /// and to do it.
    pub prune: Duration,
}

/// Makes backups that no rule keeps, each of a state of its own, and second copies that nothing names, and prunes them in
/// a process of its own whose clock is two days ahead, so that all of it is old.
pub async fn run(data: &Path) -> Result<Took> {
    let now = Clock::system();
    let keepsake = open(data, now.clone()).await?;
    for _ in 0..BACKUPS {
        edit_one(&keepsake).await?;
        keepsake.create_backup(Kind::Auto).await?;
    }
    for _ in 0..IMAGES {
        let name = Digest::of(now.new_id().as_bytes()).to_string();
        File::create_new(data.join("backups/images").join(name))?.set_len(IMAGE_BYTES as u64)?;
    }
    keepsake.catalog.fold().await?;
    // The newest of those that are not made by hand stays.
    keepsake.create_backup(Kind::Auto).await?;

    let later = Clock::manual(now.now() + SignedDuration::from_hours(48));
    let keepsake = open(data, later).await?;
    keepsake.catalog.refresh().await?;
    let (first_look, _) = prune(&keepsake, true).await?;
    let (look, _) = prune(&keepsake, true).await?;
    let (prune, removed) = prune(&keepsake, false).await?;
    if removed < (BACKUPS, IMAGES) {
        Err(format!("the prune removed {removed:?}").into())
    } else {
        Ok(Took { first_look, look, prune })
    }
}

async fn open(data: &Path, clock: Clock) -> Result<Keepsake> {
    let config = Config::from_lookup(&|name| match name {
        "DATA_DIR" => Some(data.display().to_string()),
        "KEEP_LAST" => Some("1".to_owned()),
        "KEEP_DAILY" | "KEEP_WEEKLY" | "KEEP_MONTHLY" => Some("0".to_owned()),
        _ => None,
    })?;
    Ok(shared::open(&config, clock).await?)
}

/// Gives some image another description.
async fn edit_one(keepsake: &Keepsake) -> Result<()> {
    keepsake.catalog.refresh().await?;
    let (id, version, record) = keepsake
        .catalog
        .read(|state| {
            let nth = fastrand::usize(..(state.totals().live as usize).max(1));
            let (id, entry) = state.iter().filter(|(_, entry)| entry.live().is_some()).nth(nth)?;
            Some((id.clone(), entry.stamp.version, entry.live()?.clone()))
        })
        .ok_or("the store is empty")?;
    let record = Record { description: Some(format!("edited as {}", keepsake.clock.new_id())), ..record };
    keepsake.catalog.commit(vec![(id, Change { version: version + 1, content: Content::Live(record) })]).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn prune(keepsake: &Keepsake, dry_run: bool) -> Result<(Duration, (usize, usize))> {
    let begun = Instant::now();
    let pruned = keepsake.prune(dry_run).await?;
    let took = begun.elapsed();
    match pruned.held_back {
        Some(reason) => Err(reason.into()),
        None => Ok((took, (pruned.removed.len(), pruned.images.len()))),
    }
}
