//! The clock of the service, derived from its responses.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};

/// Smaller differences are ignored: responses have whole seconds, and take time to arrive.
const TOLERANCE: i64 = 60;

/// How far the service's clock is ahead of this machine's, according to its last response. Clones share the value.
///
/// The SDK corrects its own signatures if the clocks differ, but URLs are signed without a request: a clock that is
/// fifteen minutes behind would sign URLs that have already expired.
#[derive(Clone, Debug, Default)]
pub(super) struct ServiceClock(Arc<AtomicI64>);

impl ServiceClock {
    /// Whole seconds, negative if the service's clock is behind; `None` if the clocks are about equal.
    pub(super) fn ahead_seconds(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ahead| ahead.abs() > TOLERANCE)
    }

    /// The current time according to the service's clock.
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
