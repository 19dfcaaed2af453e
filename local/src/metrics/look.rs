//! [`Looks`]: how the stores are, asked seldom and never waited for long.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use shared::health::Health;
use shared::http::App;
use tokio::sync::watch;
use tokio::time::timeout;

/// A look serves the scrapes of this long after it: it lists the backups, which over a bucket costs requests.
const SERVES: SignedDuration = SignedDuration::from_secs(60);
/// A scrape waits this long for a new one, so that a store that does not answer does not keep it from what is counted:
/// that is when it is needed most.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(3);

/// The last look at the stores. One is taken when it is asked for and the last one is too old, and one at a time.
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
    /// The last look, a new one if the stores answer in time; `None` before there was any.
    pub async fn recent(&self, app: &App) -> Option<Arc<Health>> {
        let now = app.keepsake.core.clock.now();
        let serves = |last: &Option<Arc<Health>>| last.as_ref().is_some_and(|health| serves_at(health.now, now));
        if !serves(&self.last.borrow())
            && let Ok(turn) = Arc::clone(&self.looking).try_lock_owned()
        {
            let (app, last) = (app.clone(), self.last.clone());
            // It goes on when nobody waits for it any more.
            tokio::spawn(async move {
                last.send_replace(Some(Arc::new(app.keepsake.health.report().await)));
                drop(turn);
            });
        }
        let mut last = self.last.subscribe();
        // Late or not, what there is by then is what there is.
        let _ = timeout(SCRAPE_TIMEOUT, last.wait_for(serves)).await;
        self.last.borrow().clone()
    }
}

/// Whether a look of one moment serves at another. A clock that was set back makes it useless, not everlasting.
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
