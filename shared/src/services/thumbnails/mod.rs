//! Thumbnails: smaller renditions of images, made on request.
//!
//! A thumbnail is expendable: it can always be made again from the image. So it is in no backup, is not verified, and
//! is served even if the store cannot cache it. It is the only thing that a GET writes.
//!
//! A [`Scaler`] scales the pixels, so that a function that serves no thumbnails links no decoder. This module limits
//! its work: a shared memory budget, one thumbnail at a time per processor, and a single run for concurrent requests of
//! the same thumbnail.

mod cache;
mod flight;
mod form;
mod limits;
mod memory;
mod scaler;
mod source;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tracing::Instrument;

use self::cache::Cache;
use self::flight::Flights;
use self::limits::{MemoryPermits, Permit};
use crate::catalog::Record;
use crate::core::blocking;
use crate::core::counts::Outcome;
use crate::core::error::{Error, Result};
use crate::layout::ImageId;
use crate::media::{self, Format, MediaError};
use store::digest::Digest;
use store::{ErrorKind, Ranged, StoreError};

pub use form::{Bounds, Form, Formats, Pinned, WIDTHS};
pub use limits::Limits;
pub use scaler::{LOOKING, Scaler, Thumbnail, Unscalable};
pub use source::ThumbnailSource;

/// Makes thumbnails, within limits that all requests of a process share.
#[derive(Debug)]
pub struct Thumbnails {
    scaler: Arc<dyn Scaler>,
    permits: MemoryPermits,
    limits: Limits,
    cache: Cache,
    /// The thumbnails in progress.
    making: Flights<(Digest, Form), Made>,
}

/// The result for all requests that waited for it.
type Made = std::result::Result<Thumbnail, Refusal>;
/// A thumbnail in progress.
type Flight = flight::Flight<(Digest, Form), Made>;

/// Why no thumbnail was made.
#[derive(Clone, Debug)]
enum Refusal {
    /// For this reason, which lies in the image.
    Image(String),
    /// No permit became available in time.
    Busy,
    /// No store has the image's bytes.
    MissingBytes,
    /// The bytes could not be read.
    Store(Arc<StoreError>),
}

impl From<Unscalable> for Refusal {
    fn from(reason: Unscalable) -> Self {
        match reason {
            Unscalable::Read(error) => match error.downcast::<StoreError>() {
                Ok(error) => error.into(),
                Err(error) => StoreError::caused("read", "", ErrorKind::Unavailable, error).into(),
            },
            reason => Self::Image(reason.to_string()),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::MissingBytes => Self::MissingBytes,
            Error::Store(error) => error.into(),
            error => StoreError::caused("read", "", ErrorKind::Unavailable, error).into(),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Image(reason) => Self::NotScalable(reason),
            Refusal::Busy => Self::TooBusy,
            Refusal::MissingBytes => Self::MissingBytes,
            Refusal::Store(error) => Self::Store(StoreError::shared(&error)),
        }
    }
}

/// What an image's header told, and the permit to scale it.
struct Prepared {
    format: Format,
    cost: u64,
    permit: Permit,
}

impl Thumbnails {
    /// Thumbnails by `scaler`, within `limits`.
    pub fn new(scaler: Arc<dyn Scaler>, limits: Limits) -> Self {
        let (permits, cache) = (MemoryPermits::new(&limits), Cache::new(limits.cache_bytes));
        Self { scaler, permits, limits, cache, making: Flights::default() }
    }

    /// Identifies this thumbnail of this content, and distinguishes it from those of other scaler versions.
    pub fn identity(&self, content: Digest, form: Form) -> Digest {
        Digest::of(format!("derivative {} {form} {content}", self.scaler.version()).as_bytes())
    }

