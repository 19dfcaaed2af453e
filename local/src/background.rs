//! What goes on in the background: folding, so that who opens `image-metadata.json` sees what they just did, and
//! clearing away.

use std::sync::Arc;
use std::time::Duration;

use shared::Keepsake;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// When commits are folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Shortly after each burst of changes: on a disk, where that costs nobody anything.
    EachBurst,
    /// When there are enough of them: in a bucket, where each request costs.
    WhenWorthwhile,
}

/// Changes that follow each other within this time are folded together.
const BURST: Duration = Duration::from_millis(200);
/// Of the time, at most one part in this many goes into folding; the checkpoint is written whole each time.
const SHARE: u32 = 10;
/// Without any change, a look is taken this often: tombstones grow old, and other processes may have died.
const IDLE: Duration = Duration::from_secs(3600);

/// Folds until told to stop, and once more then.
pub async fn run(keepsake: Arc<Keepsake>, pace: Pace, mut stopped: watch::Receiver<bool>) {
    loop {
        let stopping = tokio::select! {
            () = keepsake.changed.notified() => wait(BURST, &mut stopped).await,
            stopping = wait(IDLE, &mut stopped) => stopping,
        };
        let took = fold(&keepsake, if stopping { Pace::EachBurst } else { pace }).await;
        if stopping || wait(took * (SHARE - 1), &mut stopped).await {
            break;
        }
    }
    fold(&keepsake, Pace::EachBurst).await;
}

/// Once an hour, until told to stop: clears away tickets that were not completed in time and, on a disk, reads a slice
/// of everything through and repairs it. A bucket's service checks what it stores by itself, and to read everything out
/// of it could cost more than to keep it. Once a day, and an hour after the start, it prunes.
pub async fn look_after(keepsake: Arc<Keepsake>, pace: Pace, mut stopped: watch::Receiver<bool>) {
    for hour in 0_u64.. {
        if wait(IDLE, &mut stopped).await {
            return;
        }
        if hour.is_multiple_of(24) {
            prune(&keepsake).await;
        }
        if let Err(error) = keepsake.clear_tickets().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old tickets could not be cleared away");
        }
        if pace == Pace::EachBurst
            && let Err(error) = keepsake.verify_next().await
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "a part of the store could not be verified");
        }
    }
}

async fn prune(keepsake: &Keepsake) {
    match keepsake.prune(false).await {
        Ok(pruned) => match pruned.held_back {
            Some(reason) => tracing::warn!(reason, "nothing more is pruned"),
            None => tracing::info!(backups = pruned.removed.len(), bytes = pruned.bytes, "pruned"),
        },
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the store could not be pruned"),
    }
}

/// Does what uploads left for later, and folds; returns how long that took.
#[expect(clippy::disallowed_methods, reason = "pacing needs the time that has passed, not the time of day")]
async fn fold(keepsake: &Keepsake, pace: Pace) -> Duration {
    let start = Instant::now();
    if let Err(error) = keepsake.repair_suspects().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "a damaged image could not be repaired; it will be");
    }
    if let Err(error) = keepsake.catch_up().await {
        // Folding waits as well: the count of automatic backups may have to start at what is not folded yet.
        let error = &error as &dyn std::error::Error;
        tracing::warn!(error, "what uploads left for later could not be done; it will be");
        return start.elapsed();
    }
    if (pace == Pace::EachBurst || keepsake.catalog.fold_is_worthwhile())
        && let Err(error) = keepsake.catalog.fold().await
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "commits could not be folded; they will be");
    }
    start.elapsed()
}

/// Waits; returns whether the process was told to stop.
#[expect(clippy::disallowed_methods, reason = "the one place that paces folding")]
async fn wait(time: Duration, stopped: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = sleep(time) => false,
        _ = stopped.wait_for(|stopped| *stopped) => true,
    }
}
