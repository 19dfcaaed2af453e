//! The clock of the service, as its answers show it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

/// Clocks that differ by less are taken for equal: answers tell whole seconds, and take some to arrive.
const TOLERANCE: i64 = 60;

/// By how much the service's clock is ahead of this machine's, by its last answer. Clones share what they note.
///
/// The SDK mends its own signatures where the clocks differ, but URLs are signed without a request: by a clock that is
/// fifteen minutes behind, each has expired before anybody uses it.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceClock(Arc<AtomicI64>);

impl ServiceClock {
    /// Whole seconds, negative where the service's clock is behind; `None` where the clocks are about equal.
    pub(super) fn ahead_seconds(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| ahead.abs() > TOLERANCE)
    }

    /// The time, by the service's clock.
    pub(super) fn now(&self) -> SystemTime {
        let ahead = self.ahead_seconds().unwrap_or_default();
        let by = Duration::from_secs(ahead.unsigned_abs());
        let moved = if ahead < 0 { here().checked_sub(by) } else { here().checked_add(by) };
        moved.unwrap_or_else(here)
    }
}

#[expect(clippy::disallowed_methods, reason = "the machine's clock is what is compared with the service's")]
fn here() -> SystemTime {
    SystemTime::now()
}

impl Intercept for ServiceClock {
    fn name(&self) -> &'static str {
        "ServiceClock"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().and_then(|response| response.headers().get("date"));
        if let Some(there) = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok()) {
            self.0.store(there.secs().saturating_sub(DateTime::from(here()).secs()), Ordering::Relaxed);
        }
        Ok(())
    }
}
