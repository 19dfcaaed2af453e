//! Merging two sorted streams of entries.

use std::cmp::Ordering;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::Stream;
use futures::stream::{BoxStream, Fuse, StreamExt};

use super::CatalogError;

type Items<K, V> = BoxStream<'static, Result<(K, V), CatalogError>>;

/// Two streams that are sorted in the order of `compare`, as one. They have no key in common.
pub(super) fn merge<K, V>(a: Items<K, V>, b: Items<K, V>, compare: fn(&K, &K) -> Ordering) -> Items<K, V>
where
    K: Unpin + Send + 'static,
    V: Unpin + Send + 'static,
{
    Merge { a: Side::new(a), b: Side::new(b), compare }.boxed()
}

struct Merge<K, V> {
    a: Side<K, V>,
    b: Side<K, V>,
    compare: fn(&K, &K) -> Ordering,
}

struct Side<K, V> {
    rest: Fuse<Items<K, V>>,
    next: Option<(K, V)>,
}

impl<K: Unpin, V: Unpin> Side<K, V> {
    fn new(items: Items<K, V>) -> Self {
        Self { rest: items.fuse(), next: None }
    }

    /// Reads the next item, unless it has been read.
    fn poll_peek(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CatalogError>> {
        if self.next.is_none() {
            self.next = ready!(self.rest.poll_next_unpin(context)).transpose()?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<K: Unpin, V: Unpin> Stream for Merge<K, V> {
    type Item = Result<(K, V), CatalogError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        ready!(this.a.poll_peek(context))?;
        ready!(this.b.poll_peek(context))?;
        let is_first = match (&this.a.next, &this.b.next) {
            (Some((a, _)), Some((b, _))) => (this.compare)(a, b).is_le(),
            (a, _) => a.is_some(),
        };
        let side = if is_first { &mut this.a } else { &mut this.b };
        Poll::Ready(side.next.take().map(Ok))
    }
}
