//! What goes on in the background: compacting, so that who opens `image-metadata.json` sees what they just did, and
//! clearing away.

use std::sync::Arc;
use std::time::Duration;

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
    /// Shortly after each burst of changes: on a disk, where that costs nobody anything.
    EachBurst,
    /// When there are enough of them: in a bucket, where each request costs.
    WhenWorthwhile,
}

/// Changes that follow each other within this time are compacted together.
const BURST: Duration = Duration::from_millis(200);
/// Of the time, at most one part in this many goes into compaction; the checkpoint is written whole each time.
const SHARE: u32 = 10;
/// Without any change, a look is taken this often: tombstones grow old, and other processes may have died.
const IDLE: Duration = Duration::from_secs(3600);
/// How long after the start the first look is taken: before a host that stops whoever is idle, as some do after fifteen
/// minutes, has done so.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// What failed is tried again after this long at first,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and after this long at last.
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// How long replicas may hold up a stop. Docker kills a container ten seconds after it was told to stop, and other hosts later:
/// this leaves time for requests and for what cannot be interrupted.
const LAST: Duration = Duration::from_secs(6);

/// Makes replicas and compacts until told to stop, and once more then, as far as there is time. While the archive is
/// away, it tries again and again.
pub async fn run(keepsake: Arc<Keepsake>, pace: Pace, stopped: watch::Receiver<bool>) {
    if within(LAST, stopped.clone(), keep_compacting(&keepsake, pace, stopped)).await.is_none() {
        tracing::warn!("replicas are still to be made; the next start goes on with them");
    }
}

async fn keep_compacting(keepsake: &Keepsake, pace: Pace, mut stopped: watch::Receiver<bool>) {
    let mut pause = Pause::default();
    loop {
        let stopping = tokio::select! {
            () = keepsake.core.changed.notified() => wait(BURST, &mut stopped).await,
            stopping = wait(pause.length.unwrap_or(IDLE), &mut stopped) => stopping,
        };
        if stopping {
            break;
        }
        let (took, outcome) = compact(keepsake, pace).await;
        pause.after(&outcome);
        if wait(took * (SHARE - 1), &mut stopped).await {
            break;
        }
    }
    // What fails now is in the log, and the next start goes on with it.
    let _ = compact(keepsake, Pace::EachBurst).await;
}

/// Works for at most this long after a stop; `None` where that was too short. Whatever is dropped may be done again.
#[expect(clippy::disallowed_methods, reason = "limits how long stopping takes")]
pub async fn within<T>(time: Duration, mut stopped: watch::Receiver<bool>, work: impl Future<Output = T>) -> Option<T> {
    let too_late = async {
        // An error means that nobody is left who could say it.
        let _ = stopped.wait_for(|stopped| *stopped).await;
        sleep(time).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = too_late => None,
    }
}

/// Brings a recovery to its end that goes on since the start, or that was not possible then.
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
                tracing::error!(error, "the store could not be recovered yet; images are served from where they are");
            }
        }
    }
}

/// After each of these times following a start, a look is taken at what the instance before this one may still have put into
/// the archive. Hosts let it run for up to a minute and give it some more to stop.
const OVERLAP: [Duration; 4] =
    [Duration::from_secs(15), Duration::from_secs(30), Duration::from_secs(60), Duration::from_secs(240)];

/// Takes in what another instance, with a disk of its own, acknowledges after this one has started.
pub async fn look_again(keepsake: Arc<Keepsake>, mut stopped: watch::Receiver<bool>) {
    for pause in OVERLAP {
        if wait(pause, &mut stopped).await {
            return;
        }
        if let Err(error) = keepsake.recovery.look_at_archive_again().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "the archive could not be read again; what another instance stored may be missing here"
            );
        }
    }
}

async fn try_to_recover(keepsake: &Keepsake) -> Result<Report> {
    keepsake.core.check_archive().await?;
    let report = keepsake.recovery.recover().await?;
    keepsake.persistence.note_start().await;
    Ok(report)
}

/// How long to wait before what failed is tried again: longer each time, up to a limit.
#[derive(Debug, Default)]
struct Pause {
    length: Option<Duration>,
}

impl Pause {
    fn after<T>(&mut self, outcome: &Result<T>) {
        self.length = match outcome {
            Ok(_) => None,
            // What a person has to see to.
            Err(error) if error.store_kind() != Some(ErrorKind::Unavailable) => Some(LAST_PAUSE * 10),
            Err(_) => Some(self.length.map_or(FIRST_PAUSE, |length| (length * 2).min(LAST_PAUSE))),
        };
    }
}

/// Ten minutes after the start and then once an hour, until told to stop: clears away tickets that were not completed in
/// time and, on a disk, reads a slice of everything through and repairs it. A bucket's service checks what it stores by
/// itself, and to read everything out of it could cost more than to keep it. At the first of these times, and then once a
/// day, it prunes.
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
        if let Err(error) = keepsake.tickets.clear().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old tickets could not be cleared away");
        }
        if let Some(thumbnails) = &thumbnails
            && let Err(error) = thumbnails.sweep(&keepsake.thumbnails).await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "old derivatives could not be cleared away");
        }
        if pace == Pace::EachBurst
            && let Err(error) = keepsake.verifier.verify_next().await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a part of the store could not be verified");
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

/// Does what changes left for later, and compacts; returns how long that took, and how it ended.
#[expect(clippy::disallowed_methods, reason = "pacing needs the time that has passed, not the time of day")]
async fn compact(keepsake: &Keepsake, pace: Pace) -> (Duration, Result<()>) {
    let start = Instant::now();
    if let Err(error) = keepsake.verifier.repair_suspects().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "a damaged image could not be repaired; it will be");
    }
    let outcome = match pace {
        // The file that people open is written first, also while the archive is away.
        Pace::EachBurst => match keepsake.replication.compact_all().await {
            Ok(()) => keepsake.maintenance.catch_up().await,
            Err(error) => Err(error),
        },
        // Compaction waits: the count of automatic backups may have to start at what is not compacted yet.
        Pace::WhenWorthwhile => match keepsake.maintenance.catch_up().await {
            Ok(()) if keepsake.core.catalog.compaction_is_worthwhile() => {
                keepsake.replication.compact().await.map(drop)
            }
            outcome => outcome,
        },
    };
    if let Err(error) = &outcome {
        let error = error as &dyn std::error::Error;
        tracing::warn!(error, "replicas could not be made, or commits not be folded; they will be");
    }
    (start.elapsed(), outcome)
}

/// Waits; returns whether the process was told to stop.
#[expect(clippy::disallowed_methods, reason = "the one place that paces folding")]
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
    async fn work_that_is_under_way_when_the_process_is_told_to_stop_is_limited_too() {
        let (stop, stopped) = watch::channel(false);
        let short = Duration::from_millis(1);
        let endless = within(short, stopped.clone(), std::future::pending::<()>());
        let stopping = async { stop.send_replace(true) };
        let (ended, _) = tokio::join!(endless, stopping);
        assert_eq!(ended, None);
        assert_eq!(within(short, stopped, async { 1 }).await, Some(1), "what is done by then counts");
    }
}
