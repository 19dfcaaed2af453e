//! Interprets the SDK's errors; no other module does.

use std::fmt;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::error::{ErrorKind, StoreError};

/// A failed request of any operation.
pub(super) type Failure<E> = SdkError<E, HttpResponse>;

/// The kind of a failure, whatever the operation was.
///
/// A known code in the response decides, otherwise the HTTP status. Only `NoSuchKey` means that the object does not
/// exist; any other 404 is about the bucket or comes from a server that is not S3.
pub(super) fn kind<E: ProvideErrorMetadata>(failure: &Failure<E>) -> ErrorKind {
    let status = match failure {
        SdkError::ServiceError(e) => e.raw().status().as_u16(),
        // Never sent: an invalid value, or no credentials.
        SdkError::ConstructionFailure(_) => return ErrorKind::Refused,
        // A timeout, a broken connection, an unreadable response.
        _ => return ErrorKind::Unavailable,
    };
    match (status, failure.code().unwrap_or_default()) {
        (_, "NoSuchKey") => ErrorKind::NotFound,
        (_, "BadDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch") => ErrorKind::Corrupt,
        // Codes of Ceph and MinIO; S3 itself has no quota.
        (_, "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded") | (507, _) => ErrorKind::Full,
        // Reported with a 400 or a 409, but a retry may succeed.
        (_, "RequestTimeout" | "OperationAborted" | "ConditionalRequestConflict") => ErrorKind::Unavailable,
        (501, _) => ErrorKind::Refused,
        // A copy can fail after its 200 was sent.
        (200..=299 | 408 | 429 | 500.., _) => ErrorKind::Unavailable,
        _ => ErrorKind::Refused,
    }
}

/// Converts the failure to a store error.
pub(super) fn failure<E>(operation: &'static str, key: impl fmt::Display, failure: Failure<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let kind = kind(&failure);
    failure_of_kind(operation, key, kind, failure)
}

/// Converts the failure to a store error of this kind.
pub(super) fn failure_of_kind<E>(
    operation: &'static str,
    key: impl fmt::Display,
    kind: ErrorKind,
    failure: Failure<E>,
) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match Answer::of(&failure) {
        Some(answer) => StoreError::caused(operation, key, kind, answer),
        None => StoreError::caused(operation, key, kind, failure),
    }
}

/// An error response of the service, in its own words. Displays as one line.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) code: String,
    message: String,
    request_id: String,
}

impl Answer {
    /// The response behind a failure; `None` if there was none, or if it reports success.
    fn of<E: ProvideErrorMetadata>(failure: &Failure<E>) -> Option<Self> {
        let SdkError::ServiceError(error) = failure else { return None };
        let header = |name: &str| error.raw().headers().get(name).unwrap_or_default().to_owned();
        Some(Self {
            status: error.raw().status().as_u16(),
            code: error.err().code().unwrap_or_default().to_owned(),
            message: error.err().message().unwrap_or_default().to_owned(),
            request_id: header("x-amz-request-id"),
        })
    }

    /// The response behind a store error.
    pub(super) fn behind(error: &StoreError) -> Option<&Self> {
        error.source.as_ref()?.downcast_ref()
    }

    /// Whether the response is about the caller's credentials or the bucket, whatever its status.
    pub(super) fn is_about_access(&self) -> bool {
        self.remedy("").is_some()
    }

    /// What the operator can do; `None` if that depends on the request.
    fn remedy(&self, bucket: &str) -> Option<String> {
        let remedy = match (self.status, self.code.as_str()) {
            (_, "NoSuchBucket") | (404, _) => format!("create the bucket {bucket:?}, or correct its name"),
            (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "ExpiredToken") => {
                "correct the access key and its secret".to_owned()
            }
            (_, "RequestTimeTooSkewed") => "set the clock of this machine".to_owned(),
            (301 | 307, _) | (_, "AuthorizationHeaderMalformed" | "PermanentRedirect") => {
                "name the region of the bucket, as in ?region=eu-central-1".to_owned()
            }
            (401 | 403, _) => format!(
                "check the access key and its secret, and its rights to list, read, write and delete in the bucket {bucket:?}"
            ),
            _ => return None,
        };
        Some(remedy)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service answers {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, " ({:?})", self.message.trim())?;
        }
        if !self.request_id.is_empty() {
            write!(f, ", request {}", self.request_id)?;
        }
        Ok(())
    }
}

impl std::error::Error for Answer {}

/// Explains an error of the first requests to a service: the service, its response, the feature it concerns, and what
/// to do. `lacking` is the remedy if the service lacks that feature.
pub(super) fn explain(error: StoreError, endpoint: &str, bucket: &str, feature: &str, lacking: &str) -> StoreError {
    let sentence = match Answer::behind(&error) {
        _ if error.kind == ErrorKind::Unavailable => format!("{endpoint} does not answer as it should"),
        None => return error,
        Some(answer) => {
            let remedy = answer.remedy(bucket).unwrap_or_else(|| lacking.to_owned());
            format!("{endpoint} refuses {feature}: {answer}; {remedy}")
        }
    };
    match error.source {
        Some(source) if error.kind == ErrorKind::Unavailable => {
            StoreError { source: Some(Box::new(Explained { sentence, source })), ..error }
        }
        _ => StoreError { source: Some(sentence.into()), ..error },
    }
}

/// An error with a sentence that explains it.
#[derive(Debug, thiserror::Error)]
#[error("{sentence}")]
struct Explained {
    sentence: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// No credentials were found, or they could not be retrieved.
pub(super) fn without_credentials(bucket: &str, error: CredentialsError) -> StoreError {
    let sentence = "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of \
                    ~/.aws/credentials in AWS_PROFILE";
    match error {
        CredentialsError::CredentialsNotLoaded(_) => StoreError::caused("open", bucket, ErrorKind::Refused, sentence),
        other => StoreError::caused("open", bucket, ErrorKind::Refused, other),
    }
}

/// The HTTP status of the response, if there was one.
pub(super) fn status<E>(failure: &Failure<E>) -> Option<u16> {
    failure.raw_response().map(|response| response.status().as_u16())
}

/// Whether a conditional put met another one in progress. It was not carried out; S3 requests a retry.
pub(super) fn is_conflict<E: ProvideErrorMetadata>(failure: &Failure<E>) -> bool {
    matches!(failure.code(), Some("ConditionalRequestConflict" | "OperationAborted"))
}

/// Whether an attempt with this response status, or with none, may have been carried out nevertheless.
pub(super) fn is_lost(status: Option<u16>) -> bool {
    // "Not implemented" and "insufficient storage" are refusals; any other 5xx may come from a proxy.
    !matches!(status, Some(0..=499 | 501 | 507))
}
