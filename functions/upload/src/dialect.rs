//! Translates the headers of other protocols and of earlier drafts.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{AppendHeaders, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use shared::{Error, Result};

use crate::part_headers::{COMPLETE, FILE_NAME, LENGTH, OFFSET, integer};

const METADATA: HeaderName = HeaderName::from_static("upload-metadata");

/// Translates the headers of other protocols for partial uploads: the name in `Upload-Metadata`, if `X-Filename` is
/// missing. Refuses tus 1.0, whose "Content-Type: application/offset+octet-stream" would otherwise be treated as an
/// empty image.
pub(crate) fn adapt(headers: &mut HeaderMap) -> Result<()> {
    if headers.contains_key("tus-resumable") {
        let detail = "The protocol tus 1.0 is not supported. Use that of the IETF's draft, with tus-js-client: protocol: \
                      'ietf-draft-05'.";
        return Err(Error::Invalid(detail.to_owned()));
    }
    let name = headers.get(METADATA).and_then(|metadata| file_name(metadata.to_str().ok()?));
    if let Some(name) = name.filter(|_| !headers.contains_key(FILE_NAME)) {
        let encoded = utf8_percent_encode(&name, NON_ALPHANUMERIC).to_string();
        headers.extend(HeaderValue::try_from(encoded).ok().map(|name| (FILE_NAME, name)));
    }
    Ok(())
}

/// The name of the file in an `Upload-Metadata`: pairs of a key and a value in base64, separated by commas.
fn file_name(metadata: &str) -> Option<String> {
    let value = |key: &str| {
        let value =
            metadata.split(',').find_map(|pair| pair.trim().split_once(' ').filter(|(name, _)| *name == key))?.1;
        String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok().filter(|name| !name.is_empty())
    };
    value("filename").or_else(|| value("name"))
}

/// The total length of a body, as announced by a client that could have sent it in parts.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    integer(headers, LENGTH).ok().flatten()
}

/// Adds the headers for a client that could have sent a whole upload in parts: all of it has arrived.
pub(crate) fn whole(headers: &HeaderMap, length: u64, answer: Response) -> Response {
    if !headers.contains_key(COMPLETE) {
        return answer;
    }
    (AppendHeaders([(COMPLETE, HeaderValue::from_static("?1")), (OFFSET, length.into())]), answer).into_response()
}
