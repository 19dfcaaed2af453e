//! [`Meter`]: the observer of a store's operations.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream, StreamExt};

use crate::error::{ErrorKind, Result};

/// Counts the operations of a store and measures how long they take.
pub trait Meter: Send + Sync + fmt::Debug {
    /// Records an operation that has ended; must be quick. `operation` is `put`, `get` (until the first byte is due),
    /// `read` (the bytes after that), `head`, `list`, `delete`, `copy`, `sign`, `probe`, `status` or `sweep`. For a
    /// `read` and a `list`, `took` counts only the time spent waiting for the store, not that of the consumer.
    fn note(&self, operation: &'static str, failure: Option<ErrorKind>, took: Duration);
}

/// Runs one operation and records it, if there is a meter.
pub(crate) async fn measure<T>(
    meter: Option<&Arc<dyn Meter>>,
    operation: &'static str,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let Some(meter) = meter else { return work.await };
    let begun = now();
    let outcome = work.await;
    meter.note(operation, outcome.as_ref().err().map(|error| error.kind), begun.elapsed());
    outcome
}

#[expect(clippy::disallowed_methods, reason = "how long the store takes is not a matter of the time of day")]
fn now() -> Instant {
    Instant::now()
}

/// The time that a stream from the store has taken so far; recorded when the stream is dropped.
struct Reading {
    meter: Arc<dyn Meter>,
    operation: &'static str,
    waited: Duration,
    failure: Option<ErrorKind>,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.meter.note(self.operation, self.failure, self.waited);
    }
}

/// Passes the items through and records them as one operation, if there is a meter.
pub(crate) fn measured<T: Send + 'static>(
    items: BoxStream<'static, Result<T>>,
    operation: &'static str,
    meter: Option<&Arc<dyn Meter>>,
) -> BoxStream<'static, Result<T>> {
    let Some(meter) = meter else { return items };
    let reading = Reading { meter: Arc::clone(meter), operation, waited: Duration::ZERO, failure: None };
    let next = async |(mut items, mut reading): (BoxStream<'static, Result<T>>, Reading)| {
        let begun = now();
        let item = items.next().await;
        reading.waited += begun.elapsed();
        if let Some(Err(error)) = &item {
            reading.failure = Some(error.kind);
        }
        item.map(|item| (item, (items, reading)))
    };
    stream::unfold((items, reading), next).boxed()
}
