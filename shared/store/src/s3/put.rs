//! Putting an object: one request, and finding out its outcome if the response does not tell.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{ConfigBag, Intercept, RequestChecksumCalculation, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::put_object::PutObjectError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use http_body::{Frame, SizeHint};
use uuid::Uuid;

use super::capabilities::{Checksum, Integrity, unquoted};
use super::errors::{Failure, failure_of_kind, is_conflict, is_lost, kind, status};
use super::sdk_config::{ATTEMPT, CONNECT};
use super::{PUT_ID, S3Store};
use crate::body::Body;
use crate::digest::Hasher;
use crate::error::{ErrorKind, Optional, Result, StoreError};
use crate::key::Key;
use crate::object::{ETag, PutMode};

/// How many times a put is tried that meets another one in progress; the waits add up to three seconds.
const CONFLICTS: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(25);
/// How many times a put is tried if the service rejects a condition that holds.
const RIGHT_CONDITIONS: u32 = 3;
/// How many times bytes are sent if they arrive damaged.
const SENDS: u32 = 3;
/// A slower upload is aborted.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

impl S3Store {
    pub(super) async fn put_object(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<ETag> {
        for tried in 0..RIGHT_CONDITIONS {
            if let Some(etag) = self.put_once(key, body, mode).await? {
                return self.check_what_arrived(key, body, etag).await;
            }
            wait(FIRST_WAIT * 2_u32.pow(tried)).await;
        }
        let header = if mode == &PutMode::Create { "If-None-Match" } else { "If-Match" };
        let reason = format!("{} answers 412 to {header} though the condition holds", self.endpoint);
        Err(StoreError::caused("put", key, ErrorKind::Refused, reason))
    }

    /// Puts the object; `None` if the service rejected a condition that holds according to a HEAD.
    pub(super) async fn put_once(&self, key: &Key, body: &Body, mode: &PutMode) -> Result<Option<ETag>> {
        let put_id = new_put_id();
        let checksum = self.capabilities().integrity.checksum(body).await;
        let checksum = checksum.map_err(|e| StoreError::io("put", key, e))?;
        let lost = LostReplies::default();
        let mut tries = 1;
        let error = loop {
            match self.try_put(key, body, mode, &checksum, (&put_id, &lost)).await {
                Ok(Some(etag)) => return Ok(Some(ETag(etag))),
                Ok(None) => return self.etag_after_put(key).await.map(Some),
                Err(e) if is_conflict(&e) && tries < CONFLICTS => {
                    wait(FIRST_WAIT * 2_u32.pow(tries - 1)).await;
                    tries += 1;
                }
                Err(e) => break e,
            }
        };

        let kind = refusal(&error, mode);
        let unknown = kind == ErrorKind::Unavailable || lost.any();
        // Both a lost reply and a failed condition can mean that this put was carried out: the SDK retries, and its
        // second attempt meets the object of the first one.
        if unknown || status(&error) == Some(412) {
            match self.describe("put", key).await.optional() {
                Ok(Some(found)) if found.put_id.as_deref() == Some(&put_id) => return Ok(Some(found.meta.etag)),
                // Another change may have come and gone, so the caller has to retry.
                Ok(found) if !unknown && holds(mode, found.as_ref().map(|found| &found.meta.etag)) => return Ok(None),
                // The object of another writer, or none: if no reply was lost, this put was not carried out in between.
                Ok(_) if !unknown => {}
                _ => return Err(failure_of_kind("put", key, ErrorKind::Unavailable, error)),
            }
        }
        Err(failure_of_kind("put", key, kind, error))
    }

    /// Reads the object back if the service compares no checksum, and puts it again while the bytes differ.
    async fn check_what_arrived(&self, key: &Key, body: &Body, mut etag: ETag) -> Result<ETag> {
        if self.capabilities().integrity != Integrity::ReadBack {
            return Ok(etag);
        }
        let unknown = |source: BoxError| StoreError::caused("put", key, ErrorKind::Unavailable, source);
        for _ in 0..SENDS {
            let arrived = match self.get_object(key, None).await.optional() {
                Ok(Some(object)) if unquoted(&object.meta.etag) == unquoted(&etag) => object,
                // Another writer has replaced it since, and checks its own bytes.
                Ok(_) => return Ok(etag),
                Err(e) => return Err(unknown(Box::new(e))),
            };
            let hash = async |mut hasher: Hasher, chunk: Bytes| {
                hasher.update(&chunk);
                Ok(hasher)
            };
            match arrived.body.try_fold(Hasher::default(), hash).await {
                Ok(hasher) => {
                    if hasher.finish() == body.digest() {
                        return Ok(etag);
                    }
                }
                Err(e) => return Err(unknown(Box::new(e))),
            }
            etag = match self.put_once(key, body, &PutMode::Update(etag.clone())).await {
                Ok(Some(etag)) => etag,
                Ok(None) => break,
                Err(e) => return Err(unknown(Box::new(e))),
            };
        }
        Err(unknown("what was read back is not what was sent".into()))
    }

    /// The etag of the object just put, for services that do not return it.
    async fn etag_after_put(&self, key: &Key) -> Result<ETag> {
        match self.describe("put", key).await {
            Ok(found) => Ok(found.meta.etag),
            Err(e) => Err(StoreError::caused("put", key, ErrorKind::Unavailable, e)),
        }
    }

    /// Sends one put, with its own id, and records whether a reply to it was lost.
    pub(super) async fn try_put(
        &self,
        key: &Key,
        body: &Body,
        mode: &PutMode,
        checksum: &Checksum,
        (put_id, lost): (&str, &LostReplies),
    ) -> Result<Option<String>, Failure<PutObjectError>> {
        let request = self.client.put_object().bucket(&self.bucket).key(key.as_str());
        let request = match mode {
            PutMode::Overwrite => request,
            PutMode::Create => request.if_none_match("*"),
            PutMode::Update(etag) => request.if_match(self.capabilities().condition(etag)),
        };
        let request = match checksum {
            Checksum::Sha256(digest) => request.checksum_sha256(digest),
            Checksum::Md5(digest) => request.content_md5(digest),
            Checksum::None => request,
        };
        // Without a checksum header that it recognizes, the SDK adds one in a form that such services reject.
        let mut own =
            aws_sdk_s3::Config::builder().request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        let needed = Duration::from_secs(body.size() / SLOWEST_BYTES_PER_SECOND);
        if needed > ATTEMPT {
            let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(needed);
            own = own.timeout_config(timeouts.build());
        }
        let request = request
            .metadata(PUT_ID, put_id)
            .content_length(i64::try_from(body.size()).unwrap_or(i64::MAX))
            .set_content_type(body.content_type().map(str::to_owned))
            .body(ByteStream::new(sdk_body(body)))
            .customize()
            .interceptor(lost.clone())
            .config_override(own);
        let put = request.send().await?;
        self.seen.store(true, Ordering::Relaxed);
        Ok(put.e_tag)
    }
}

/// An id for one put, to tell its object from others.
#[expect(clippy::disallowed_methods, reason = "nobody above ever sees it, and it must be new in every process")]
pub(super) fn new_put_id() -> String {
    Uuid::new_v4().to_string()
}

#[expect(clippy::disallowed_methods, reason = "S3 asks to try again later and has no way to say when")]
async fn wait(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Whether the condition of a put holds for this current version, or for an absent object.
fn holds(mode: &PutMode, found: Option<&ETag>) -> bool {
    match (mode, found) {
        (PutMode::Create, None) => true,
        (PutMode::Update(expected), Some(found)) => unquoted(expected) == unquoted(found),
        _ => false,
    }
}

/// The error of a put that was not carried out.
fn refusal(error: &Failure<PutObjectError>, mode: &PutMode) -> ErrorKind {
    match (mode, status(error), kind(error)) {
        (PutMode::Create, Some(412), _) => ErrorKind::AlreadyExists,
        (PutMode::Update(_), Some(412), _) | (PutMode::Update(_), _, ErrorKind::NotFound) => ErrorKind::Changed,
        (_, _, kind) => kind,
    }
}

/// Whether any attempt at a request, retries by the SDK included, got no reply that tells its outcome.
#[derive(Clone, Debug, Default)]
pub(super) struct LostReplies(Arc<AtomicBool>);

impl LostReplies {
    pub(super) fn any(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Intercept for LostReplies {
    fn name(&self) -> &'static str {
        "LostReplies"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if is_lost(context.response().map(|response| response.status().as_u16())) {
            self.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A body that the SDK can send any number of times.
fn sdk_body(body: &Body) -> SdkBody {
    if let Some(bytes) = body.in_memory() {
        return SdkBody::from(bytes.clone());
    }
    let body = body.clone();
    SdkBody::retryable(move || SdkBody::from_body_1_x(Upload { stream: Mutex::new(body.stream()), size: body.size() }))
}

/// A body being sent. The lock is never contended; it only makes the stream `Sync`, as the SDK requires.
struct Upload {
    stream: Mutex<BoxStream<'static, io::Result<Bytes>>>,
    size: u64,
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let stream = self.get_mut().stream.get_mut().unwrap_or_else(PoisonError::into_inner);
        stream.poll_next_unpin(context).map_ok(Frame::data)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size)
    }
}
