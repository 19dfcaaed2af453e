//! Thumbnails: smaller renditions of images, made on request.
//!
//! A thumbnail is expendable: it can always be made again from the image. So it is in no backup, is not verified, and
//! is served even if the store cannot cache it. It is the only thing that a GET writes.
//!
//! A [`Scaler`] scales the pixels, so that a function that serves no thumbnails links no decoder. This module limits
//! its work: a shared memory budget, one thumbnail at a time per processor, and a single run for concurrent requests of
//! the same thumbnail.

mod cache;
mod form;
mod limits;
mod memory;
mod scaler;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use tokio::sync::OnceCell;

use self::cache::Cache;
use self::limits::MemoryPermits;
use crate::catalog::Record;
use crate::core::blocking;
use crate::core::counts::Outcome;
use crate::core::error::{Error, Result};
use crate::layout::ImageId;
use crate::media::{self, MediaError};
use store::digest::Digest;
use store::sync::{Mutex, lock};
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
    /// The thumbnails in progress, for concurrent requests of the same one.
    making: Mutex<HashMap<(Digest, Form), Weak<Making>>>,
}

/// The result for all requests that waited for it.
type Made = std::result::Result<Thumbnail, Refusal>;

/// Why no thumbnail was made.
#[derive(Clone, Debug)]
enum Refusal {
    /// For this reason, which lies in the image.
    Image(String),
    /// No permit became available in time.
    Busy,
}

impl From<Unscalable> for Refusal {
    fn from(reason: Unscalable) -> Self {
        Self::Image(reason.to_string())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Image(reason) => Self::NotScalable(reason),
            Refusal::Busy => Self::TooBusy,
        }
    }
}

/// Filled once by the first request, or by the next one if the first stops waiting.
type Making = OnceCell<Made>;

impl Thumbnails {
    /// Thumbnails by `scaler`, within `limits`.
    pub fn new(scaler: Arc<dyn Scaler>, limits: Limits) -> Self {
        let (permits, cache) = (MemoryPermits::new(&limits), Cache::new(limits.cache_bytes));
        Self { scaler, permits, limits, cache, making: Mutex::default() }
    }

    /// Identifies this thumbnail of this content, and distinguishes it from those of other scaler versions.
    pub fn identity(&self, content: Digest, form: Form) -> Digest {
        Digest::of(format!("derivative {} {form} {content}", self.scaler.version()).as_bytes())
    }

    /// A thumbnail of an image. `content` distinguishes its bytes from all others: their digest, if the record has it.
    ///
    /// A request that stops waiting does not affect others that wait for the same thumbnail.
    pub async fn get(
        &self,
        from: &ThumbnailSource,
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
        let cell = self.cell(content, form);
        let made = cell.get_or_try_init(async || {
            let made = match self.make(from, id, record, form).await {
                // The file was deleted before it was read. Its replica serves as well.
                Err(error) if error.store_kind() == Some(ErrorKind::NotFound) => {
                    self.make(from, id, record, form).await
                }
                made => made,
            };
            from.core.counts.add_thumbnail(match &made {
                Ok(Ok(_)) => Outcome::Made,
                Ok(Err(Refusal::Image(_))) => Outcome::Refused,
                Ok(Err(Refusal::Busy)) | Err(_) => Outcome::Failed,
            });
            if let (Ok(Ok(made)), Some(key)) = (&made, &key) {
                self.cache.keep(from, id, content, key, made).await;
            }
            made
        });
        Ok(made.await?.clone()?)
    }

    /// Removes thumbnails of deleted images, and the oldest if there are too many; returns the number removed.
    pub async fn sweep(&self, from: &ThumbnailSource) -> Result<u64> {
        self.cache.sweep(from).await
    }

    /// Whether thumbnails are cached.
    pub fn are_kept(&self) -> bool {
        self.limits.cache_bytes > 0
    }

    fn cell(&self, content: Digest, form: Form) -> Arc<Making> {
        let mut making = lock(&self.making);
        if let Some(cell) = making.get(&(content, form)).and_then(Weak::upgrade) {
            return cell;
        }
        // Drops entries that no request waits for.
        making.retain(|_, cell| cell.strong_count() > 0);
        let cell = Arc::default();
        making.insert((content, form), Arc::downgrade(&cell));
        cell
    }

    async fn make(&self, from: &ThumbnailSource, id: &ImageId, record: &Record, form: Form) -> Result<Made> {
        let (store, meta) = from.bytes.readable(id, record).await?;
        let allowed = self.limits.memory_bytes;
        if meta.size > allowed {
            return Ok(Err(Unscalable::Memory { needed: meta.size, allowed }.into()));
        }
        let (scaler, limits) = (Arc::clone(&self.scaler), from.core.settings.media);
        let looking = (meta.size + LOOKING).min(allowed);
        let Some(permit) = self.permits.enter(looking).await else { return Ok(Err(Refusal::Busy)) };
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
        let (format, cost) = match found.await? {
            Ok(found) => found,
            Err(reason) => return Ok(Err(reason)),
        };
        if cost > allowed {
            return Ok(Err(Unscalable::Memory { needed: cost, allowed }.into()));
        }
        // All requests for the same thumbnail have waited equally long.
        let Some(permit) = self.permits.enter(cost).await else { return Ok(Err(Refusal::Busy)) };
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
) -> Result<std::result::Result<T, Refusal>> {
    let caught = blocking(|| catch_unwind(AssertUnwindSafe(work))).await?;
    match caught {
        Ok(Ok(done)) => Ok(Ok(done)),
        Ok(Err(Unscalable::Read(error))) => Err(unreadable(error)),
        Ok(Err(reason)) => Ok(Err(reason.into())),
        Err(_) => {
            tracing::warn!("a decoder panicked on an image; the image is not scaled");
            Ok(Err(Unscalable::Damaged.into()))
        }
    }
}

/// The store's own error, if there is one.
fn unreadable(error: io::Error) -> Error {
    match error.downcast::<StoreError>() {
        Ok(error) => Error::Store(error),
        Err(error) => Error::Media(MediaError::Read(error)),
    }
}
