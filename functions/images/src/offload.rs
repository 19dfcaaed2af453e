//! Responses that leave the bytes to a proxy in front of the server (`OFFLOAD`).
//!
//! The server decides whether there is such an image, who may see it, whether the client has it already, and whether the
//! file is right; the proxy sends the file with the headers of the response, or a range of it. The conditions of the
//! request are decided by then. Proxies evaluate them again, with the file's time of modification instead of the time of
//! the upload, so requests with conditions that could turn out differently are answered by the server itself. `If-Range`
//! cannot: a proxy that does not recognise the validator sends the whole.

use axum::http::header::{ACCEPT_RANGES, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE};
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;
use shared::config::Offload;
use shared::http::Problem;
use shared::layout::ImageId;

/// Whether a proxy sends the same response to this request as the server would.
pub(crate) fn is_possible(headers: &HeaderMap) -> bool {
    ![IF_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE].iter().any(|condition| headers.contains_key(condition))
}

/// The response that makes the proxy send the image; `response` has the headers that the client gets, and no body.
pub(crate) fn to_proxy(mut response: Response, offload: &Offload, id: &ImageId) -> Result<Response, Problem> {
    let value = HeaderValue::try_from(offload.value(id)).map_err(Problem::internal)?;
    response.headers_mut().insert(HeaderName::from_static(offload.header), value);
    if offload.header == "x-accel-redirect" {
        // nginx adds its own, and would send both.
        response.headers_mut().remove(ACCEPT_RANGES);
    }
    Ok(response)
}
