//! Answers for programs that expect only a URL, such as ShareX.

use axum::http::header::{ACCEPT, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::http::Item;
use shared::upload::Uploaded;

/// The URL of this server as the client sees it, if the answer is to be plain text.
///
/// It comes from the client's own headers and is returned to that client alone, so a false value does no harm. Behind a
/// proxy, they contain the scheme that the client used.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let accept = text(ACCEPT)?.to_ascii_lowercase();
    let accepts =
        |media_type: &str| accept.split(',').any(|range| range.split(';').next().map(str::trim) == Some(media_type));
    if !accepts("text/plain") || accepts("application/json") {
        return None;
    }
    let forwarded = headers.get("x-forwarded-proto").and_then(|value| value.to_str().ok());
    let scheme = match forwarded.and_then(|schemes| schemes.split(',').next()).map(str::trim) {
        Some("https") => "https",
        _ => "http",
    };
    let host: Option<Authority> = text(HOST).and_then(|host| host.parse().ok());
    // Without a host name, only the path is known.
    Some(host.map_or_else(String::new, |host| format!("{scheme}://{host}")))
}

/// The URL of each image, one per line.
pub(crate) fn answer(uploaded: &Uploaded, here: &str) -> Response {
    let urls = uploaded.images.iter().filter_map(Item::new).map(|item| format!("{here}{}", item.url()));
    (StatusCode::CREATED, urls.collect::<Vec<_>>().join("\n")).into_response()
}
