//! [`Looks`]: the cached state of the stores, refreshed rarely and with a short timeout.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shared::health::Health;
use shared::http::App;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a look serves scrapes: it lists the backups, which costs requests in a bucket.
const SERVES: SignedDuration = SignedDuration::from_secs(60);
/// How long a scrape waits for a new look, so that an unresponsive store does not block the counters, which are then
/// needed most.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(3);

/// The last look at the stores. A new one is taken on request if the last one is too old, one at a time.
#[derive(Debug)]
pub struct Looks {
    last: watch::Sender<Option<Arc<Health>>>,
    looking: Arc<tokio::sync::Mutex<()>>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { last: watch::Sender::new(None), looking: Arc::default() }
    }
}

impl Looks {
    /// The last look, or a new one if the stores answer in time; `None` before the first.
    pub async fn recent(&self, app: &App) -> Option<Arc<Health>> {
        let now = app.keepsake.core.clock.now();
        let serves = |last: &Option<Arc<Health>>| last.as_ref().is_some_and(|health| serves_at(health.now, now));
        if !serves(&self.last.borrow())
            && let Ok(guard) = Arc::clone(&self.looking).try_lock_owned()
        {
            let (app, last) = (app.clone(), self.last.clone());
            // It continues even if no scrape waits for it any more.
            tokio::spawn(async move {
                last.send_replace(Some(Arc::new(app.keepsake.health.report().await)));
                drop(guard);
            });
        }
        let mut last = self.last.subscribe();
        // On a timeout, the last look is used.
        let _ = timeout(SCRAPE_TIMEOUT, last.wait_for(serves)).await;
        self.last.borrow().clone()
    }
}

/// Whether a look from one moment serves at another. A clock that was set back invalidates it, so that it expires.
fn serves_at(look: Timestamp, now: Timestamp) -> bool {
    now.duration_since(look).abs() < SERVES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_probe_expires_after_one_minute_despite_clock_set_back() {
        let look: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        for (seconds, serves) in [(0, true), (59, true), (60, false), (3600, false), (-5, true), (-3600, false)] {
            assert_eq!(serves_at(look, look + SignedDuration::from_secs(seconds)), serves, "{seconds}");
        }
    }
}
