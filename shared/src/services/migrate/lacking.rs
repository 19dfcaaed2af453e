//! Finds what one store lacks of another, by walking two listings in parallel, so that neither is held in memory.

use std::pin::Pin;

use futures::stream::{self, BoxStream, Peekable, Stream, StreamExt, TryStreamExt};

use crate::base::progress::Progress;
use crate::core::error::Result;
use store::{Key, ObjectMeta, Store, StoreError};

/// An object that should exist under a key.
pub(super) struct Wanted<T> {
    pub(super) key: Key,
    /// Its length in bytes, if known.
    pub(super) size: Option<u64>,
    pub(super) what: T,
}

/// Those of `wanted`, which is sorted by key, that `place` lacks or holds with another length. Each item that was
/// checked counts in `progress`.
pub(super) fn lacking<'a, T: Send + Sync + 'a>(
    wanted: impl Stream<Item = Result<Wanted<T>>> + Send + 'a,
    store: &Store,
    prefix: &str,
    progress: &'a Progress,
) -> impl Stream<Item = Result<Wanted<T>>> + Send + 'a {
    let listing = store.list(prefix, None).peekable();
    stream::try_unfold((wanted.boxed(), listing), async move |(mut wanted, mut listing)| {
        while let Some(item) = wanted.try_next().await? {
            progress.advance();
            if !is_listed(&mut listing, &item).await? {
                return Ok(Some((item, (wanted, listing))));
            }
        }
        Ok(None)
    })
}

/// Whether a listing, read up to the key of `item`, contains it.
async fn is_listed<T>(
    listing: &mut Peekable<BoxStream<'static, Result<ObjectMeta, StoreError>>>,
    item: &Wanted<T>,
) -> Result<bool, StoreError> {
    loop {
        let comes_before = match Pin::new(&mut *listing).peek().await {
            None => return Ok(false),
            Some(Ok(meta)) if meta.key > item.key => return Ok(false),
            Some(Ok(meta)) if meta.key == item.key => return Ok(item.size.is_none_or(|size| size == meta.size)),
            // An error is the next item.
            Some(_) => listing.try_next().await?.is_some(),
        };
        if !comes_before {
            return Ok(false);
        }
    }
}
