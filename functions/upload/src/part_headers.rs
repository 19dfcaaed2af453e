//! The headers of uploads in parts: their names and parsers.

use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue};
use shared::{Error, Result};

pub(crate) const COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
pub(crate) const OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(crate) const LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(crate) const LIMIT: HeaderName = HeaderName::from_static("upload-limit");
const VERSION: HeaderName = HeaderName::from_static("upload-draft-interop-version");
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) const FILE_NAME: HeaderName = HeaderName::from_static("x-filename");
/// The headers that describe the whole body, whichever request they came with.
pub(crate) const KEPT: [HeaderName; 4] =
    [CONTENT_TYPE, IDEMPOTENCY_KEY, HeaderName::from_static("repr-digest"), FILE_NAME];
/// The supported interop versions of the draft. They differ in a media type for parts, which version 6 introduced, and
/// in problem types.
const SUPPORTED: std::ops::RangeInclusive<u64> = 5..=8;
/// The first version in which a part has a media type of its own.
pub(crate) const TYPED_PARTS: u64 = 6;

/// The client's interop version; an error if it is unsupported.
pub(crate) fn check_version(headers: &HeaderMap) -> Result<Option<u64>> {
    match integer(headers, VERSION)? {
        Some(other) if !SUPPORTED.contains(&other) => {
            let (first, last) = SUPPORTED.into_inner();
            Err(Error::Invalid(format!("Interop versions {first} to {last} of resumable uploads are supported.")))
        }
        version => Ok(version),
    }
}

/// A boolean of RFC 9651.
pub(crate) fn boolean(headers: &HeaderMap, name: HeaderName) -> Result<Option<bool>> {
    match headers.get(&name).map(HeaderValue::as_bytes) {
        None => Ok(None),
        Some(b"?0") => Ok(Some(false)),
        Some(b"?1") => Ok(Some(true)),
        Some(_) => Err(Error::Invalid(format!("{name} must be ?0 or ?1."))),
    }
}

/// A whole number of RFC 9651 that is not negative.
pub(crate) fn integer(headers: &HeaderMap, name: HeaderName) -> Result<Option<u64>> {
    let Some(value) = headers.get(&name) else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit()));
    let number = digits.and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Error::Invalid(format!("{name} must be a whole number.")))
}
