//! Thumbnails: thumbnails of images, made when they are asked for.
//!
//! A thumbnail is worth nothing: whatever happens to it, it is made again from the image. So it is in no backup, is
//! verified by nobody, and a store that cannot take it serves it all the same. It is the one thing that a GET writes.
//!
//! How pixels are scaled is for a [`Scaler`] to know, so that who needs none carries no decoder. What is here limits it:
//! memory that all of them share, one at a time for each processor, and one making for all who ask for the same.

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

pub use form::{Bounds, Form, Formats, Pinned, WIDTHS};
pub use limits::Limits;
pub use scaler::{LOOKING, Scaler, Thumbnail, Unscalable};
pub use source::ThumbnailSource;

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

/// Makes thumbnails, within limits that all requests of a process share.
#[derive(Debug)]
pub struct Thumbnails {
    scaler: Arc<dyn Scaler>,
    permits: MemoryPermits,
    limits: Limits,
    cache: Cache,
    /// What is being made now, for whoever asks for the same meanwhile.
    making: Mutex<HashMap<(Digest, Form), Weak<Making>>>,
}

/// How making one ended, for all who waited for it.
type Made = std::result::Result<Thumbnail, Refusal>;

/// Why none was made.
#[derive(Clone, Debug)]
enum Refusal {
    /// For this reason, which is the image's.
    Image(String),
    /// There was no turn in time.
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

/// Filled once by the first who asks, or by the next where that one stops waiting.
type Making = OnceCell<Made>;

impl Thumbnails {
    /// Thumbnails by `scaler`, within `limits`.
    pub fn new(scaler: Arc<dyn Scaler>, limits: Limits) -> Self {
        let (permits, cache) = (MemoryPermits::new(&limits), Cache::new(limits.cache_bytes));
        Self { scaler, permits, limits, cache, making: Mutex::default() }
    }

    /// What tells this form of this content from every other, and from what another version makes of it.
    pub fn identity(&self, content: Digest, form: Form) -> Digest {
        Digest::of(format!("derivative {} {form} {content}", self.scaler.version()).as_bytes())
    }

    /// A form of an image. `content` tells its bytes from all others: their digest, where the record knows it.
    ///
    /// Whoever stops waiting takes nothing away from others who wait for the same.
    pub async fn get(
        &self,
        from: &ThumbnailSource,
        id: &ImageId,
        record: &Record,
        content: Digest,
        form: Form,
    ) -> Result<Thumbnail> {
        // What an imported record does not name yet is not kept either: nothing would tell when it is gone.
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
                // The file that was found went before it was read. Its replica is as good.
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
                self.cache.keep(from, content, key, made).await;
            }
            made
        });
        Ok(made.await?.clone()?)
    }

    /// Removes thumbnails whose images are gone, and the oldest where there are too many; returns how many went.
    pub async fn sweep(&self, from: &ThumbnailSource) -> Result<u64> {
        self.cache.sweep(from).await
    }

    /// Whether thumbnails are kept for whoever asks next.
    pub fn are_kept(&self) -> bool {
        self.limits.cache_bytes > 0
    }

    fn cell(&self, content: Digest, form: Form) -> Arc<Making> {
        let mut making = lock(&self.making);
        if let Some(cell) = making.get(&(content, form)).and_then(Weak::upgrade) {
            return cell;
        }
        // What nobody waits for any more.
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
        let Some(turn) = self.permits.enter(looking).await else { return Ok(Err(Refusal::Busy)) };
        let header = Ranged::open(&store, meta.key, meta.size).await?;
        let found = guarded(move || {
            // However the look ends, and whoever still waits for it.
            let _turn = turn;
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
        // All who wait for the same have waited as long.
        let Some(turn) = self.permits.enter(cost).await else { return Ok(Err(Refusal::Busy)) };
        let source = from.bytes.load(id, record).await?;
        let scaler = Arc::clone(&self.scaler);
        guarded(move || {
            let made = scaler.scale(&source, format, form, cost);
            drop((source, turn));
            made
        })
        .await
    }
}

/// Runs blocking work on an image that may be anything. Whatever a decoder stumbles over, it takes nobody with it.
async fn guarded<T: Send + 'static>(
    work: impl FnOnce() -> std::result::Result<T, Unscalable> + Send + 'static,
) -> Result<std::result::Result<T, Refusal>> {
    let caught = blocking(|| catch_unwind(AssertUnwindSafe(work))).await?;
    match caught {
        Ok(Ok(done)) => Ok(Ok(done)),
        Ok(Err(Unscalable::Read(error))) => Err(unreadable(error)),
        Ok(Err(reason)) => Ok(Err(reason.into())),
        Err(_) => {
            tracing::warn!("a decoder panicked over an image; the image is not scaled");
            Ok(Err(Unscalable::Damaged.into()))
        }
    }
}

/// A store's own error, where it is one.
fn unreadable(error: io::Error) -> Error {
    match error.downcast::<StoreError>() {
        Ok(error) => Error::Store(error),
        Err(error) => Error::Media(MediaError::Read(error)),
    }
}
