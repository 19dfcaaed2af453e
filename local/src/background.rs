//! Background work: replication, compaction, `image-metadata.json`, and cleanup.

use std::sync::Arc;
use std::time::Duration;

use shared::catalog::METADATA_FILE_EVERY;
use shared::recovery::Report;
use shared::store::ErrorKind;
use shared::thumbnails::Thumbnails;
use shared::{Keepsake, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// When commits are compacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Shortly after each burst of changes: on a disk, where that is cheap.
    EachBurst,
    /// When there are enough of them: in a bucket, where each request costs money.
    WhenWorthwhile,
    /// Later; only what follows each change is done.
    NotYet,
}

/// Changes that follow each other within this time are compacted together.
const BURST: Duration = Duration::from_millis(200);
/// In a large store, a compaction writes a few pages for one change as for many: so often, and
const LARGE_BURST: Duration = Duration::from_secs(20);
/// after so many changes.
const LARGE_BURST_CHANGES: usize = 256;
/// Compaction takes at most one part in this many of the time.
const SHARE: u32 = 10;
/// Without changes, the work runs at this interval: tombstones expire, and other processes may have died.
const IDLE: Duration = Duration::from_secs(3600);
/// When the first run takes place after the start: before hosts that stop idle instances, some after fifteen minutes,
/// do so.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// The first pause before a retry,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and the longest one.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// How long replication may delay a stop. Docker kills a container ten seconds after the stop signal, and other hosts
/// later: this leaves time for requests and for work that cannot be interrupted.
const LAST: Duration = Duration::from_secs(6);

/// Replicates and compacts until stopped, and then once more, as far as time permits. While the archive is unavailable,
/// it retries.
pub async fn run(keepsake: Arc<Keepsake>, pace: Pace, stopped: watch::Receiver<bool>) {
    if within(LAST, stopped.clone(), keep_compacting(&keepsake, pace, stopped)).await.is_none() {
        tracing::warn!("some replicas are still pending; the next start makes them");
    }
}

#[expect(clippy::disallowed_methods, reason = "pacing needs the time that has passed, not the time of day")]
async fn keep_compacting(keepsake: &Keepsake, pace: Pace, mut stopped: watch::Receiver<bool>) {
    let (mut pause, mut compacted) = (Pause::default(), Instant::now());
    loop {
        let idle = pause.length.unwrap_or_else(|| until_next(keepsake, pace));
        let stopping = tokio::select! {
            () = keepsake.core.changed.notified() => wait(BURST, &mut stopped).await,
            stopping = wait(idle, &mut stopped) => stopping,
        };
        if stopping {
            break;
        }
        let catalog = &keepsake.core.catalog;
        let waits = pace == Pace::EachBurst
            && !catalog.is_small()
            && catalog.uncompacted() < LARGE_BURST_CHANGES
            && compacted.elapsed() < LARGE_BURST;
        let (took, outcome) = compact(keepsake, if waits { Pace::NotYet } else { pace }).await;
        if !waits {
            compacted = Instant::now();
        }
        pause.after(&outcome);
        if wait(took * (SHARE - 1), &mut stopped).await {
            break;
        }
    }
    // A failure is logged, and the next start continues the work.
    let _ = compact(keepsake, Pace::EachBurst).await;
    if pace == Pace::EachBurst {
        let written = keepsake.core.catalog.write_files().await.map_err(shared::Error::from);
        warn_of(&written, "image-metadata.json could not be written");
    }
}

/// How soon there is something to do without a change.
fn until_next(keepsake: &Keepsake, pace: Pace) -> Duration {
    let catalog = &keepsake.core.catalog;
    match pace {
        Pace::EachBurst if catalog.uncompacted() > 0 => LARGE_BURST,
        Pace::EachBurst if catalog.has_outdated_files() => METADATA_FILE_EVERY.unsigned_abs(),
        _ => IDLE,
    }
}

/// Runs `work` for at most this long after a stop; `None` if that was too short. Dropped work can be repeated.
#[expect(clippy::disallowed_methods, reason = "limits how long stopping takes")]
pub async fn within<T>(time: Duration, mut stopped: watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let too_late = async {
        // An error means that the sender is gone.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        sleep(time).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = too_late => None,
    }
}

/// Makes what the first search would have to read known before it; not in a bucket, where each page is a request.
pub async fn prepare_searches(keepsake: Arc<Keepsake>, mut stopped: watch::Receiver<bool>) {
    let view = keepsake.core.catalog.view();
    tokio::select! {
        _ = stopped.wait_for(|stopped| *stopped) => {}
        noted = view.note_all() => match noted {
            Ok(()) => {}
            // A request, a verification or the next start will meet it, and handle it.
            Err(error) => tracing::debug!(%error, "the pages of the catalog could not all be read"),
        },
    }
}

