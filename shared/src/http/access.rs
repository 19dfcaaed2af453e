//! [`Access`]: the authorization of requests.

use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{self, CACHE_CONTROL, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::scopes::{self, Needs};
use super::{App, Caller, Problem};
use crate::config::{Config, Platform, Read, Secret};
use crate::services::tokens::Scope;
use store::digest::Digest;

/// The authorization of requests.
///
/// [`scopes`] defines what each route needs. If no token is configured, every client has every scope; otherwise a
/// client without a token only has the scope for reading, unless reading needs a token too.
///
/// Every request that needs more than reading, and so every change, may come from a web page only if that page is the
/// server's own or of an allowed origin: a browser sends any request that a page makes, even to a server that only
/// listens on its own machine. On such a server, every request must also use a local host name, so that no page can
/// read through a name of its own that resolves to 127.0.0.1 (DNS rebinding); elsewhere it must use an allowed host
/// name, if any is set.
#[derive(Debug, Clone, Default)]
pub struct Access {
    token: Option<Secret>,
    allowed_origins: Vec<String>,
    allowed_hosts: Vec<String>,
    public_url: Option<String>,
    only_local: bool,
    private: bool,
}

impl Access {
    /// Requires `token`, if given, for changes; accepts pages of `allowed_origins`, each in the form that browsers
    /// send; with `only_local`, accepts only requests to `localhost`, `127.0.0.1` or `[::1]`.
    pub fn new(token: Option<Secret>, allowed_origins: Vec<String>, only_local: bool) -> Self {
        Self { token, allowed_origins, only_local, ..Self::default() }
    }

    /// Accepts only requests to one of these host names, or to a local one; names are in lower case, and one with a
    /// port is accepted with that port only. An empty list accepts all names, or with `only_local` only local ones.
    #[must_use]
    pub fn for_hosts(self, allowed_hosts: Vec<String>) -> Self {
        Self { allowed_hosts, ..self }
    }

    /// Treats pages of this origin as the server's own, whatever host name a proxy sends.
    #[must_use]
    pub fn known_as(self, public_url: Option<String>) -> Self {
        Self { public_url, ..self }
    }

    /// Requires a token for reading as well.
    #[must_use]
    pub fn private(self) -> Self {
        Self { private: true, ..self }
    }

    /// The access rules in `config`; only local if it listens on a loopback address.
    pub fn from_config(config: &Config) -> Self {
        let only_local = config.host.is_loopback() && config.platform != Some(Platform::Lambda);
        let access = Self::new(config.api_token.clone(), config.allowed_origins.clone(), only_local)
            .for_hosts(config.allowed_hosts.clone())
            .known_as(config.public_url.clone());
        if config.read == Read::Token { access.private() } else { access }
    }

    /// Whether any client that can connect can make changes.
    pub fn is_open(&self) -> bool {
        !self.needs_token() && !self.only_local
    }

    /// Whether changes need a token.
    pub fn needs_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether reading needs one too.
    pub fn is_private(&self) -> bool {
        self.private && self.needs_token()
    }

    /// The scope of a client without a token.
    pub(super) fn without_token(&self) -> Option<Scope> {
        match (self.needs_token(), self.private) {
            (false, _) => Some(Scope::Admin),
            (true, false) => Some(Scope::Read),
            (true, true) => None,
        }
    }

    /// Whether this is the configured token.
    pub(super) fn is_configured(&self, given: &str) -> bool {
        self.token.as_ref().is_some_and(|token| same(given, token.expose()))
    }

    fn check_host(&self, needs: Needs, route: Option<&str>, headers: &HeaderMap) -> Result<(), Problem> {
        let forbidden = |detail| Err(Problem::new(StatusCode::FORBIDDEN, "forbidden-host", detail));
        let host = text(headers, HOST);
        if host.is_some_and(is_local) {
            return Ok(());
        }
        // Platforms probe under any host name or address, or under none, which HTTP/1.0 allows; the response tells a
        // page nothing. A browser always sends a name.
        let is_probe = needs == Needs::Nothing && matches!(route, Some("/livez" | "/readyz"));
        if is_probe && (host.is_none() || !self.only_local) {
            return Ok(());
        }
        if self.allowed_hosts.is_empty() {
            return match self.only_local {
                true => forbidden("This server answers only as localhost, 127.0.0.1 or [::1]."),
                false => Ok(()),
            };
        }
        if host.is_some_and(|host| self.is_allowed(host)) {
            return Ok(());
        }
        forbidden("This server does not answer to this name.")
    }

    fn is_allowed(&self, host: &str) -> bool {
        let is = |allowed: &String| allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(name_of(host));
        self.allowed_hosts.iter().any(is)
    }

    fn check_origin(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if !headers.contains_key(ORIGIN) || self.is_from_own_page(headers) {
            return Ok(());
        }
        let origin = text(headers, ORIGIN).unwrap_or_default();
        if self.allowed_origins.iter().any(|allowed| allowed == origin) {
            return Ok(());
        }
        // A page without TLS sends no `Sec-Fetch-Site`, and a proxy that changes `Host` makes it look like a foreign
        // page.
        let detail = format!(
            "Pages from {origin:?} may not make changes here. If that is this server's own address, the proxy must pass on the \
             Host header unchanged, or ALLOWED_ORIGINS must name it."
        );
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden-origin", detail))
    }

    /// Refuses a change in a session unless it comes from a page of this server, according to the browser. A browser
    /// sends cookies with the requests of any page of the same site, and an old browser with those of any page.
    pub(super) fn check_session(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let asked_here = match text(headers, SEC_FETCH_SITE) {
            Some(site) => matches!(site, "same-origin" | "none"),
            // The origin itself has been checked, as for every change.
            None => headers.contains_key(ORIGIN),
        };
        if asked_here {
            return Ok(());
        }
        let detail =
            "A session is for the pages of this server alone. Show the token in the header Authorization instead.";
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden-origin", detail))
    }

    /// Whether a page of this server sent this request, according to `Sec-Fetch-Site`, which also holds behind a proxy
    /// that changes the host name; or according to `Origin`, for browsers that send only that.
    fn is_from_own_page(&self, headers: &HeaderMap) -> bool {
        match text(headers, SEC_FETCH_SITE) {
            Some("same-origin") => true,
            Some("same-site" | "cross-site") => false,
            // Browsers send it only over TLS and to localhost. On plain HTTP, the port of a proxy is only in the
            // origin, unless the proxy passes the host name on unchanged.
            _ => text(headers, ORIGIN).is_some_and(|origin| {
                let is_public = self.public_url.as_deref() == Some(origin);
                is_public || text(headers, HOST).is_some_and(|host| is_own(origin, host))
            }),
        }
    }

    /// Lets pages of the allowed origins read responses; `None` if there are none.
    pub(super) fn cors(&self) -> Option<CorsLayer> {
        const ANSWERS: [HeaderName; 12] = [
            header::ACCEPT_RANGES,
            header::CONTENT_RANGE,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit"),
            HeaderName::from_static("ratelimit-policy"),
            HeaderName::from_static("repr-digest"),
            HeaderName::from_static("upload-complete"),
            HeaderName::from_static("upload-limit"),
            HeaderName::from_static("upload-offset"),
            super::REQUEST_ID,
        ];
        const METHODS: [Method; 6] =
            [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let origins: Vec<HeaderValue> = self.allowed_origins.iter().filter_map(|o| o.parse().ok()).collect();
        let layer = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins))
            .allow_methods(METHODS)
            .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
            .expose_headers(ANSWERS)
            .max_age(PREFLIGHT_KEPT);
        (!self.allowed_origins.is_empty()).then_some(layer)
    }
}

