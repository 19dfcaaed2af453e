//! Headers: ranges, conditions, and who may ask.

use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};
use shared::config::Secret;
use shared::http::Access;
use shared::testing::{Answer, png, store_image};

use super::http::{ask, run, served};

const NAMES: [&str; 10] = [
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "host",
    "origin",
    "authorization",
    "access-control-request-method",
];
const TOKEN: &str = "a-token";

/// One image, served to those who have the token.
struct Site {
    router: Router,
    path: String,
    bytes: Vec<u8>,
    etag: String,
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let (app, router) = served(Access::new(Some(Secret::new(TOKEN)), Vec::new(), false));
        let bytes = png(1);
        let id = run(store_image(&app.keepsake, bytes.clone()));
        let path = format!("/uploads/{id}");
        let etag = run(ask(&router, asking("GET", &path, &HeaderMap::new()))).header("etag").to_owned();
        Site { router, path, bytes, etag }
    })
}

fn asking(method: &str, path: &str, headers: &HeaderMap) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).expect("a request");
    *request.headers_mut() = headers.clone();
    request
}

/// Each line is one header: a byte that says which, and its value.
pub fn headers(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in data.split(|byte| *byte == b'\n').take(2 * NAMES.len()) {
        let Some((name, value)) = line.split_first() else { continue };
        let name = NAMES[usize::from(name.wrapping_sub(b'0')) % NAMES.len()];
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let site = site();
    run(async {
        let got = ask(&site.router, asking("GET", &site.path, &headers)).await;
        says_what_it_holds(site, &got);
        if headers.keys().all(|name| !name.as_str().starts_with("if-")) {
            answers_the_range(site, &headers, &got);
        } else {
            keeps_the_conditions(site, &headers, &got);
        }
        // The same conditions, and no bytes.
        let head = ask(&site.router, asking("HEAD", &site.path, &headers)).await;
        assert_eq!(
            head.status,
            if matches!(got.status.as_u16(), 206 | 416) { 200.try_into().unwrap() } else { got.status }
        );
        assert!(head.body.is_empty());

        only_who_knows_the_token_changes_anything(site, &headers).await;
    });
    let local = local();
    run(only_local_names_are_answered(local, &headers));
}

/// The bytes that came are those that the headers of the answer name.
fn says_what_it_holds(site: &Site, got: &Answer) {
    let length = site.bytes.len();
    match got.status.as_u16() {
        200 => assert_eq!(got.body, site.bytes),
        206 => {
            let (range, whole) = got
                .header("content-range")
                .strip_prefix("bytes ")
                .and_then(|range| range.split_once('/'))
                .expect("a range");
            let (first, last) = range.split_once('-').expect("two numbers");
            let (first, last): (usize, usize) = (first.parse().expect("first"), last.parse().expect("last"));
            assert_eq!((&got.body[..], whole), (&site.bytes[first..=last], length.to_string().as_str()));
        }
        304 | 412 => {}
        416 => assert_eq!(got.header("content-range"), format!("bytes */{length}")),
        _ => panic!("{got:?}"),
    }
    if matches!(got.status.as_u16(), 200 | 206) {
        assert_eq!(got.header("content-length"), got.body.len().to_string());
    }
}

/// A range of one part in the usual form gets just that part.
fn answers_the_range(site: &Site, headers: &HeaderMap, got: &Answer) {
    let Some(spec) = headers.get("range").and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")) else {
        return;
    };
    let Some((first, last)) = spec.split_once('-') else { return };
    let length = site.bytes.len();
    let number =
        |digits: &str| digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<usize>().ok()).flatten();
    let part = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => site.bytes.get(first..length.min(last.saturating_add(1))),
        (Some(first), None) if last.is_empty() => site.bytes.get(first..),
        (None, Some(count)) if first.is_empty() => site.bytes.get(length.saturating_sub(count)..),
        _ => return,
    };
    match part.filter(|part| !part.is_empty()) {
        Some(part) => assert_eq!((got.status.as_u16(), &got.body[..]), (206, part), "{spec}"),
        None => assert_eq!(got.status, 416, "{spec}"),
    }
}

/// Conditions that name the version itself, and nothing besides.
fn keeps_the_conditions(site: &Site, headers: &HeaderMap, got: &Answer) {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given == value);
    let may_fail = ["if-match", "if-unmodified-since"].iter().any(|name| headers.contains_key(*name));
    assert!(may_fail || got.status != 412, "{got:?}");
    if is("if-match", &site.etag) || is("if-match", "*") {
        assert_ne!(got.status, 412);
    }
    if is("if-none-match", &site.etag) || is("if-none-match", "*") {
        assert!(matches!(got.status.as_u16(), 304 | 412), "{got:?}");
    }
    let may_be_known = ["if-none-match", "if-modified-since"].iter().any(|name| headers.contains_key(*name));
    assert!(may_be_known || got.status != 304, "{got:?}");
}

async fn only_who_knows_the_token_changes_anything(site: &Site, headers: &HeaderMap) {
    let tried = ask(&site.router, asking("DELETE", "/api/images/none.png", headers)).await;
    let given = headers.get("authorization").map(HeaderValue::as_bytes).unwrap_or_default();
    let knows =
        given.len() > 7 && given[..7].eq_ignore_ascii_case(b"bearer ") && given[7..].trim_ascii() == TOKEN.as_bytes();
    assert!(knows || matches!(tried.status.as_u16(), 401 | 403), "{tried:?}");
    let came_from_a_page = headers.contains_key("origin");
    assert!(!knows || came_from_a_page || !matches!(tried.status.as_u16(), 401 | 403), "{tried:?}");
}

/// A server that listens to its own machine only.
fn local() -> &'static Router {
    static LOCAL: OnceLock<Router> = OnceLock::new();
    LOCAL.get_or_init(|| served(Access::new(None, Vec::new(), true)).1)
}

async fn only_local_names_are_answered(router: &Router, headers: &HeaderMap) {
    let answer = ask(router, asking("GET", "/api/images", headers)).await;
    if answer.status == 403 {
        return;
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
    let rest = ["localhost", "127.0.0.1", "[::1]"].iter().find_map(|local| host.strip_prefix(local));
    let port = rest.unwrap_or("none").trim_start_matches(':');
    assert!(port.bytes().all(|byte| byte.is_ascii_digit()), "{host} was answered");
}
