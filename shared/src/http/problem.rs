//! [`Problem`]: the error responses.

use std::any::Any;
use std::error::Error as StdError;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::catalog::CommitError;
use crate::core::error::{Error, of_file_text};
use crate::media::MediaError;
use crate::telemetry::with_causes;
use store::ErrorKind;

/// The `Retry-After` of a failure caused by a store that did not answer, in seconds.
const RETRY_SECONDS: u64 = 5;

/// An error response: RFC 9457's `application/problem+json`, plus `error`, which older clients read, and on the routes
/// of backups and restores `success: false`.
///
/// Its `type` is a stable word, such as `digest-mismatch`, and its `title` that word as text. The detail of a 5xx is
/// one of a few fixed sentences; the log has all causes, once, under the same request id.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    slug: &'static str,
    detail: String,
    file: Option<String>,
    advice: Box<Advice>,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Machine-readable hints about a problem.
#[derive(Debug, Default)]
struct Advice {
    limit_bytes: Option<u64>,
    tickets_url: Option<String>,
    retry_after_seconds: Option<u64>,
}

/// Describes an error: RFC 9457, with extension members for programs and two fields for older clients.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document<'a> {
    /// A stable word for the kind of error.
    #[schema(example = "no-such-image")]
    r#type: &'a str,
    /// The same word as text.
    #[schema(example = "No such image")]
    title: String,
    /// The status of the response.
    #[schema(example = 404)]
    status: u16,
    /// The error in one plain sentence.
    #[schema(example = "There is no image \"a.jpg\".")]
    detail: &'a str,
    /// The same sentence, for older clients.
    error: &'a str,
    /// For an upload: the name of the image that caused the error, or its position if it has no name.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    /// For a body that is too long, or an upload that cannot be sent in parts here: how many bytes one request may
    /// contain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 4_500_000)]
    limit_bytes: Option<u64>,
    /// For an upload that is not possible this way here: the URL to POST to for a ticket, which allows another way.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/api/upload/tickets")]
    tickets_url: Option<&'a str>,
    /// After how many seconds the same request may succeed; the same as `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 5)]
    retry_after_seconds: Option<u64>,
    /// On the routes of backups and restores: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
}

impl Problem {
    /// A problem of the type `slug`; `detail` is one plain sentence for the client.
    pub fn new(status: StatusCode, slug: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            slug,
            detail: detail.into(),
            file: None,
            advice: Box::default(),
            headers: Vec::new(),
            source: None,
        }
    }

    /// An error that must not happen; its cause is only in the log.
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let detail = "Something unexpected went wrong. The server's log says more.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).caused_by(source)
    }

    /// Adds a header to the response.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds the member `limitBytes`: the maximum number of bytes for the way that was tried.
    #[must_use]
    pub fn with_limit(mut self, bytes: u64) -> Self {
        self.advice.limit_bytes = Some(bytes);
        self
    }

    /// Adds the member `ticketsUrl`: where to get tickets for what is not possible the way that was tried.
    #[must_use]
    pub fn with_tickets(mut self, url: String) -> Self {
        self.advice.tickets_url = Some(url);
        self
    }

    /// Adds the member `retryAfterSeconds` and the header `Retry-After`: after how many seconds the same request may
    /// succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.advice.retry_after_seconds = Some(seconds);
        self.with_header(RETRY_AFTER, seconds.into())
    }

    /// Names the image that caused the error; if it came with others, the sentence says so too.
    #[must_use]
    pub fn of_file(self, file: String, among_others: bool) -> Self {
        let detail = of_file_text(&file, among_others, &self.detail);
        Self { detail, file: Some(file), ..self }
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }

    /// The JSON document, for callers without HTTP.
    pub fn json(&self) -> serde_json::Value {
        serde_json::to_value(self.document(None)).unwrap_or_default()
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it is a server error, whose detail does not contain the cause.
    pub fn is_server_error(&self) -> bool {
        self.status.is_server_error()
    }

    fn body(&self, success: Option<bool>) -> Body {
        Body::from(serde_json::to_vec(&self.document(success)).unwrap_or_default())
    }

    fn document(&self, success: Option<bool>) -> Document<'_> {
        let words = self.slug.replace('-', " ");
        let title = words[..1].to_ascii_uppercase() + &words[1..];
        let (status, detail) = (self.status.as_u16(), self.detail.as_str());
        let Advice { limit_bytes, ref tickets_url, retry_after_seconds } = *self.advice;
        Document {
            r#type: self.slug,
            title,
            status,
            detail,
            error: detail,
            file: self.file.as_deref(),
            limit_bytes,
            tickets_url: tickets_url.as_deref(),
            retry_after_seconds,
            success,
        }
    }

    /// The causes in one line, outermost first.
    fn causes(&self) -> String {
        self.source.as_deref().map_or_else(String::new, |source| with_causes(source))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.body(None).into_response();
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().extend(self.headers.iter().cloned());
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Maps a store failure to a response.
fn store_failure(kind: ErrorKind) -> Problem {
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    match kind {
        ErrorKind::Full => {
            let detail = "There is too little room left in the store. Reading still works.";
            Problem::new(StatusCode::INSUFFICIENT_STORAGE, "insufficient-storage", detail)
        }
        ErrorKind::ReadOnly => {
            Problem::new(unavailable, "read-only", "The store takes no writes. Reading still works.")
        }
        ErrorKind::Fenced => {
            let detail = "A volume of this store is not mounted, or a location belongs to another store, so nothing is written. \
                          Reading still works, and /api/health says what to do.";
            Problem::new(unavailable, "storage-mismatch", detail)
        }
        ErrorKind::Refused => {
            Problem::new(unavailable, "store-refused", "The store refuses this. Its rights need a look.")
        }
        ErrorKind::Unavailable => {
            let problem = Problem::new(unavailable, "store-unavailable", "The store does not answer. Try again later.");
            problem.retry_after(RETRY_SECONDS)
        }
        ErrorKind::Corrupt => {
            let detail = "The store returned other bytes than were put there. Nothing was changed.";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "store-corrupt", detail)
        }
        // The services have to handle these; here they mean that they did not.
        ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::Changed => Problem::internal(kind.to_string()),
    }
}

