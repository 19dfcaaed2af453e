//! Compresses JSON and pages for clients that accept it.
//!
//! tower-http compresses; this module decides about what tower-http leaves open. A compressed response is another
//! representation than the plain one, so it has a strong entity tag of its own: that of the plain one and the coding, as
//! in `"…-zstd"`. In conditions both name the same version: a client changes with `If-Match` what it read compressed,
//! and has a 304 rendered from nothing.
//!
//! Architecture invariant: no handler below this layer sees or sets a coding.

use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue, IF_MATCH, IF_NONE_MATCH, VARY,
};
use axum::http::{Method, Response, StatusCode};
use axum::middleware::{Next, from_fn};
use tower_http::CompressionLevel;
use tower_http::compression::{CompressionLayer, Predicate};

/// A shorter body in bytes is sent as it is: it fits into one packet either way.
const LEAST: u64 = 1_000;
/// What is compressed. Images and zips are compressed already.
const COMPRESSED: [&str; 8] = [
    "application/json",
    "application/manifest+json",
    "application/problem+json",
    "image/svg+xml",
    "text/css",
    "text/html",
    "text/javascript",
    "text/plain",
];
/// The folder of images, whose responses are never compressed.
const IMAGES: &str = "/uploads/";

/// The codings, those that cost the least first.
const CODINGS: [&str; 3] = ["zstd", "gzip", "br"];

/// Puts the layer around a router.
pub fn layer(router: Router) -> Router {
    // The lowest level: a response is compressed for one client only.
    let compression = CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(IsText);
    router.layer(compression).layer(from_fn(negotiate))
}

/// Lets the layer below see the coding that this client prefers, and nothing of codings in conditions.
async fn negotiate(mut request: Request, next: Next) -> axum::response::Response {
    let is_head = request.method() == Method::HEAD;
    let is_image = request.uri().path().starts_with(IMAGES);
    let headers = request.headers_mut();
    let coding = preferred(headers);
    match coding {
        Some(coding) => headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(coding)),
        None => headers.remove(ACCEPT_ENCODING),
    };
    // Only what the client would get now can be what it has. What it changes is a version, in whatever coding it was read.
    let known = without_codings(headers, &IF_NONE_MATCH, coding.as_slice());
    without_codings(headers, &IF_MATCH, &CODINGS);

    let mut response = next.run(request).await;
    // The compression never sees the body of a HEAD.
    let is_text = is_head && is_text(&response) && length(response.headers()).is_some_and(|length| length >= LEAST);
    if is_text && let Some(coding) = coding {
        response.headers_mut().remove(CONTENT_LENGTH);
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    let is_unchanged = response.status() == StatusCode::NOT_MODIFIED && !is_image;
    let headers = response.headers_mut();
    if is_text || is_unchanged {
        headers.append(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    }
    if let Some(coding) = coding
        && let Some(tag) = headers.get(ETAG).and_then(|tag| with_coding(tag, coding))
        && (headers.contains_key(CONTENT_ENCODING) || is_unchanged && known.contains(&tag))
    {
        headers.insert(ETAG, tag);
    }
    response
}

/// The coding with the greatest weight in `Accept-Encoding`, and of several the one that costs the least; none if the
/// client prefers the plain representation or says nothing.
fn preferred(headers: &HeaderMap) -> Option<&'static str> {
    let mut weights: Vec<(String, f32)> = Vec::new();
    for value in headers.get_all(ACCEPT_ENCODING) {
        for listed in value.to_str().ok()?.split(',') {
            let (name, weight) = listed.split_once(';').unwrap_or((listed, ""));
            let weight = match weight.trim().split_once('=') {
                Some((q, weight)) if q.trim().eq_ignore_ascii_case("q") => weight.trim().parse().unwrap_or(0.0),
                Some(_) => 0.0,
                None => 1.0,
            };
            weights.push((name.trim().to_ascii_lowercase(), weight));
        }
    }
    let weight_of = |coding: &str| weights.iter().find(|(name, _)| name == coding).map(|(_, weight)| *weight);
    let mut best = (None, weight_of("identity").unwrap_or(0.0));
    for coding in CODINGS {
        let weight = weight_of(coding).or_else(|| weight_of("*")).unwrap_or(0.0);
        if weight > best.1 || best.0.is_none() && weight == best.1 && weight > 0.0 {
            best = (Some(coding), weight);
        }
    }
    best.0
}

/// Removes these codings from the entity tags of a condition; returns the tags that had one.
fn without_codings(headers: &mut HeaderMap, condition: &HeaderName, codings: &[&str]) -> Vec<HeaderValue> {
    let mut known = Vec::new();
    let mut plain = |value: &HeaderValue| {
        let mut text = value.to_str().ok()?.to_owned();
        for end in codings.iter().map(|coding| format!("-{coding}\"")) {
            let tags = text.split(',').map(|tag| tag.trim().trim_start_matches("W/"));
            known.extend(tags.filter(|tag| tag.ends_with(&end)).filter_map(|tag| HeaderValue::try_from(tag).ok()));
            text = text.replace(&end, "\"");
        }
        HeaderValue::try_from(text).ok()
    };
    let values: Vec<HeaderValue> =
        headers.get_all(condition).iter().map(|value| plain(value).unwrap_or_else(|| value.clone())).collect();
    if !known.is_empty() {
        headers.remove(condition);
        for value in values {
            headers.append(condition, value);
        }
    }
    known
}

