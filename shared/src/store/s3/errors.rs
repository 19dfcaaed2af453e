//! What the SDK's errors mean: the one place that knows.

use std::fmt;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::{ErrorKind, StoreError};

/// A failed request of any operation.
pub(super) type Failure<E> = SdkError<E, HttpResponse>;

/// The kind of a failure, whatever the operation was.
///
/// The code in the answer decides where there is one that is known, then the HTTP status. Only `NoSuchKey` says that an
/// object is not there; any other 404 is about the bucket or about something that is no S3 at all.
pub(super) fn kind<E: ProvideErrorMetadata>(failure: &Failure<E>) -> ErrorKind {
    let status = match failure {
        SdkError::ServiceError(e) => e.raw().status().as_u16(),
        // Never sent: an invalid value, or no credentials.
        SdkError::ConstructionFailure(_) => return ErrorKind::Refused,
        // A timeout, a connection that broke, an answer that cannot be read.
        _ => return ErrorKind::Unavailable,
    };
    match (status, failure.code().unwrap_or_default()) {
        (_, "NoSuchKey") => ErrorKind::NotFound,
        (_, "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch") => ErrorKind::Corrupt,
        // Ceph's and MinIO's; S3 itself has no quota.
        (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") | (507, _) => ErrorKind::Full,
        // Reported with a 400 or a 409, but another time may do.
        (_, "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict") => ErrorKind::Unavailable,
        (501, _) => ErrorKind::Refused,
        // A copy can fail after its 200 was sent.
        (200..=299 | 408 | 429 | 500.., _) => ErrorKind::Unavailable,
        _ => ErrorKind::Refused,
    }
}

/// The failure as a store's error.
pub(super) fn failure<E>(operation: &'static str, key: impl fmt::Display, failure: Failure<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    StoreError::caused(operation, key, kind(&failure), failure)
}

/// The HTTP status of the answer, where there was one.
pub(super) fn status<E>(failure: &Failure<E>) -> Option<u16> {
    failure.raw_response().map(|response| response.status().as_u16())
}

/// Whether a conditional put met another one that was under way. It has not taken place; S3 asks to try again.
pub(super) fn is_conflict<E: ProvideErrorMetadata>(failure: &Failure<E>) -> bool {
    matches!(failure.code(), Some("ConditionalRequestConflict" | "OperationAborted"))
}

/// Whether an attempt that was answered with this status, or not at all, may have taken place nevertheless.
pub(super) fn is_lost(status: Option<u16>) -> bool {
    // "Not implemented" and "insufficient storage" are refusals; any other 5xx may come from something in between.
    !matches!(status, Some(0..=499 | 501 | 507))
}
