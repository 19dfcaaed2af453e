//! A prune that has the same to remove whatever the store holds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use jiff::SignedDuration;
use shared::backup::Kind;
use shared::catalog::{Change, Content, Record};
use shared::clock::Clock;
use shared::config::Config;
use shared::images::Fields;
use shared::prune::Pruned;
use shared::store::{Body, ErrorKind, Meter};
use shared::upload::NewImage;
use shared::{Keepsake, Meters};

use crate::{Result, seed};

/// What there is to remove.
const BACKUPS: usize = 10;
const IMAGES: usize = 100;

/// How long it took.
pub struct Took {
    /// To look at everything and tell what would go, by a process that has not looked before,
    pub first_sweep: Duration,
    /// the same again,
    pub sweep: Duration,
    /// to remove it by schedule,
    pub prune: Duration,
    /// and how many operations of the stores that took.
    pub operations: u64,
}

/// Counts the operations of both stores.
#[derive(Debug, Default)]
struct Operations(AtomicU64);

impl Meter for Operations {
    fn note(&self, _: &'static str, _: Option<ErrorKind>, _: Duration) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes backups that no rule keeps, each of a state of its own, of images that are then deleted; lets their tombstones go;
/// and prunes by schedule, in a process whose clock is far enough ahead for all of it to be old.
pub async fn run(data: &Path) -> Result<Took> {
    let now = Clock::system();
    let later = |days: i64| Clock::manual(now.now() + SignedDuration::from_hours(24 * days));
    // What was there to remove before is not part of it, and a sweep is not due.
    removed(&open(data, later(33), None).await?.pruner.prune(false).await?)?;
    let keepsake = open(data, now.clone(), None).await?;
    let mut ids = Vec::new();
    for _ in 0..IMAGES {
        let number = now.new_id().as_u64_pair().1;
        let image = NewImage { body: Body::from(seed::image(number)?), original_name: None };
        let uploaded = keepsake.uploads.upload(vec![image], Fields::default(), None).await?;
        ids.extend(uploaded.images.into_iter().map(|(id, _)| id));
    }
    for _ in 0..BACKUPS {
        edit_one(&keepsake).await?;
        keepsake.backups.create(Kind::Auto).await?;
    }
    for id in &ids {
        keepsake.images.delete(id.as_str(), shared::Any).await?;
    }
    keepsake.core.catalog.compact().await?;
    let keepsake = open(data, later(31), None).await?;
    keepsake.core.catalog.load().await?;
    // Their tombstones have grown old.
    keepsake.core.catalog.compact().await?;
    // The newest of those that are not made by hand stays.
    keepsake.backups.create(Kind::Auto).await?;

    let operations = Arc::new(Operations::default());
    let keepsake = open(data, later(33), Some(Arc::clone(&operations))).await?;
    keepsake.core.catalog.refresh().await?;
    let (first_sweep, _) = timed(keepsake.pruner.prune(true)).await?;
    let (sweep, _) = timed(keepsake.pruner.prune(true)).await?;
    // As a server does after its start.
    keepsake.core.catalog.view().note_all().await?;
    let before = operations.0.load(Ordering::Relaxed);
    let (prune, gone) = timed(keepsake.pruner.prune_by_schedule()).await?;
    let operations = operations.0.load(Ordering::Relaxed) - before;
    if gone < (BACKUPS, IMAGES) {
        return Err(format!("the prune removed {gone:?}").into());
    }
    match removed(&keepsake.pruner.prune(true).await?)? {
        (0, 0) => Ok(Took { first_sweep, sweep, prune, operations }),
        left => Err(format!("the prune left {left:?}").into()),
    }
}

async fn open(data: &Path, clock: Clock, operations: Option<Arc<Operations>>) -> Result<Keepsake> {
    let config = Config::from_lookup(&|name| match name {
        "DATA_DIR" => Some(data.display().to_string()),
        "KEEP_LAST" => Some("1".to_owned()),
        "KEEP_DAILY" | "KEEP_WEEKLY" | "KEEP_MONTHLY" => Some("0".to_owned()),
        "BACKUP_EVERY" => Some("1000000000".to_owned()),
        _ => None,
    })?;
    let meters = operations.map(|meter| Meters { primary: Arc::clone(&meter) as _, archive: meter });
    Ok(shared::open_metered(&config, clock, meters).await?)
}

/// Gives some image another description.
async fn edit_one(keepsake: &Keepsake) -> Result<()> {
    keepsake.core.catalog.refresh().await?;
    let view = keepsake.core.catalog.view();
    let nth = fastrand::usize(..(view.totals().live as usize).max(1));
    let (id, entry) = view.live().skip(nth).try_next().await?.ok_or("the store is empty")?;
    let (version, record) = (entry.stamp.version, entry.live().ok_or("a list shows what is deleted")?.clone());
    let record = Record { description: Some(format!("edited as {}", keepsake.core.clock.new_id())), ..record };
    keepsake.core.catalog.commit(vec![(id, Change { version: version + 1, content: Content::Live(record) })]).await?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures time")]
async fn timed(prune: impl Future<Output = shared::Result<Pruned>>) -> Result<(Duration, (usize, usize))> {
    let begun = Instant::now();
    let pruned = prune.await?;
    Ok((begun.elapsed(), removed(&pruned)?))
}

/// How many backups and images went, or would.
fn removed(pruned: &Pruned) -> Result<(usize, usize)> {
    match pruned.held_back {
        Some(reason) => Err(reason.into()),
        None => Ok((pruned.removed.len(), pruned.images.len())),
    }
}