impl From<Error> for Problem {
    /// The only mapping from errors to statuses:
    ///
    /// | Error | Status | `type` |
    /// |---|---|---|
    /// | no such image, group, backup, ticket or token | 404 | `no-such-image`, `no-such-group`, `no-such-backup`, `no-such-ticket`, `no-such-token` |
    /// | `If-Match` that does not hold, bytes of a ticket that were already received | 412 | `precondition-failed`, `upload-already-received` |
    /// | bytes of a ticket that are missing, or being received | 409 | `upload-missing`, `upload-in-progress` |
    /// | a restore, a verification or an upload of the same key is running | 409 | `restore-running`, `verification-running`, `idempotency-in-progress` |
    /// | a key used for another request or for images deleted since, another digest | 422 | `idempotency-mismatch`, `deleted-since`, `digest-mismatch` |
    /// | an empty or malformed request | 400 | `no-file`, `empty-file`, `invalid-request` |
    /// | too long | 413 | `too-large` |
    /// | no image, or one that cannot be scaled | 415 | `not-an-image`, `not-scalable` |
    /// | a damaged or an excessive image | 422 | `undecodable`, `too-many-pixels`, `too-many-frames` |
    /// | an archive file that cannot be imported | 422 | `unusable-archive` |
    /// | a path outside the store that cannot be written or read | 422 | `unwritable`, `unreadable` |
    /// | no space for bytes or for files (inodes) | 507 | `insufficient-storage` |
    /// | a store that refuses, is read-only, is fenced or does not answer | 503 | `store-refused`, `read-only`, `storage-mismatch`, `store-unavailable` |
    /// | too many replicas pending, or too many thumbnails being made | 503 | `archive-behind`, `too-busy` |
    /// | a change that may or may not have been stored | 503 | `outcome-unknown` |
    /// | a migration between incompatible locations, or one that has not ended | 409, 503 | `migration-refused`, `migration-unfinished` |
    /// | image bytes that no location has | 503 | `image-data-lost` |
    /// | a catalog that this version must not touch | 503 | `catalog-unusable` |
    /// | a damaged backup, store or token file | 500 | `damaged-backup`, `store-corrupt`, `damaged-tokens` |
    fn from(error: Error) -> Self {
        use StatusCode as S;
        let error = match error {
            Error::OfFile { file, among_others, error } => return Self::from(*error).of_file(file, among_others),
            error => error,
        };
        let problem = |status, slug| Self::new(status, slug, error.to_string());
        let answer = match &error {
            Error::Commit(CommitError::Unknown(_)) => {
                let detail = "It is not known whether the change was stored. Look, and repeat it if it was not.";
                Self::new(S::SERVICE_UNAVAILABLE, "outcome-unknown", detail).retry_after(RETRY_SECONDS)
            }
            Error::Store(_)
            | Error::Catalog(_)
            | Error::Commit(_)
            | Error::Media(MediaError::Read(_))
            | Error::NoRoom
            | Error::NoFiles => match error.store_kind() {
                Some(ErrorKind::Full) if error.is_out_of_inodes() => {
                    Self::new(S::INSUFFICIENT_STORAGE, "insufficient-storage", Error::NoFiles.to_string())
                }
                Some(kind) => store_failure(kind),
                None => {
                    let detail = "The catalog cannot be used. The server's log says why.";
                    Self::new(S::SERVICE_UNAVAILABLE, "catalog-unusable", detail)
                }
            },
            Error::NoSuchImage(_) => problem(S::NOT_FOUND, "no-such-image"),
            Error::NoSuchGroup(_) => problem(S::NOT_FOUND, "no-such-group"),
            Error::NoSuchBackup(_) => problem(S::NOT_FOUND, "no-such-backup"),
            Error::DamagedBackup(_) => problem(S::INTERNAL_SERVER_ERROR, "damaged-backup"),
            Error::MissingBytes => problem(S::SERVICE_UNAVAILABLE, "image-data-lost"),
            Error::ArchiveBehind => problem(S::SERVICE_UNAVAILABLE, "archive-behind").retry_after(RETRY_SECONDS),
            Error::NoRoomToRestore { .. } => problem(S::INSUFFICIENT_STORAGE, "insufficient-storage"),
            Error::TooMuchUnfinished => problem(S::TOO_MANY_REQUESTS, "too-many-unfinished").retry_after(RETRY_SECONDS),
            Error::Changed => problem(S::PRECONDITION_FAILED, "precondition-failed"),
            Error::RestoreRunning => problem(S::CONFLICT, "restore-running"),
            Error::MigrationUnfinished => problem(S::SERVICE_UNAVAILABLE, "migration-unfinished"),
            Error::MigrationRefused(_) => problem(S::CONFLICT, "migration-refused"),
            Error::NoSuchTicket => problem(S::NOT_FOUND, "no-such-ticket"),
            Error::NoSuchToken(_) => problem(S::NOT_FOUND, "no-such-token"),
            Error::DamagedTokens => problem(S::INTERNAL_SERVER_ERROR, "damaged-tokens"),
            Error::NothingArrived => problem(S::CONFLICT, "upload-missing"),
            Error::ArrivingNow => problem(S::CONFLICT, "upload-in-progress"),
            Error::VerificationRunning => problem(S::CONFLICT, "verification-running"),
            Error::ArrivedBefore => problem(S::PRECONDITION_FAILED, "upload-already-received"),
            Error::NoFile => problem(S::BAD_REQUEST, "no-file"),
            Error::EmptyFile => problem(S::BAD_REQUEST, "empty-file"),
            Error::Invalid(_) => problem(S::BAD_REQUEST, "invalid-request"),
            Error::TooLarge { limit } => problem(S::PAYLOAD_TOO_LARGE, "too-large").with_limit(*limit),
            Error::Media(MediaError::NotAnImage) => problem(S::UNSUPPORTED_MEDIA_TYPE, "not-an-image"),
            Error::Media(MediaError::Undecodable { .. }) => problem(S::UNPROCESSABLE_ENTITY, "undecodable"),
            Error::Media(MediaError::TooManyPixels { .. }) => problem(S::UNPROCESSABLE_ENTITY, "too-many-pixels"),
            Error::Media(MediaError::TooManyFrames { .. }) => problem(S::UNPROCESSABLE_ENTITY, "too-many-frames"),
            // The file was handled above.
            Error::OfFile { .. } => Self::internal(error.to_string()),
            Error::UnusableArchive(_) => problem(S::UNPROCESSABLE_ENTITY, "unusable-archive"),
            Error::Unwritable(..) => problem(S::UNPROCESSABLE_ENTITY, "unwritable"),
            Error::Unreadable(..) => problem(S::UNPROCESSABLE_ENTITY, "unreadable"),
            Error::NotScalable(_) => problem(S::UNSUPPORTED_MEDIA_TYPE, "not-scalable"),
            Error::TooBusy => problem(S::SERVICE_UNAVAILABLE, "too-busy").retry_after(RETRY_SECONDS),
            Error::DigestMismatch => problem(S::UNPROCESSABLE_ENTITY, "digest-mismatch"),
            Error::IdempotencyMismatch => problem(S::UNPROCESSABLE_ENTITY, "idempotency-mismatch"),
            Error::DeletedSince => problem(S::UNPROCESSABLE_ENTITY, "deleted-since"),
            Error::IdempotencyInProgress => problem(S::CONFLICT, "idempotency-in-progress"),
        };
        answer.caused_by(error)
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid-request", format!("{}.", rejection.body_text()))
    }
}

impl From<PathRejection> for Problem {
    /// A path that is not text matches no resource.
    fn from(_: PathRejection) -> Self {
        not_found()
    }
}

fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found", "There is nothing under this path.")
}

/// Responds to every path without a route.
pub(super) async fn unknown_path() -> Problem {
    not_found()
}

/// Responds to a wrong method on a route's path; the router adds `Allow`.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} does not take {method}.", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

/// Responds to a request whose handler panicked.
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Problem::internal(format!("a handler panicked: {}", text.unwrap_or("no message"))).into_response()
}

/// Logs a server error, and adds the fields that older clients of the route expect.
pub(super) async fn report(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let with_success = path.starts_with("/api/backup") || path.starts_with("/api/restore");
    let mut response = next.run(request).await;
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        if problem.status.is_server_error() {
            let status = problem.status.as_u16();
            tracing::error!(status, problem = problem.slug, error = problem.causes(), "a request failed");
        }
        if with_success {
            *response.body_mut() = problem.body(Some(false));
        }
    }
    response
}
