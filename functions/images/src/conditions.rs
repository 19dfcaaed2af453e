//! Conditional requests: RFC 9110, section 13.

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use headers::{ETag, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfUnmodifiedSince, LastModified};
use shared::Precondition;
use shared::catalog::Entry;
use shared::groups::Group;
use shared::http::{Problem, etag, group_etag};
use shared::{Error, Result};

/// The values that conditions are compared with.
#[derive(Debug, Clone)]
pub(crate) struct Validators {
    pub(crate) etag: ETag,
    pub(crate) last_modified: Option<LastModified>,
}

impl Validators {
    /// Whether the client needs the representation, or has it already: 304. [`Error::Changed`] if the client expects
    /// another one: 412. The conditions of a GET or HEAD have an order of precedence. An invalid date is ignored.
    pub(crate) fn is_modified(&self, headers: &HeaderMap) -> Result<bool> {
        let modified = self.last_modified.map(std::time::SystemTime::from);
        let unchanged = match headers.typed_try_get::<IfMatch>() {
            Ok(Some(condition)) => condition.precondition_passes(&self.etag),
            Ok(None) => match (headers.typed_get::<IfUnmodifiedSince>(), modified) {
                (Some(condition), Some(modified)) => condition.precondition_passes(modified),
                _ => true,
            },
            // An unreadable value cannot match.
            Err(_) => false,
        };
        if !unchanged {
            return Err(Error::Changed);
        }
        Ok(match (headers.typed_get::<IfNoneMatch>(), headers.typed_get::<IfModifiedSince>(), modified) {
            (Some(condition), ..) => condition.precondition_passes(&self.etag),
            (None, Some(condition), Some(modified)) => condition.is_modified(modified),
            _ => true,
        })
    }
}

/// Answers a GET with a representation that may be cached, but must be revalidated before each use, unless the
/// request's conditions require another answer.
pub(crate) async fn answer<T: IntoResponse>(
    etag: ETag,
    headers: &HeaderMap,
    representation: impl AsyncFnOnce() -> Result<T, Problem>,
) -> Result<Response, Problem> {
    let validators = Validators { etag, last_modified: None };
    Ok(match validators.is_modified(headers)? {
        true => revalidated(validators.etag, representation().await?),
        false => revalidated(validators.etag, StatusCode::NOT_MODIFIED),
    })
}

/// An answer that may be cached, but must be revalidated before each use.
pub(crate) fn revalidated(etag: ETag, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().typed_insert(etag);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// The versions that a change expects: its `If-Match`. An unreadable one is refused: the client expects a specific
/// version.
pub(crate) struct Expected(Option<IfMatch>);

impl Expected {
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self> {
        let if_match = headers.typed_try_get();
        if_match.map(Self).map_err(|_| Error::Invalid("If-Match must be * or entity tags in quotes.".to_owned()))
    }
}

impl Precondition<Entry> for Expected {
    fn holds(&self, present: Option<&Entry>) -> bool {
        self.matches(present.map(etag))
    }

    fn is_any(&self) -> bool {
        self.0.is_none()
    }
}

impl Precondition<Group> for Expected {
    fn holds(&self, present: Option<&Group>) -> bool {
        self.matches(present.map(group_etag))
    }

    fn is_any(&self) -> bool {
        self.0.is_none()
    }
}

impl Expected {
    /// Whether the present version is one of these. What does not exist has none.
    fn matches(&self, present: Option<ETag>) -> bool {
        self.0.as_ref().is_none_or(|tags| present.is_some_and(|present| tags.precondition_passes(&present)))
    }
}
