//! [`Paired`]: images beside their files. Entries and listings are both sorted by name, so that two streams are
//! compared in the memory of one element each, however large the store is.

use std::cmp::Ordering;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use futures::stream::{self, BoxStream, Peekable, Stream, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::records::ImageRecords;
use crate::catalog::Entry;
use crate::core::error::{Error, Result};
use crate::layout::{self, ImageId};
use store::{ErrorKind, ObjectMeta, StoreError};

/// A file in `uploads/` as it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Length in bytes.
    pub(crate) size: u64,
    /// When it was last put.
    pub(crate) modified: Timestamp,
}

/// A name with an entry, a file in `uploads/`, or both.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Paired {
    pub(crate) id: ImageId,
    pub(crate) entry: Option<Arc<Entry>>,
    pub(crate) file: Option<Listed>,
}

impl ImageRecords {
    /// The files in `uploads/`, in the order of their names.
    pub(crate) fn files(&self) -> BoxStream<'static, Result<(ImageId, Listed), StoreError>> {
        images(self.core.primary.list(layout::UPLOADS, None))
    }

    /// Pairs entries of a view with the files in `uploads/`.
    ///
    /// The view is older than the listing, which is read at the same time as the entries. An upload puts the bytes
    /// before the record, and a delete commits the tombstone before it deletes the bytes. So a live entry without a
    /// file has lost it, or was deleted since the view; and a file without a live entry has none, or got it since the
    /// view. A caller for whom that makes a difference looks at a newer view before it acts.
    pub(crate) fn with_files<'a>(
        &self,
        entries: impl Stream<Item = Result<(ImageId, Arc<Entry>)>> + Send + 'a,
    ) -> BoxStream<'a, Result<Paired>> {
        pair(entries, self.files().map_err(Error::from))
    }
}

/// The images in a listing of `uploads/`. One that is not sorted is an error: joined with entries, it would make images
/// look lost.
fn images(
    listing: impl Stream<Item = Result<ObjectMeta, StoreError>> + Send + 'static,
) -> BoxStream<'static, Result<(ImageId, Listed), StoreError>> {
    let mut last: Option<ImageId> = None;
    let image = move |meta: ObjectMeta| {
        let Some(id) = layout::parse_image(&meta.key) else { return ready(Ok(None)) };
        if last.as_ref().is_some_and(|last| *last >= id) {
            return ready(Err(StoreError::caused("list", meta.key, ErrorKind::Corrupt, "the list is not sorted")));
        }
        last = Some(id.clone());
        ready(Ok(Some((id, Listed { size: meta.size, modified: meta.modified }))))
    };
    listing.try_filter_map(image).boxed()
}

type Side<'a, T> = Peekable<BoxStream<'a, Result<(ImageId, T)>>>;

/// Joins entries and files that are both sorted by name.
pub(crate) fn pair<'a>(
    entries: impl Stream<Item = Result<(ImageId, Arc<Entry>)>> + Send + 'a,
    files: impl Stream<Item = Result<(ImageId, Listed)>> + Send + 'a,
) -> BoxStream<'a, Result<Paired>> {
    let sides = (entries.boxed().peekable(), files.boxed().peekable());
    let next = async |(mut entries, mut files): (Side<'a, Arc<Entry>>, Side<'a, Listed>)| {
        let order = match (Pin::new(&mut entries).peek().await, Pin::new(&mut files).peek().await) {
            (None, None) => return Ok(None),
            (Some(Ok((entry, _))), Some(Ok((file, _)))) => entry.cmp(file),
            // An error is taken first.
            (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
            (_, Some(_)) => Ordering::Greater,
        };
        let (name, entry) = if order.is_le() { entries.try_next().await?.unzip() } else { (None, None) };
        let (file_name, file) = if order.is_ge() { files.try_next().await?.unzip() } else { (None, None) };
        Ok(name.or(file_name).map(|id| (Paired { id, entry, file }, (entries, files))))
    };
    stream::try_unfold(sides, next).boxed()
}

#[cfg(test)]
mod tests {
    use store::{ETag, Key};

    use super::*;
    use crate::catalog::{Change, Content, Record};

    fn file(name: &str) -> ObjectMeta {
        let key = Key::new(format!("uploads/{name}")).unwrap();
        ObjectMeta { key, size: name.len() as u64, etag: ETag(String::new()), modified: Timestamp::UNIX_EPOCH }
    }

    fn entry(name: &str) -> (ImageId, Arc<Entry>) {
        let change = Change { version: 1, content: Content::Live(Record::default()) };
        (ImageId::new(name).unwrap(), change.stamped(uuid::Uuid::nil()))
    }

    async fn paired(entries: &[&str], files: &[&str]) -> Vec<(String, bool, Option<u64>)> {
        let entries: Vec<_> = entries.iter().map(|name| Ok(entry(name))).collect();
        let files: Vec<_> = files.iter().map(|name| Ok(file(name))).collect();
        let paired = pair(stream::iter(entries), images(stream::iter(files)).map_err(Error::from));
        let seen = |p: Paired| (p.id.to_string(), p.entry.is_some(), p.file.map(|file| file.size));
        paired.map_ok(seen).try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn entries_and_files_of_one_name_are_paired_and_others_stand_alone() {
        let found = paired(&["a.png", "b.png", "d.png"], &[".keepsake/x", "b.png", "b.png/x", "c.png", "e.png"]).await;
        let alone = |name: &str, is_entry: bool| (name.to_owned(), is_entry, (!is_entry).then_some(5));
        let both = ("b.png".to_owned(), true, Some(5));
        let wanted = [alone("a.png", true), both, alone("c.png", false), alone("d.png", true), alone("e.png", false)];
        assert_eq!(found, wanted);
        assert_eq!(paired(&[], &["a.png"]).await, [alone("a.png", false)]);
        assert_eq!(paired(&["a.png"], &[]).await, [alone("a.png", true)]);
        assert_eq!(paired(&[], &[]).await, []);
    }

    #[tokio::test]
    async fn failure_of_either_side_is_an_error_and_never_an_end() {
        let failure = || StoreError::new("list", layout::UPLOADS, ErrorKind::Unavailable);
        let (entries, files) = (stream::iter([Ok(entry("a")), Err(failure().into())]), stream::iter([Ok(file("b"))]));
        let found: Vec<_> = pair(entries, images(files).map_err(Error::from)).collect().await;
        assert!(matches!(&found[..], [Ok(_), Err(Error::Store(_))]), "{found:?}");
        let (entries, files) = (stream::iter([Ok(entry("b"))]), stream::iter([Ok(file("a")), Err(failure())]));
        let found: Vec<_> = pair(entries, images(files).map_err(Error::from)).collect().await;
        assert!(matches!(&found[..], [Ok(_), Err(Error::Store(_))]), "{found:?}");
    }

    #[tokio::test]
    async fn unsorted_listing_is_an_error() {
        for second in ["a", "b"] {
            let found: Vec<_> = images(stream::iter([Ok(file("b")), Ok(file(second))])).collect().await;
            assert!(matches!(&found[..], [Ok(_), Err(error)] if error.kind == ErrorKind::Corrupt), "{found:?}");
        }
    }
}
