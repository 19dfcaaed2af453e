//! Answers for programs that want nothing but a URL, such as ShareX.

use axum::http::header::{ACCEPT, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use shared::http::Item;
use shared::upload::Uploaded;

/// Where this server is, as who asks sees it; only where the answer is to be plain text.
///
/// What a client says of itself here only it is told, so that a lie does no harm. Behind a proxy, that says which scheme
/// the client used.
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
    // Without a name there is no more to say than the path.
    Some(host.map_or_else(String::new, |host| format!("{scheme}://{host}")))
}

/// The URL of each image, one a line.
pub(crate) fn answer(uploaded: &Uploaded, here: &str) -> Response {
    let urls = uploaded.images.iter().filter_map(Item::new).map(|item| format!("{here}{}", item.url()));
    (StatusCode::CREATED, urls.collect::<Vec<_>>().join("\n")).into_response()
}
