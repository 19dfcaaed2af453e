//! Reading, describing and listing objects.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType, EncodingType};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::errors::{failure, kind, status};
use super::{PUT_ID, S3Store};
use crate::digest::Digest;
use crate::error::{ErrorKind, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, Object, ObjectMeta};

/// The result of a HEAD.
pub(super) struct Description {
    pub(super) meta: ObjectMeta,
    /// The id of the put that created the object, if a put of ours did.
    pub(super) put_id: Option<String>,
    /// The SHA-256 of the bytes, if the service stores one for the whole object.
    pub(super) digest: Option<Digest>,
}

impl S3Store {
    pub(super) async fn describe(&self, operation: &'static str, key: &Key) -> Result<Description> {
        self.describe_in(&self.bucket, operation, key).await
    }

    /// Describes an object in any bucket.
    pub(super) async fn describe_in(&self, bucket: &str, operation: &'static str, key: &Key) -> Result<Description> {
        let request = self.client.head_object().bucket(bucket).key(key.as_str()).checksum_mode(ChecksumMode::Enabled);
        match request.send().await {
            Ok(head) => {
                self.seen.store(true, Ordering::Relaxed);
                let meta = meta(operation, key.clone(), head.content_length, head.e_tag, head.last_modified)?;
                let put_id = head.metadata.as_ref().and_then(|m: &HashMap<_, _>| m.get(PUT_ID).cloned());
                // For an object uploaded in parts it may be a digest of digests.
                let of_digests = head.checksum_type == Some(ChecksumType::Composite);
                let digest =
                    head.checksum_sha256.filter(|_| !of_digests).and_then(|digest| Digest::from_base64(&digest));
                Ok(Description { meta, put_id, digest })
            }
            Err(e) if status(&e) == Some(404) => {
                if bucket != self.bucket || !self.seen.load(Ordering::Relaxed) {
                    self.check_bucket(bucket, operation, key.as_str()).await?;
                }
                Err(StoreError::new(operation, key, ErrorKind::NotFound))
            }
            Err(e) => Err(failure(operation, key, e)),
        }
    }

    pub(super) async fn get_object(&self, key: &Key, range: Option<Range<u64>>) -> Result<Object> {
        // A header cannot express an empty range, and no object is long enough for the others.
        if range.as_ref().is_some_and(|range| range.is_empty() || i64::try_from(range.start).is_err()) {
            return self.get_nothing(key).await;
        }
        let header = range.as_ref().map(|range| match i64::try_from(range.end) {
            Ok(end) => format!("bytes={}-{}", range.start, end - 1),
            Err(_) => format!("bytes={}-", range.start),
        });
        let request = self.client.get_object().bucket(&self.bucket).key(key.as_str()).set_range(header);
        let got = match request.send().await {
            Ok(got) => got,
            Err(e) if range.is_some() && status(&e) == Some(416) => return self.get_nothing(key).await,
            Err(e) => {
                if kind(&e) == ErrorKind::NotFound {
                    self.seen.store(true, Ordering::Relaxed);
                }
                return Err(failure("get", key, e));
            }
        };
        self.seen.store(true, Ordering::Relaxed);
        let size = match &range {
            None => got.content_length,
            Some(range) => match got.content_range.as_deref().and_then(parse_content_range) {
                Some((start, size)) if start == range.start => Some(size),
                _ => return Err(odd_answer("get", key.as_str(), "the answer is not the range that was asked for")),
            },
        };
        let length = got.content_length.and_then(|length| u64::try_from(length).ok()).unwrap_or_default();
        let meta = meta("get", key.clone(), size, got.e_tag, got.last_modified)?;
        Ok(Object { meta, body: body(got.body, length, key.to_string()) })
    }

    /// An object without any of its bytes, which S3 cannot express.
    async fn get_nothing(&self, key: &Key) -> Result<Object> {
        let meta = self.describe("get", key).await?.meta;
        Ok(Object { meta, body: stream::empty().boxed() })
    }
}

