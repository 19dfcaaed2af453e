//! What all routers share: the state they run on, who may ask, how errors look, and the layers around every route.
//!
//! A function's crate lists its [`Routes`]; [`finish`] puts the layers around them, or around those of several crates at
//! once. From the outside in: a request id, one line of log, headers that every response has, [`Problem`]s as the client
//! is to see them, panics as problems, CORS, [`limits`], [`Access`].
//!
//! Architecture invariant: this module and the routers are the only ones that know status codes.

mod access;
mod caller;
mod extract;
mod item;
pub mod lambda;
pub mod limits;
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

pub use access::Access;
pub use caller::{Caller, unauthorized};
pub use extract::{MAX_JSON_BYTES, Path, Query, media_type, read_json};
pub use item::{GroupItem, Item, etag, group_etag};
pub use problem::Problem;
pub use routes::Routes;
pub use schema::{Binary, FilePart, time};
pub use zip_body::ZipBody;

use crate::base::clock::Clock;
use crate::config::{Config, Platform};
use crate::core::error::{Error, Result};
use crate::keepsake::Keepsake;
use crate::services::derivative::Derivatives;

/// The header that names a request in the log; taken over from the client or a proxy where one has named it sensibly.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest name that is taken over.
const MAX_REQUEST_ID: usize = 128;
/// So many characters of a method or a path are logged.
const MAX_LOGGED: usize = 500;

/// What every handler is given. Cheap to clone.
#[derive(Clone, Debug)]
pub struct App {
    /// The store and everything that serves it.
    pub keepsake: Arc<Keepsake>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Who says no to whoever asks too often, if anyone does here.
    pub limiter: Option<Arc<dyn limits::Limiter>>,
    /// Whether requests and responses pass through AWS Lambda, which takes 6 MB each way at most.
    pub on_lambda: bool,
    /// The platform this process runs on, where one is recognised, for health.
    pub platform: Option<&'static str>,
    /// Who makes smaller forms of images; functions have nobody for it, and answer with the images themselves.
    pub derivatives: Option<Arc<Derivatives>>,
    /// How clients reach this server, such as `https://photos.example`: what the URLs in answers begin with. Where it is
    /// empty they are relative.
    pub public_url: Arc<str>,
    /// Whether images are served without what they say of where they were taken; no function does it.
    pub strip_gps: bool,
}

/// The largest body, in bytes, that a Lambda function takes in itself: its request may have 6 MB, base64 included.
pub const LAMBDA_MAX_BODY_BYTES: u64 = 4_500_000;

impl App {
    /// Serves `keepsake` to whom `access` lets in, from a process of its own.
    pub fn new(keepsake: impl Into<Arc<Keepsake>>, access: Access) -> Self {
        Self {
            keepsake: keepsake.into(),
            access: Arc::new(access),
            limiter: None,
            on_lambda: false,
            platform: None,
            derivatives: None,
            public_url: "".into(),
            strip_gps: false,
        }
    }

    /// Runs a change to its end, also when the client hangs up meanwhile: half of one would wait for the next recovery.
    pub async fn change<T, F>(&self, change: impl FnOnce(Arc<Keepsake>) -> F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let change = change(Arc::clone(&self.keepsake));
        tokio::spawn(change.in_current_span()).await.map_err(Problem::internal)?.map_err(Problem::from)
    }

    /// The longest image in bytes that can come in the body of a request.
    pub fn max_body_bytes(&self) -> u64 {
        let most = self.keepsake.core.settings.max_upload_bytes;
        if self.on_lambda { most.min(LAMBDA_MAX_BODY_BYTES) } else { most }
    }

    /// The same with smaller forms of images.
    #[must_use]
    pub fn with_derivatives(self, derivatives: Derivatives) -> Self {
        self.keepsake.derivatives.set_kept(derivatives.are_kept());
        Self { derivatives: Some(Arc::new(derivatives)), ..self }
    }

    /// Serves `keepsake` as `config` says.
    pub fn from_config(keepsake: impl Into<Arc<Keepsake>>, config: &Config) -> Self {
        let on_lambda = config.platform == Some(Platform::Lambda);
        let platform = config.platform.map(Platform::name);
        let public_url = config.public_url.as_deref().unwrap_or_default().into();
        let strip_gps = config.strip_gps;
        Self { on_lambda, platform, public_url, strip_gps, ..Self::new(keepsake, Access::from_config(config)) }
    }
}

/// Puts what every route has in common around `router`, unknown paths and wrong methods included.
pub fn finish(router: Router, app: &App) -> Router {
    let always =
        |name: HeaderName, value| SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value));
    let trace = TraceLayer::new_for_http()
        .make_span_with(request_span)
        .on_request(())
        .on_response(log_response)
        // A failure is logged once, with its reason, where its problem is reported.
        .on_failure(());
    let layers = ServiceBuilder::new()
        .layer(map_request(drop_unfit_request_id))
        .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId(app.keepsake.core.clock.clone())))
        .layer(trace)
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(always(X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // The way for a ticket's bytes has a secret in it, and no other site is to learn of any path here.
        .layer(always(REFERRER_POLICY, "no-referrer"))
        .layer(always(CACHE_CONTROL, "no-store"))
        .layer(from_fn(problem::report))
        .layer(CatchPanicLayer::custom(problem::panicked))
        .option_layer(app.access.cors())
        .layer(from_fn_with_state(app.clone(), limits::pace))
        .layer(from_fn_with_state(app.clone(), access::guard));
    router.fallback(problem::unknown_path).method_not_allowed_fallback(problem::wrong_method).layer(layers)
}

/// Reads a whole body of at most `limit` bytes, such as a description of something.
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

/// Drops a name that is long or has signs in it that names given by proxies do not have: it comes into every line of the
/// log and into the answer.
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
    // The query stays out: what people search for is their own affair, and the way for a ticket's bytes has a secret in it.
    let start_of = |text: &str| text.chars().take(MAX_LOGGED).collect::<String>();
    let (method, path) = (start_of(request.method().as_str()), start_of(request.uri().path()));
    tracing::info_span!("request", request_id = id, method, path)
}

fn log_response(response: &Response, latency: Duration, _span: &Span) {
    tracing::info!(status = response.status().as_u16(), latency_ms = latency.as_millis() as u64, "answered");
}