/// Completes a recovery that has been running since the start, or that was not possible then.
pub async fn recover(
    keepsake: Arc<Keepsake>,
    mut running: Option<JoinHandle<Result<Report>>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut pause = Pause { length: Some(FIRST_PAUSE) };
    loop {
        let outcome = match running.take() {
            Some(running) => match running.await {
                Ok(outcome) => outcome,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            None if wait(pause.length.unwrap_or(FIRST_PAUSE), &mut stopped).await => return,
            None => try_to_recover(&keepsake).await,
        };
        pause.after(&outcome);
        match outcome {
            Ok(report) => {
                tracing::info!(report.images, report.brought_back, report.archived, "the store is whole");
                return;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(
                    error,
                    "the store could not be recovered yet; images are served from the archive where needed"
                );
            }
        }
    }
}

/// When to look, after a start, for data that the previous instance may still have written to the archive. Hosts let it
/// run for up to a minute and give it some more time to stop.
const OVERLAP: [Duration; 4] =
    [Duration::from_secs(15), Duration::from_secs(30), Duration::from_secs(60), Duration::from_secs(240)];

/// Loads what another instance, with its own disk, acknowledges after this one has started.
pub async fn look_again(keepsake: Arc<Keepsake>, mut stopped: watch::Receiver<bool>) {
    for pause in OVERLAP {
        if wait(pause, &mut stopped).await {
            return;
        }
        let looked = keepsake.recovery.look_at_archive_again().await;
        warn_of(&looked, "the archive could not be read again; images of another instance may be missing");
    }
}

async fn try_to_recover(keepsake: &Keepsake) -> Result<Report> {
    keepsake.core.check_archive().await?;
    let report = keepsake.recovery.recover().await?;
    keepsake.persistence.note_start().await;
    Ok(report)
}

/// The pause before a retry: longer each time, up to a limit.
#[derive(Debug, Default)]
struct Pause {
    length: Option<Duration>,
}

impl Pause {
    fn after<T>(&mut self, outcome: &Result<T>) {
        self.length = match outcome {
            Ok(_) => None,
            // Errors that a person must fix.
            Err(error) if error.store_kind() != Some(ErrorKind::Unavailable) => Some(LAST_PAUSE * 10),
            Err(_) => Some(self.length.map_or(FIRST_PAUSE, |length| (length * 2).min(LAST_PAUSE))),
        };
    }
}

/// Runs ten minutes after the start and then once an hour, until stopped: clears abandoned tickets and, on a disk,
/// verifies and repairs one slice. A bucket's service checks its data itself, and reading everything out of it could
/// cost more than storing it. In its first run, and then once a day, it prunes.
pub async fn look_after(
    keepsake: Arc<Keepsake>,
    thumbnails: Option<Arc<Thumbnails>>,
    pace: Pace,
    mut stopped: watch::Receiver<bool>,
) {
    for hour in 0_u64.. {
        if wait(if hour == 0 { FIRST_LOOK } else { IDLE }, &mut stopped).await {
            return;
        }
        if hour.is_multiple_of(24) {
            prune(&keepsake).await;
        }
        warn_of(&keepsake.tickets.clear().await, "old tickets could not be deleted");
        if let Some(thumbnails) = &thumbnails {
            warn_of(&thumbnails.sweep(&keepsake.thumbnails).await, "old thumbnails could not be deleted");
        }
        if pace == Pace::EachBurst {
            warn_of(&keepsake.verifier.verify_next().await, "a part of the store could not be verified");
        }
    }
}

async fn prune(keepsake: &Keepsake) {
    match keepsake.pruner.prune_by_schedule().await {
        Ok(pruned) => match pruned.held_back {
            Some(reason) => tracing::warn!(reason, "nothing more is pruned"),
            None => tracing::info!(backups = pruned.removed.len(), bytes = pruned.bytes, "pruned"),
        },
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the store could not be pruned"),
    }
}

/// Does the work that changes have deferred, and compacts; returns how long that took, and the result.
#[expect(clippy::disallowed_methods, reason = "pacing needs the time that has passed, not the time of day")]
async fn compact(keepsake: &Keepsake, pace: Pace) -> (Duration, Result<()>) {
    let start = Instant::now();
    warn_of(&keepsake.verifier.repair_suspects().await, "a damaged image could not be repaired; it will be retried");
    let outcome = match pace {
        // The file that users open is written first, even while the archive is unavailable.
        Pace::EachBurst => match keepsake.replication.compact_all().await {
            Ok(()) => keepsake.maintenance.catch_up().await,
            Err(error) => Err(error),
        },
        Pace::NotYet => keepsake.maintenance.catch_up().await,
        // Compaction comes last: the count of automatic backups may have to start at the commits that are still
        // pending.
        Pace::WhenWorthwhile => match keepsake.maintenance.catch_up().await {
            Ok(()) if keepsake.core.catalog.compaction_is_worthwhile() => {
                keepsake.replication.compact().await.map(drop)
            }
            outcome => outcome,
        },
    };
    warn_of(&outcome, "replication or compaction failed; it will be retried");
    if outcome.as_ref().is_err_and(shared::Error::is_damaged_catalog) {
        warn_of(&keepsake.recovery.repair_catalog().await, "the catalog could not be repaired; it will be retried");
    }
    (start.elapsed(), outcome)
}

fn warn_of<T>(outcome: &Result<T>, message: &str) {
    if let Err(error) = outcome {
        tracing::warn!(error = error as &dyn std::error::Error, "{message}");
    }
}

/// Waits; returns whether the process was stopped.
#[expect(clippy::disallowed_methods, reason = "the one place that paces compaction")]
async fn wait(time: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = sleep(time) => false,
        _ = stopped.wait_for(|stopped| *stopped) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_limits_work_in_progress() {
        let (stop, stopped) = watch::channel(false);
        let short = Duration::from_millis(1);
        let endless = within(short, stopped.clone(), std::future::pending::<()>());
        let stopping = async { stop.send_replace(true) };
        let (ended, _) = tokio::join!(endless, stopping);
        assert_eq!(ended, None);
        assert_eq!(within(short, stopped, async { 1 }).await, Some(1), "what is done by then counts");
    }
}