/// The entity tag of a representation in this coding; `None` if the tag is weak, and so is that of every coding.
fn with_coding(tag: &HeaderValue, coding: &str) -> Option<HeaderValue> {
    let plain = tag.to_str().ok()?.strip_prefix('"')?.strip_suffix('"')?;
    HeaderValue::try_from(format!("\"{plain}-{coding}\"")).ok()
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a response would be smaller in another coding, and may be changed on its way.
fn is_text<B>(response: &Response<B>) -> bool {
    let text =
        |name: HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = text(CONTENT_TYPE);
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    COMPRESSED.contains(&media_type)
        && text(CONTENT_ENCODING).is_empty()
        && !text(CACHE_CONTROL).contains("no-transform")
}

/// What the layer of tower-http compresses.
#[derive(Clone, Copy)]
struct IsText;

impl Predicate for IsText {
    fn should_compress<B: axum::body::HttpBody>(&self, response: &Response<B>) -> bool {
        is_text(response) && response.body().size_hint().exact().is_none_or(|length| length >= LEAST)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use serde_json::Value;
    use shared::http::App;
    use shared::store::testing::MemoryStore;
    use shared::testing::{Answer, app_on, png, request, send, store_image};
    use tower_http::decompression::DecompressionLayer;

    use super::*;
    use crate::metrics::Metrics;
    use crate::{page, server};

    const LIST: &str = "/api/images";

    /// A server with a list that is worth compressing.
    async fn filled() -> (Router, String) {
        let app = app_on(std::sync::Arc::new(MemoryStore::new()));
        let mut id = String::new();
        for seed in 0..4 {
            id = store_image(&app.keepsake, png(seed)).await;
        }
        (served(&app), id)
    }

    fn served(app: &App) -> Router {
        server::router(app.clone(), Metrics::new(), &page::Buckets::default())
    }

    async fn ask(router: &Router, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(router, request(method, path, headers, Body::empty())).await
    }

    /// The plain bytes of a compressed response.
    async fn unpacked(answer: &Answer) -> Vec<u8> {
        let (headers, body) = (answer.headers.clone(), answer.body.clone());
        let sent = move || {
            let mut response = Response::new(Body::from(body.clone()));
            *response.headers_mut() = headers.clone();
            std::future::ready(response)
        };
        let router = Router::new().route("/", get(sent)).layer(DecompressionLayer::new());
        send(&router, request("GET", "/", &[], Body::empty())).await.body.to_vec()
    }

    #[tokio::test]
    async fn json_and_pages_are_compressed_as_the_client_prefers() {
        let (router, _) = filled().await;
        for path in [LIST, "/", "/assets/style.css", "/api/openapi.json", "/api/docs"] {
            let plain = ask(&router, "GET", path, &[]).await;
            assert_eq!((plain.header("content-encoding"), plain.header("vary")), ("", "accept-encoding"), "{path}");
            let mut tags = vec![plain.header("etag").to_owned()];
            for (accepted, coding) in [
                ("gzip, deflate, br, zstd", "zstd"),
                ("gzip, deflate, br", "gzip"),
                ("gzip;q=0.5, br;q=0.9", "br"),
                ("*", "zstd"),
                ("zstd;q=0, *;q=0.1", "gzip"),
                ("GZIP", "gzip"),
                ("identity", ""),
                ("identity;q=1, gzip;q=0.5", ""),
                ("deflate", ""),
                ("gzip;q=0", ""),
                // There is no other way to send it.
                ("identity;q=0", ""),
                ("*;q=0", ""),
            ] {
                let answer = ask(&router, "GET", path, &[("accept-encoding", accepted)]).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.header("content-encoding")),
                    (200, coding),
                    "{path} {accepted}"
                );
                assert_eq!(answer.header("vary"), "accept-encoding");
                assert_eq!(unpacked(&answer).await, plain.body, "{path} {accepted}");
                assert!(coding.is_empty() || answer.body.len() < plain.body.len() * 2 / 3, "{path} {accepted}");
                tags.push(answer.header("etag").to_owned());
            }
            tags.sort();
            tags.dedup();
            assert!(tags == [""] || tags.len() == 4 && tags.iter().all(|tag| tag.starts_with('"')), "{path}: {tags:?}");
        }
    }

    #[tokio::test]
    async fn images_and_short_responses_are_sent_as_they_are() {
        let (router, id) = filled().await;
        let accepted = ("accept-encoding", "gzip, br, zstd");
        for path in [format!("/uploads/{id}"), format!("/api/images/{id}"), "/livez".to_owned()] {
            let (plain, answer) =
                (ask(&router, "GET", &path, &[]).await, ask(&router, "GET", &path, &[accepted]).await);
            for name in ["content-encoding", "vary"] {
                assert_eq!(answer.header(name), "", "{path}");
            }
            assert_eq!((&answer.body, answer.header("etag")), (&plain.body, plain.header("etag")), "{path}");
            assert_eq!(answer.header("content-length"), plain.body.len().to_string(), "{path}");
        }
        let part = ask(&router, "GET", &format!("/uploads/{id}"), &[accepted, ("range", "bytes=0-9")]).await;
        assert_eq!((part.status.as_u16(), part.header("content-encoding"), part.body.len()), (206, "", 10));

        let events = "data: x\n\n".repeat(1_000);
        for (media_type, is_packed) in [
            ("text/event-stream", false),
            ("application/zip", false),
            ("application/octet-stream", false),
            ("image/png", false),
            ("text/plain; charset=utf-8", true),
        ] {
            let body = events.clone();
            let sent = async move || ([("content-type", media_type)], body);
            let answer = ask(&layer(Router::new().route("/", get(sent))), "GET", "/", &[accepted]).await;
            assert_eq!(!answer.header("content-encoding").is_empty(), is_packed, "{media_type}");
        }
    }

    #[tokio::test]
    async fn what_was_read_compressed_is_changed_by_its_tag() {
        let app = app_on(std::sync::Arc::new(MemoryStore::new()));
        let id = store_image(&app.keepsake, png(1)).await;
        let (router, path) = (served(&app), format!("/api/images/{id}"));
        let change = async |tag: &str, text: &str| {
            let body = serde_json::json!({ "description": text }).to_string();
            let headers = [("content-type", "application/json"), ("if-match", tag), ("accept-encoding", "gzip")];
            send(&router, request("PATCH", &path, &headers, body)).await
        };
        let long = |sign: char| String::from_iter([sign; 2_000]);
        let first = change("*", &long('a')).await;
        for coding in CODINGS {
            let read = ask(&router, "GET", &path, &[("accept-encoding", coding)]).await;
            assert_eq!(read.header("content-encoding"), coding);
            let (tag, stale) = (read.header("etag"), format!("\"{}-{coding}\"", "0".repeat(64)));
            assert_eq!(change(&stale, "x").await.problem().0, 412);
            assert_eq!(change(&format!("W/{tag}"), "x").await.problem().0, 412, "a weak tag never matches");
            let changed = change(tag, &long('b')).await;
            assert_eq!((changed.status.as_u16(), changed.header("content-encoding")), (200, "gzip"));
            assert_eq!(change(tag, "x").await.problem().0, 412, "it was changed");
            assert_eq!(change(changed.header("etag"), &long('c')).await.status, 200);
        }
        assert_eq!(serde_json::from_slice::<Value>(&unpacked(&first).await).unwrap()["id"], id);
    }

    #[tokio::test]
    async fn client_that_has_the_compressed_response_gets_304() {
        let (router, _) = filled().await;
        for path in [LIST, "/assets/style.css"] {
            for coding in CODINGS {
                let answer = ask(&router, "GET", path, &[("accept-encoding", coding)]).await;
                let tag = answer.header("etag");
                for known in [tag.to_owned(), format!("\"other\", W/{tag}")] {
                    let headers = [("accept-encoding", coding), ("if-none-match", known.as_str())];
                    let again = ask(&router, "GET", path, &headers).await;
                    let found = (again.status.as_u16(), again.header("etag"), again.header("vary"), again.body.len());
                    assert_eq!(found, (304, tag, "accept-encoding", 0), "{path}");
                    // Such a response is not what this client has.
                    let other = ask(&router, "GET", path, &headers[1..]).await;
                    assert_eq!((other.status.as_u16(), other.header("content-encoding")), (200, ""), "{path}");
                }
            }
        }
        // What is too short to be compressed keeps its tag.
        let plain = ask(&router, "GET", LIST, &[]).await;
        let headers = [("accept-encoding", "gzip"), ("if-none-match", plain.header("etag"))];
        let again = ask(&router, "GET", LIST, &headers).await;
        assert_eq!((again.status.as_u16(), again.header("etag")), (304, plain.header("etag")));
    }

    #[tokio::test]
    async fn head_has_the_headers_of_the_compressed_response() {
        let (router, id) = filled().await;
        for path in [LIST.to_owned(), "/".to_owned(), format!("/api/images/{id}"), format!("/uploads/{id}")] {
            for accepted in ["gzip", "br", "zstd", "identity"] {
                let headers = [("accept-encoding", accepted)];
                let (get, head) =
                    (ask(&router, "GET", &path, &headers).await, ask(&router, "HEAD", &path, &headers).await);
                assert_eq!((head.status, head.body.len()), (get.status, 0));
                let mut expected = get.headers;
                expected.insert("x-request-id", head.headers["x-request-id"].clone());
                assert_eq!(head.headers, expected, "{path} {accepted}");
            }
        }
    }
}
