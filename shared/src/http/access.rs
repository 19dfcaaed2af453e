//! [`Access`]: who may ask for what.

use axum::extract::{Request, State};
use axum::http::header::{self, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use headers::HeaderMapExt;
use headers::authorization::{Authorization, Bearer};
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{App, Problem};
use crate::config::{Config, Platform, Secret};
use crate::digest::Digest;

/// Who may ask for what.
///
/// Reading is open to all that reach the server, but for whole backups, which hold what was deleted since. Such a download
/// and every change need the token, where there is one, and may come from a web page only if that page is the server's own
/// or of an allowed origin: a browser sends what any page asks it to, also to a server that only listens to its own
/// machine. There, in addition, every request must name the machine as local, so that no page can read through a name of
/// its own that leads to 127.0.0.1 (DNS rebinding).
#[derive(Debug, Clone, Default)]
pub struct Access {
    token: Option<Secret>,
    allowed_origins: Vec<String>,
    only_local: bool,
}

impl Access {
    /// Needs `token`, where there is one, for changes; lets pages of `allowed_origins` in, each written as browsers write
    /// it; with `only_local`, answers only those who ask for `localhost`, `127.0.0.1` or `[::1]`.
    pub fn new(token: Option<Secret>, allowed_origins: Vec<String>, only_local: bool) -> Self {
        Self { token, allowed_origins, only_local }
    }

    /// What `config` says; only local where it listens on a loopback address.
    pub fn from_config(config: &Config) -> Self {
        let only_local = config.host.is_loopback() && config.platform != Some(Platform::Lambda);
        Self::new(config.api_token.clone(), config.allowed_origins.clone(), only_local)
    }

    /// Whether anyone who can reach the server can make changes.
    pub fn is_open(&self) -> bool {
        self.token.is_none() && !self.only_local
    }

    fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |slug, detail| Err(Problem::new(StatusCode::FORBIDDEN, slug, detail));
        let host = text(headers, HOST);
        if self.only_local && !host.is_some_and(is_local) {
            return forbidden("forbidden-host", "This server answers only as localhost, 127.0.0.1 or [::1].");
        }
        let open = method.is_safe() && !shows_what_was_deleted(path);
        if open || has_secret_of_its_own(method, path) {
            return Ok(());
        }
        if headers.contains_key(ORIGIN) {
            let origin = text(headers, ORIGIN).unwrap_or_default();
            let own = host.is_some_and(|host| is_own(origin, host));
            if !own && !self.allowed_origins.iter().any(|allowed| allowed == origin) {
                return forbidden("forbidden-origin", "Pages of this origin may not make changes here.");
            }
        }
        self.check_token(headers)
    }

    /// Refuses whoever does not have the token, where there is one: for what more is told of than of the images.
    pub fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.typed_get::<Authorization<Bearer>>();
        if given.is_some_and(|given| same(given.token(), token.expose())) {
            return Ok(());
        }
        let detail = "This needs the header \"Authorization: Bearer <API_TOKEN>\" with the right token.";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail);
        Err(problem.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }

    /// Lets pages of the allowed origins read answers; `None` where there are none.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        const ANSWERS: [HeaderName; 7] = [
            header::ACCEPT_RANGES,
            header::CONTENT_RANGE,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("repr-digest"),
            super::REQUEST_ID,
        ];
        const METHODS: [Method; 6] =
            [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let origins: Vec<HeaderValue> = self.allowed_origins.iter().filter_map(|o| o.parse().ok()).collect();
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods(METHODS)
            .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
            .expose_headers(ANSWERS);
        (!self.allowed_origins.is_empty()).then_some(layer)
    }
}

/// Refuses what [`Access`] does not let pass.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    app.access.check(request.method(), request.uri().path(), request.headers())?;
    Ok(next.run(request).await)
}

/// Whether this is the way for the bytes of a ticket: its URL is given to clients who have no other rights, and the
/// secret in it is checked where the ticket is.
fn has_secret_of_its_own(method: &Method, path: &str) -> bool {
    method == Method::PUT && path.strip_prefix("/api/upload/").is_some_and(|id| !id.contains('/'))
}

/// Whether this is the download of a backup: someone who deleted an image has taken it from everyone's sight.
fn shows_what_was_deleted(path: &str) -> bool {
    path.strip_prefix("/api/backups/").is_some_and(|rest| rest.trim_end_matches('/').ends_with("/download"))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|local| name.eq_ignore_ascii_case(local))
}

/// Whether a page of `origin` came from `host`. The scheme is not compared: behind a proxy it is not known here.
fn is_own(origin: &str, host: &str) -> bool {
    let (authority, default_port) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) => (authority, ":80"),
        _ => return false,
    };
    let without_default = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    without_default(authority) == without_default(host)
}

/// Compares in a time that tells neither how much of a guess is right nor how long the secret is.
fn same(given: &str, secret: &str) -> bool {
    Digest::of(given.as_bytes()).as_bytes().ct_eq(Digest::of(secret.as_bytes()).as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_local_names_are_local_whatever_the_port() {
        for local in ["localhost", "localhost:3000", "LOCALHOST", "127.0.0.1", "127.0.0.1:80", "[::1]", "[::1]:3000"] {
            assert!(is_local(local), "{local}");
        }
        for other in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.2", "::1", "", ":80"]
        {
            assert!(!is_local(other), "{other}");
        }
    }

    #[test]
    fn a_page_is_the_servers_own_by_host_and_port() {
        for (origin, host) in [
            ("http://localhost:3000", "localhost:3000"),
            ("https://a.example", "a.example"),
            ("https://a.example", "A.example:443"),
            ("http://a.example", "a.example:80"),
        ] {
            assert!(is_own(origin, host), "{origin} {host}");
        }
        for (origin, host) in [
            ("null", "a.example"),
            ("", ""),
            ("https://a.example.evil.example", "a.example"),
            ("http://localhost:5173", "localhost:3000"),
            ("file://a.example", "a.example"),
        ] {
            assert!(!is_own(origin, host), "{origin} {host}");
        }
    }
}