/// Refuses requests that [`Access`] does not allow.
pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    let access = &app.access;
    let (mut parts, body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let needs = scopes::needed_for(&parts.method, route);
    access.check_host(needs, route, &parts.headers)?;
    if needs != Needs::OwnSecret && (!parts.method.is_safe() || matches!(needs, Needs::Token(_))) {
        access.check_origin(&parts.headers)?;
    }
    let scope = match needs {
        Needs::Nothing | Needs::OwnSecret => None,
        Needs::Reading => access.is_private().then_some(Scope::Read),
        Needs::Token(scope) => Some(scope),
    };
    if let Some(scope) = scope {
        let caller = Caller::of(&app, &parts).await?;
        caller.require_token(&app, scope)?;
        parts.extensions.insert(caller);
    }
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if access.is_private() {
        keep_from_shared_caches(response.headers_mut());
    }
    Ok(response)
}

/// Keeps responses that need a token out of shared caches.
fn keep_from_shared_caches(headers: &mut HeaderMap) {
    let Some(public) = text(headers, CACHE_CONTROL).filter(|value| value.contains("public")) else { return };
    if let Ok(private) = HeaderValue::try_from(public.replace("public", "private")) {
        headers.insert(CACHE_CONTROL, private);
    }
}

/// How long a browser may cache the response to a preflight; Chromium's maximum.
const PREFLIGHT_KEPT: Duration = Duration::from_hours(2);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn is_local(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|local| name_of(host).eq_ignore_ascii_case(local))
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a page of `origin` came from `host`. The scheme is not compared: behind a proxy it is unknown here.
fn is_own(origin: &str, host: &str) -> bool {
    let (authority, default_port) = match origin.split_once("://") {
        Some(("https", authority)) => (authority, ":443"),
        Some(("http", authority)) => (authority, ":80"),
        _ => return false,
    };
    let without_default = |host: &str| host.strip_suffix(default_port).unwrap_or(host).to_ascii_lowercase();
    without_default(authority) == without_default(host)
}

/// Compares in constant time, which reveals neither how much of a guess is right nor the length of the secret.
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