    /// A thumbnail of an image. `content` distinguishes its bytes from all others: their digest, if the record has it.
    ///
    /// Concurrent requests for the same thumbnail share one making, and its failure; the next request tries again. A
    /// request that stops waiting does not affect others. If it was the last one, the making leaves the queue; once the
    /// pixels are being scaled, it goes on and the thumbnail is cached.
    pub async fn get(
        self: &Arc<Self>,
        from: &Arc<ThumbnailSource>,
        id: &ImageId,
        record: &Record,
        content: Digest,
        form: Form,
    ) -> Result<Thumbnail> {
        // A thumbnail of an imported record without a digest is not cached: nothing would show when it is outdated.
        let key = record.sha256.map(|content| Cache::key(&content, self.scaler.version(), form));
        if let Some(key) = &key
            && let Some(found) = self.cache.find(from, key).await
        {
            from.core.counts.add_thumbnail(Outcome::Found);
            return Ok(found);
        }
        let (thumbnails, from, id, record) = (Arc::clone(self), Arc::clone(from), id.clone(), record.clone());
        let work = |flight: Arc<Flight>| {
            let work = async move {
                // Another making may have ended between the look above and the start of this one.
                if let Some(key) = &key
                    && let Some(found) = thumbnails.cache.find(&from, key).await
                {
                    from.core.counts.add_thumbnail(Outcome::Found);
                    return flight.land(Ok(found));
                }
                let Some(mut made) = thumbnails.make(&flight, &from, &id, &record, form).await else { return };
                if matches!(&made, Err(Refusal::Store(error)) if error.is_not_found()) {
                    // The file was deleted before it was read. Its replica serves as well.
                    let Some(again) = thumbnails.make(&flight, &from, &id, &record, form).await else { return };
                    made = again;
                }
                from.core.counts.add_thumbnail(match &made {
                    Ok(_) => Outcome::Made,
                    Err(Refusal::Image(_)) => Outcome::Refused,
                    Err(_) => Outcome::Failed,
                });
                // Nobody waits for the disk.
                flight.land(made.clone());
                if let (Ok(made), Some(key)) = (&made, &key) {
                    thumbnails.cache.keep(&from, &id, content, key, made).await;
                }
            };
            work.in_current_span()
        };
        let lost = |_| StoreError::new("scale", "", ErrorKind::Unavailable);
        Ok(self.making.join((content, form), work).await.map_err(lost)??)
    }

    /// Removes thumbnails of deleted images, and the oldest if there are too many; returns the number removed.
    pub async fn sweep(&self, from: &ThumbnailSource) -> Result<u64> {
        self.cache.sweep(from).await
    }

    /// Whether thumbnails are cached.
    pub fn are_kept(&self) -> bool {
        self.limits.cache_bytes > 0
    }

    /// `None` if all who waited for it are gone before its pixels are scaled.
    async fn make(
        &self,
        flight: &Flight,
        from: &ThumbnailSource,
        id: &ImageId,
        record: &Record,
        form: Form,
    ) -> Option<Made> {
        match flight.unless_abandoned(self.prepare(from, id, record, form)).await? {
            Ok(prepared) => Some(self.scale(from, id, record, form, prepared).await),
            Err(refusal) => Some(Err(refusal)),
        }
    }

    /// Reads the image's header, and waits for the permit to scale it.
    async fn prepare(
        &self,
        from: &ThumbnailSource,
        id: &ImageId,
        record: &Record,
        form: Form,
    ) -> std::result::Result<Prepared, Refusal> {
        let (store, meta) = from.bytes.readable(id, record).await?;
        let allowed = self.limits.memory_bytes;
        if meta.size > allowed {
            return Err(Unscalable::Memory { needed: meta.size, allowed }.into());
        }
        let (scaler, limits) = (Arc::clone(&self.scaler), from.core.settings.media);
        let looking = (meta.size + LOOKING).min(allowed);
        let permit = self.permits.enter(looking).await.ok_or(Refusal::Busy)?;
        let header = Ranged::open(&store, meta.key, meta.size).await?;
        let found = guarded(move || {
            // Held until the inspection ends, whichever requests still wait for it.
            let _guard = permit;
            let media = media::measure(&header, &limits).map_err(|error| match error {
                MediaError::Read(error) => Unscalable::Read(error),
                MediaError::TooManyPixels { .. } => Unscalable::TooLarge,
                _ => Unscalable::Damaged,
            })?;
            Ok((media.format, scaler.cost(&header, media.format, form)?))
        });
        let (format, cost) = found.await?;
        if cost > allowed {
            return Err(Unscalable::Memory { needed: cost, allowed }.into());
        }
        // All requests for the same thumbnail have waited equally long.
        let permit = self.permits.enter(cost).await.ok_or(Refusal::Busy)?;
        Ok(Prepared { format, cost, permit })
    }

    async fn scale(
        &self,
        from: &ThumbnailSource,
        id: &ImageId,
        record: &Record,
        form: Form,
        Prepared { format, cost, permit }: Prepared,
    ) -> Made {
        let source = from.bytes.load(id, record).await?;
        let scaler = Arc::clone(&self.scaler);
        guarded(move || {
            let made = scaler.scale(&source, format, form, cost);
            drop((source, permit));
            made
        })
        .await
    }
}

/// Runs blocking work on an untrusted image. A panic in a decoder is contained.
async fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, Unscalable> + Send + 'static,
) -> std::result::Result<T, Refusal> {
    match blocking(|| catch_unwind(AssertUnwindSafe(work))).await? {
        Ok(done) => Ok(done?),
        Err(_) => {
            tracing::warn!("a decoder panicked on an image; the image is not scaled");
            Err(Unscalable::Damaged.into())
        }
    }
}
