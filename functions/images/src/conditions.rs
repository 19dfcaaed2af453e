//! Conditional requests: RFC 9110, section 13.

use axum::http::HeaderMap;
use headers::{ETag, Header, HeaderMapExt, IfMatch, IfModifiedSince, IfNoneMatch, IfUnmodifiedSince, LastModified};
use shared::{Error, Result};

/// What a representation is compared by.
#[derive(Debug, Clone)]
pub(crate) struct Validators {
    pub(crate) etag: ETag,
    pub(crate) last_modified: Option<LastModified>,
}

/// What the conditions of a request say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Go on.
    Proceed,
    /// The client has it: 304.
    NotModified,
    /// It is not what the client thinks: 412.
    Failed,
}

impl Validators {
    /// Evaluates a GET's or HEAD's conditions in their order of precedence. A date that cannot be read is no condition.
    pub(crate) fn judge(&self, headers: &HeaderMap) -> Verdict {
        let modified = self.last_modified.map(std::time::SystemTime::from);
        let unchanged = match headers.typed_try_get::<IfMatch>() {
            Ok(Some(condition)) => condition.precondition_passes(&self.etag),
            Ok(None) => match (get::<IfUnmodifiedSince>(headers), modified) {
                (Some(condition), Some(modified)) => condition.precondition_passes(modified),
                _ => true,
            },
            // Whatever it names, it cannot be this.
            Err(_) => false,
        };
        if !unchanged {
            return Verdict::Failed;
        }
        let is_new = match (headers.typed_get::<IfNoneMatch>(), get::<IfModifiedSince>(headers), modified) {
            (Some(condition), ..) => condition.precondition_passes(&self.etag),
            (None, Some(condition), Some(modified)) => condition.is_modified(modified),
            _ => true,
        };
        if is_new { Verdict::Proceed } else { Verdict::NotModified }
    }
}

fn get<H: Header>(headers: &HeaderMap) -> Option<H> {
    headers.typed_get()
}

/// The version that a change is meant for. One that cannot be read is refused: the client did not want to change just any.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<IfMatch>> {
    headers.typed_try_get().map_err(|_| Error::Invalid("If-Match must be * or entity tags in quotes.".to_owned()))
}
