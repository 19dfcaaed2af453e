//! The shared part of all routers: their state, authorization, errors, and the layers around every route.
//!
//! A function's crate lists its [`Routes`]; [`finish`] puts the layers around them, or around those of several crates
//! at once. From the outside in: a request id, one log line, headers that every response has, [`Problem`]s in their
//! final form, panics as problems, CORS, [`limits`], [`Access`].
//!
//! Architecture invariant: only this module and the routers use status codes.

mod access;
mod caller;
mod extract;
mod item;
pub mod lambda;
pub mod limits;
mod lists;
mod problem;
pub mod range;
mod routes;
mod schema;
pub mod scopes;
pub mod session;
#[cfg(test)]
mod tests;
mod zip_body;

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::middleware::{from_fn, from_fn_with_state, map_request};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::LengthLimitError;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;
use tracing::{Instrument, Span};

use crate::base::clock::Clock;
use crate::config::{Config, Platform};
use crate::core::error::{Error, Result};
use crate::keepsake::Keepsake;
use crate::services::thumbnails::Thumbnails;

pub use access::Access;
pub use caller::{Caller, unauthorized};
pub use extract::{MAX_JSON_BYTES, Path, Query, media_type, read_json};
pub use item::{GroupItem, Item, etag, group_etag};
pub use lists::Lists;
pub use problem::Problem;
pub use routes::Routes;
pub use schema::{Binary, FilePart, time};
pub use zip_body::ZipBody;

/// The header with the id of a request in the log; adopted from the client or a proxy if it is valid.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is adopted.
const MAX_REQUEST_ID: usize = 128;
/// How many characters of a method or a path are logged.
const MAX_LOGGED: usize = 500;

/// The state of every handler. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The store and its services.
    pub keepsake: Arc<Keepsake>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// The rate limiter, if there is one.
    pub limiter: Option<Arc<dyn limits::Limiter>>,
    /// Whether requests and responses pass through AWS Lambda, which limits both to 6 MB.
    pub on_lambda: bool,
    /// The platform this process runs on, if it is recognized, for health.
    pub platform: Option<&'static str>,
    /// The maker of thumbnails; functions have none, and respond with the images themselves.
    pub thumbnails: Option<Arc<Thumbnails>>,
    /// The lists that were rendered last.
    pub lists: Lists,
    /// The URL under which clients reach this server, such as `https://photos.example`: the prefix of URLs in
    /// responses. If it is empty, URLs are relative.
    pub public_url: Arc<str>,
    /// Whether GPS positions are removed from images when they are served; no function supports it.
    pub strip_gps: bool,
}

/// The largest body, in bytes, that a Lambda function accepts itself: its request may have 6 MB, base64 included.
pub const LAMBDA_MAX_BODY_BYTES: u64 = 4_500_000;

impl App {
    /// Serves `keepsake` with the rules of `access`, from a separate process.
    pub fn new(keepsake: impl Into<Arc<Keepsake>>, access: Access) -> Self {
        Self {
            keepsake: keepsake.into(),
            access: Arc::new(access),
            limiter: None,
            on_lambda: false,
            platform: None,
            thumbnails: None,
            lists: Lists::default(),
            public_url: "".into(),
            strip_gps: false,
        }
    }

    /// Runs a change to its end, even if the client disconnects: half of one would wait for the next recovery.
    pub async fn change<T, F>(&self, change: impl FnOnce(Arc<Keepsake>) -> F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let change = change(Arc::clone(&self.keepsake));
        tokio::spawn(change.in_current_span()).await.map_err(Problem::internal)?.map_err(Problem::from)
    }

    /// The maximum size in bytes of an image in the body of a request.
    pub fn max_body_bytes(&self) -> u64 {
        let most = self.keepsake.core.settings.max_upload_bytes;
        if self.on_lambda { most.min(LAMBDA_MAX_BODY_BYTES) } else { most }
    }

    /// The same with thumbnails.
    #[must_use]
    pub fn with_thumbnails(self, thumbnails: Thumbnails) -> Self {
        self.keepsake.thumbnails.set_kept(thumbnails.are_kept());
        Self { thumbnails: Some(Arc::new(thumbnails)), ..self }
    }

    /// Serves `keepsake` as configured.
    pub fn from_config(keepsake: impl Into<Arc<Keepsake>>, config: &Config) -> Self {
        let on_lambda = config.platform == Some(Platform::Lambda);
        let platform = config.platform.map(Platform::name);
        let public_url = config.public_url.as_deref().unwrap_or_default().into();
        let strip_gps = config.strip_gps;
        Self { on_lambda, platform, public_url, strip_gps, ..Self::new(keepsake, Access::from_config(config)) }
    }
}

/// Puts the shared layers around `router`, including unknown paths and wrong methods.
pub fn finish(router: Router, app: &App) -> Router {
    let always =
        |name: HeaderName, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let trace = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_request(())
        .on_response(log_response)
        // A failure is logged once, with its cause, where its problem is reported.
        .on_failure(());
    let layers = ServiceBuilder::new()
        .layer(map_request(drop_unfit_request_id))
        .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId(app.keepsake.core.clock.clone())))
        .layer(trace)
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(always(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // The URL for a ticket's bytes contains a secret, and no other site may learn any path of this server.
        .layer(always(REFERRER_POLICY, "no-referrer"))
        .layer(always(CACHE_CONTROL, "no-store"))
        .layer(from_fn(problem::report))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .option_layer(app.access.cors())
        .layer(from_fn_with_state(app.clone(), limits::pace))
        .layer(from_fn_with_state(app.clone(), access::guard));
    router.fallback(problem::unknown_path).method_not_allowed_fallback(problem::wrong_method).layer(layers)
}

/// Reads a whole body of at most `limit` bytes, such as metadata.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes> {
    to_bytes(body, limit).await.map_err(|error| {
        let too_long = error.source().is_some_and(|source| source.is::<LengthLimitError>());
        if too_long {
            Error::TooLarge { limit: limit as u64 }
        } else {
            Error::Invalid("The body ended before it was complete.".to_owned())
        }
    })
}

/// Drops a request id that is long or has characters that ids of proxies do not have: it is written into every line of
/// the log and into the response.
async fn drop_unfit_request_id(mut request: Request) -> Request {
    let fits = |id: &HeaderValue| {
        let id = id.as_bytes();
        let sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(byte);
        (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(sign)
    };
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    if ids.next().is_some_and(|id| !fits(id)) || ids.next().is_some() {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

#[derive(Clone)]
struct NewRequestId(Clock);

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _request: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::try_from(self.0.new_id().to_string()).ok().map(RequestId::new)
    }
}

fn request_span(request: &Request) -> Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    // The query is not logged: search terms are private, and the URL for a ticket's bytes contains a secret.
    let start_of = |text: &str| text.chars().take(MAX_LOGGED).collect::<String>();
    let (method, path) = (start_of(request.method().as_str()), start_of(request.uri().path()));
    tracing::info_span!("request", request_id = id, method, path)
}

fn log_response(response: &Response, latency: Duration, _span: &Span) {
    tracing::info!(status = response.status().as_u16(), latency_ms = latency.as_millis() as u64, "answered");
}
