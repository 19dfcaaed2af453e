//! `GET /metrics`: counters and measurements, for Prometheus.
//!
//! Events are counted where they happen: requests here, the stores' operations by a [`Meter`] around each, uploads in
//! `Keepsake::counts`. The state is read at a scrape ([`state`]), and results of store requests are cached for a
//! minute. docs/monitoring.md explains each metric, and a test compares it with the exposed ones.
//!
//! Labels have few values: patterns of routes, known methods, statuses, operations. Never a name or an address.

mod look;
mod state;

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use shared::Meters;
use shared::http::{App, Problem};
use shared::store::{ErrorKind, Meter};

use self::look::Looks;
use self::state::Labels;

/// Upper bounds in seconds: from a cache lookup to an upload over a slow line.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Errors that are caused by the store's condition, and not by the request.
const FAILURES: [ErrorKind; 5] =
    [ErrorKind::Full, ErrorKind::ReadOnly, ErrorKind::Refused, ErrorKind::Corrupt, ErrorKind::Unavailable];

pub struct Metrics {
    registry: Registry,
    requests: Family<Labels<3>, Counter>,
    request_seconds: Family<Labels<2>, Histogram>,
    stores: Stores,
    looks: Looks,
}

#[derive(Clone, Debug)]
struct Stores {
    operations: Family<Labels<3>, Counter>,
    errors: Family<Labels<2>, Counter>,
    seconds: Family<Labels<2>, Histogram>,
}

#[derive(Debug)]
struct StoreMeter {
    name: &'static str,
    stores: Stores,
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("keepsake");
        let (requests, operations, errors) = (Family::default(), Family::default(), Family::default());
        let request_seconds = Family::new_with_constructor(histogram as fn() -> _);
        let seconds = Family::new_with_constructor(histogram as fn() -> _);
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register(
            "http_request_seconds",
            "Time from a request's headers to those of its answer",
            request_seconds.clone(),
        );
        registry.register("store_operations", "Operations of the stores, by how they ended", operations.clone());
        registry.register("store_operation_seconds", "How long operations of the stores took", seconds.clone());
        registry.register("store_errors", "Operations that failed because the store did", errors.clone());
        let stores = Stores { operations, errors, seconds };
        Arc::new(Self { registry, requests, request_seconds, stores, looks: Looks::default() })
    }

    pub fn meters(&self) -> Meters {
        let meter = |name| {
            // Exposed from the first scrape on, since the growth of a metric that did not exist before cannot be
            // computed.
            FAILURES.iter().for_each(|kind| _ = self.stores.errors.get_or_create(&error_of(name, *kind)));
            Arc::new(StoreMeter { name, stores: self.stores.clone() })
        };
        Meters { primary: meter("primary"), archive: meter("archive") }
    }

    async fn expose(&self, app: &App) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, &state::registry(&app.keepsake, self.looks.recent(app).await.as_deref()))?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// Show counters and measurements, for Prometheus.
///
/// The number of images and the state of their storage are not public, so this requires the token.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "health", responses(
    (status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text"),
))]
pub async fn scrape(metrics: Arc<Metrics>, app: App) -> Result<Response, Problem> {
    let text = metrics.expose(&app).await.map_err(Problem::internal)?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Counts a request and measures the time until it is answered; the bytes of the answer are sent after that.
pub async fn observe(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    let method = known(request.method()).to_owned();
    let begun = now();
    let response = next.run(request).await;
    let status = response.status().as_str().to_owned();
    let seconds = begun.elapsed().as_secs_f64();
    metrics.request_seconds.get_or_create(&[("method", method.clone()), ("route", route.clone())]).observe(seconds);
    metrics.requests.get_or_create(&[("method", method), ("route", route), ("status", status)]).inc();
    response
}

/// Clients may send any word as a method.
fn known(method: &Method) -> &str {
    let methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    if methods.contains(method) { method.as_str() } else { "other" }
}

#[expect(clippy::disallowed_methods, reason = "how long a request takes is not a matter of the time of day")]
fn now() -> Instant {
    Instant::now()
}

impl Meter for StoreMeter {
    fn note(&self, operation: &'static str, failure: Option<ErrorKind>, took: Duration) {
        let (store, operation) = (("place", self.name.to_owned()), ("operation", operation.to_owned()));
        let outcome = ("outcome", outcome(failure).to_owned());
        if let Some(kind) = failure.filter(|kind| FAILURES.contains(kind)) {
            self.stores.errors.get_or_create(&error_of(self.name, kind)).inc();
        }
        self.stores.operations.get_or_create(&[store.clone(), operation.clone(), outcome]).inc();
        self.stores.seconds.get_or_create(&[store, operation]).observe(took.as_secs_f64());
    }
}

fn error_of(store: &str, kind: ErrorKind) -> Labels<2> {
    [("place", store.to_owned()), ("kind", outcome(Some(kind)).to_owned())]
}

fn outcome(failure: Option<ErrorKind>) -> &'static str {
    match failure {
        None => "ok",
        Some(ErrorKind::NotFound) => "not-found",
        Some(ErrorKind::AlreadyExists) => "already-exists",
        Some(ErrorKind::Changed) => "changed",
        Some(ErrorKind::Full) => "full",
        Some(ErrorKind::ReadOnly) => "read-only",
        Some(ErrorKind::Refused) => "refused",
        Some(ErrorKind::Corrupt) => "corrupt",
        Some(ErrorKind::Unavailable) => "unavailable",
        Some(ErrorKind::Fenced) => "withheld",
    }
}

impl Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