/// The start and the total size in `bytes <start>-<end>/<size>`.
fn parse_content_range(header: &str) -> Option<(u64, i64)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, size.parse().ok()?))
}

/// The bytes of a response, with an error at the end unless there are exactly `length` and they match S3's checksum.
fn body(bytes: ByteStream, length: u64, key: String) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((bytes, 0), move |(mut bytes, received)| {
        let key = key.clone();
        async move {
            match bytes.next().await {
                Some(Ok(chunk)) => {
                    let received = received + chunk.len() as u64;
                    Ok(Some((chunk, (bytes, received))))
                }
                // All bytes were received, so the checksum at the end failed, not the connection.
                Some(Err(e)) if received == length => Err(StoreError::caused("get", key, ErrorKind::Corrupt, e)),
                Some(Err(e)) => Err(StoreError::caused("get", key, ErrorKind::Unavailable, e)),
                None if received == length => Ok(None),
                None => Err(odd_answer("get", &key, "the answer has another length than it said")),
            }
        }
    })
    .boxed()
}

/// The position of a listing: the token of its next page.
enum Page {
    First(Option<String>),
    Next(String),
    Last,
}

pub(super) fn list(
    store: S3Store,
    prefix: String,
    start_after: Option<String>,
) -> BoxStream<'static, Result<ObjectMeta>> {
    let pages = stream::try_unfold(Page::First(start_after), move |page| {
        let (store, prefix) = (store.clone(), prefix.clone());
        async move {
            // Encoded, because XML cannot represent every object name.
            let request = store.client.list_objects_v2().encoding_type(EncodingType::Url);
            let request = request.bucket(&store.bucket).prefix(&prefix);
            let request = match page {
                Page::First(start_after) => request.set_start_after(start_after),
                Page::Next(token) => request.continuation_token(token),
                Page::Last => return Ok(None),
            };
            let listed = request.send().await.map_err(|e| failure("list", &prefix, e))?;
            store.seen.store(true, Ordering::Relaxed);
            let encoded = listed.encoding_type == Some(EncodingType::Url);
            let mut objects = Vec::new();
            for object in listed.contents.unwrap_or_default() {
                let name = object.key.unwrap_or_default();
                match Key::new(if encoded { decode(&name) } else { name }) {
                    Ok(key) => objects.push(meta("list", key, object.size, object.e_tag, object.last_modified)),
                    Err(e) => tracing::warn!(reason = %e, "left out of a listing what cannot be an object"),
                }
            }
            let next = match (listed.is_truncated, listed.next_continuation_token) {
                (Some(true), Some(token)) => Page::Next(token),
                (Some(true), None) => {
                    return Err(odd_answer("list", &prefix, "the list goes on, but does not say where"));
                }
                _ => Page::Last,
            };
            Ok(Some((stream::iter(objects), next)))
        }
    });
    pages.try_flatten().boxed()
}

/// Decodes a name that S3 encoded like a form field.
fn decode(name: &str) -> String {
    percent_decode_str(&name.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// Converts S3's description of an object, or fails if it is incomplete.
fn meta(
    operation: &'static str,
    key: Key,
    size: Option<i64>,
    etag: Option<String>,
    modified: Option<DateTime>,
) -> Result<ObjectMeta> {
    let size = size.and_then(|size| u64::try_from(size).ok());
    let modified = modified.and_then(|time| Timestamp::from_nanosecond(time.as_nanos()).ok());
    match (size, etag, modified) {
        (Some(size), Some(etag), Some(modified)) => Ok(ObjectMeta { key, size, etag: ETag(etag), modified }),
        _ => Err(odd_answer(operation, key.as_str(), "the answer lacks the object's size, etag or time")),
    }
}

/// A response that S3 itself would not send.
fn odd_answer(operation: &'static str, key: &str, reason: &'static str) -> StoreError {
    StoreError::caused(operation, key, ErrorKind::Corrupt, reason)
}
