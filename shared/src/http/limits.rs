//! Rate limiting. A server has a [`Limiter`]; in front of functions the gateway does it.

use std::fmt::Debug;
use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use axum::http::{Extensions, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::{App, Problem};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The client's address, as far as it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client(pub IpAddr);

/// The state of a quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quota {
    /// What is counted.
    pub name: &'static str,
    /// The maximum per window.
    pub quota: u32,
    /// The window in seconds.
    pub window_seconds: u64,
    /// How many are left now.
    pub remaining: u32,
    /// In how many seconds the whole quota is available again.
    pub reset_seconds: u64,
    /// In how many seconds the next one is allowed; zero if now.
    pub retry_seconds: u64,
}

/// Counts what clients do, and enforces quotas.
pub trait Limiter: Send + Sync + Debug {
    /// Counts a request. `None` if this client is not limited; the error is the exhausted quota.
    fn request(&self, client: Client) -> Result<Option<Quota>, Quota>;

    /// Whether a client may try another token that is short enough to guess.
    fn may_guess(&self, client: Client) -> Result<(), Quota>;

    /// Counts a wrong token.
    fn guessed_wrong(&self, client: Client);
}

impl Quota {
    /// The response headers for a quota, following draft-ietf-httpapi-ratelimit-headers.
    fn tell(&self) -> [(HeaderName, HeaderValue); 2] {
        let Self { name, quota, window_seconds, remaining, reset_seconds, .. } = self;
        let value = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        [
            (RATE_LIMIT_POLICY, value(format!("\"{name}\";q={quota};w={window_seconds}"))),
            (RATE_LIMIT, value(format!("\"{name}\";r={remaining};t={reset_seconds}"))),
        ]
    }

    fn refusal(&self, detail: &str) -> Problem {
        let detail = format!("{detail} Try again in {} seconds.", self.retry_seconds);
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail);
        let problem = problem.retry_after(self.retry_seconds);
        self.tell().into_iter().fold(problem, |problem, (name, value)| problem.with_header(name, value))
    }
}

/// Refuses requests of clients that sent too many, and reports the remaining quota to the others.
pub(super) async fn pace(State(app): State<App>, request: Request, next: Next) -> Result<Response, Problem> {
    let counted = watched(&app, request.extensions()).map_or(Ok(None), |(limiter, client)| limiter.request(client));
    let quota = counted.map_err(|quota| quota.refusal("This address has sent too many requests."))?;
    let mut response = next.run(request).await;
    if let Some(quota) = quota {
        let headers: &mut HeaderMap = response.headers_mut();
        headers.extend(quota.tell());
    }
    Ok(response)
}

/// The limiter and the client, if this request is limited.
pub(super) fn watched<'a>(app: &'a App, extensions: &Extensions) -> Option<(&'a dyn Limiter, Client)> {
    Some((app.limiter.as_deref()?, *extensions.get::<Client>()?))
}

/// Refuses another guess after too many wrong ones.
pub(super) fn check_guess((limiter, client): (&dyn Limiter, Client)) -> Result<(), Problem> {
    limiter.may_guess(client).map_err(|quota| quota.refusal("Too many tokens from this address were wrong."))
}
