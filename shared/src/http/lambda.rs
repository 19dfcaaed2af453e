//! The shared part of the functions' binaries on AWS Lambda, behind any kind of gateway.

use std::error::Error as StdError;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{map_request, map_response};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use lambda_http::request::RequestContext;

use super::limits::Client;
use super::{App, Problem};
use crate::base::clock::Clock;
use crate::config::Config;
use crate::keepsake::Keepsake;
use crate::telemetry;

/// Maximum size of a function's response, in bytes of JSON with the body in it; the rest of the 6 MB is enough for what
/// surrounds the body.
const MAX_ANSWER_BYTES: usize = 6_000_000;
/// The prefixes of all routes.
const ROOTS: [&str; 4] = ["/api/", "/uploads/", "/livez", "/readyz"];

/// Reads the configuration, opens the store, and makes the router that `lambda_http::run` serves.
///
/// The error's debug form, which a failing `main` prints, is one plain sentence.
pub async fn start(router: fn(App) -> Router) -> Result<Router, Box<dyn StdError + Send + Sync>> {
    let (keepsake, config) = open().await?;
    let app = App::from_config(keepsake, &config);
    if app.access.is_open() {
        tracing::warn!("API_TOKEN is not set: everyone who can reach this function can change images");
    }
    Ok(behind_gateways(router(app).layer(map_response(collect))))
}

/// Normalizes requests from every kind of gateway for `router`: paths without a stage, and the client's address as
/// reported by the gateway. The layer is around a separate router, because a router picks its route before its own
/// layers run.
fn behind_gateways(router: Router) -> Router {
    Router::new().fallback_service(router).layer(map_request(async |mut request: Request| {
        if let Some(context) = request.extensions().get::<RequestContext>().cloned() {
            if let Some(path) = stage(&context).and_then(|stage| without_stage(request.uri(), stage)) {
                *request.uri_mut() = path;
            }
            let address = source(&context, request.headers());
            if let Some(address) = address.and_then(|address| address.parse().ok()) {
                request.extensions_mut().insert(Client(address));
            }
        }
        request
    }))
}

/// The API Gateway stage of a request, if it has a name.
fn stage(context: &RequestContext) -> Option<&str> {
    let stage = match context {
        RequestContext::ApiGatewayV1(context) => context.stage.as_deref(),
        RequestContext::ApiGatewayV2(context) => context.stage.as_deref(),
        _ => None,
    };
    stage.filter(|stage| *stage != "$default")
}

/// A URL without the stage before its path. The stage of a REST API may have been added by `lambda_http`, that of an
/// HTTP API by the gateway; behind a custom domain there may be none. So it is removed only if a path of Keepsake
/// follows, which also works for stages with names such as `api`.
fn without_stage(uri: &Uri, stage: &str) -> Option<Uri> {
    let path = uri.path().strip_prefix('/')?.strip_prefix(stage)?;
    if !ROOTS.iter().any(|root| path.starts_with(root)) {
        return None;
    }
    let mut parts = uri.clone().into_parts();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    parts.path_and_query = Some(format!("{path}{query}").parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// The client's address, as reported by the gateway: clients can forge X-Forwarded-For, but a load balancer appends the
/// address of its peer.
fn source<'a>(context: &'a RequestContext, headers: &'a HeaderMap) -> Option<&'a str> {
    match context {
        RequestContext::ApiGatewayV1(context) => context.identity.source_ip.as_deref(),
        RequestContext::ApiGatewayV2(context) => context.http.source_ip.as_deref(),
        RequestContext::Alb(_) => headers.get("x-forwarded-for")?.to_str().ok()?.rsplit(',').next().map(str::trim),
        _ => None,
    }
}

/// Reads the configuration and opens the store; errors as in [`start`].
pub async fn open() -> Result<(Keepsake, Config), Box<dyn StdError + Send + Sync>> {
    let config = Config::from_env().map_err(|error| error.to_string())?;
    telemetry::init(&config).map_err(|error| error.to_string())?;
    let keepsake = crate::open(&config, Clock::system()).await.map_err(|error| {
        tracing::error!(error = &error as &dyn StdError, "the store cannot be opened");
        error.to_string()
    })?;
    Ok((keepsake, config))
}

/// Buffers a response's body. `lambda_http` does so as well, but it ends the process if reading fails, and a response
/// that is too long for Lambda would fail without an explanation.
async fn collect(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    match body.collect().await.map(|body| body.to_bytes()) {
        Ok(bytes) if answer_length(&bytes, parts.headers.get(CONTENT_TYPE).is_some_and(is_json)) > MAX_ANSWER_BYTES => {
            tracing::error!(length = bytes.len(), "a response is too large for Lambda");
            let detail = "The answer is larger than a Lambda function can give. Ask for less of it.";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "answer-too-large", detail).into_response()
        }
        Ok(bytes) => Response::from_parts(parts, Body::from(bytes)),
        Err(error) => {
            tracing::error!(error = &error as &dyn StdError, "a response body could not be read to its end");
            Problem::internal(error).into_response()
        }
    }
}

fn is_json(content_type: &axum::http::HeaderValue) -> bool {
    content_type.as_bytes().ends_with(b"json")
}

/// Length of a body inside the function's JSON response: JSON as a string, everything else as base64.
fn answer_length(body: &Bytes, is_json: bool) -> usize {
    if is_json {
        body.len() + body.iter().filter(|byte| matches!(byte, b'"' | b'\\')).count()
    } else {
        body.len().div_ceil(3) * 4
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header::HeaderValue;
    use futures::stream;

    use super::*;

    fn answer(content_type: &'static str, body: Body) -> Response {
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    #[tokio::test]
    async fn an_answer_that_fits_passes_and_a_longer_one_is_a_problem() {
        for (content_type, byte, fits) in [
            ("image/png", 7, 4_500_000),
            ("application/json", b'x', 6_000_000),
            ("application/problem+json", b'"', 3_000_000),
        ] {
            let passed = collect(answer(content_type, Body::from(vec![byte; fits]))).await;
            assert!(passed.status() == StatusCode::OK && passed.headers()[CONTENT_TYPE] == content_type);
            let refused = collect(answer(content_type, Body::from(vec![byte; fits + 1]))).await;
            assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR, "{content_type}");
        }
    }

    #[test]
    fn only_a_stage_before_a_path_of_keepsake_is_taken_away() {
        for (url, stage, path) in [
            ("https://a.example/prod/api/health?x=1", "prod", Some("/api/health?x=1")),
            ("https://a.example/prod/uploads/a%20b.png", "prod", Some("/uploads/a%20b.png")),
            ("https://a.example/api/api/health", "api", Some("/api/health")),
            ("https://a.example/api/uploads/x", "api", Some("/uploads/x")),
            ("https://a.example/api/health", "api", None),
            ("https://a.example/uploads/prod", "uploads", None),
            ("https://a.example/production/api/health", "prod", None),
            ("https://a.example/api/health", "prod", None),
        ] {
            let found =
                without_stage(&url.parse().unwrap(), stage).map(|uri| uri.path_and_query().unwrap().to_string());
            assert_eq!(found.as_deref(), path, "{url} {stage}");
        }
    }

    #[test]
    fn the_address_of_a_client_is_what_the_gateway_saw() {
        let headers = HeaderMap::from_iter([(
            axum::http::HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_static("203.0.113.9, 192.0.2.7"),
        )]);
        let context = serde_json::json!({ "elb": { "targetGroupArn": "arn" } });
        let balancer = RequestContext::Alb(serde_json::from_value(context).unwrap());
        assert_eq!(source(&balancer, &headers), Some("192.0.2.7"), "the last is the balancer's own");
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_a_problem() {
        let parts = stream::iter([Ok(vec![1]), Err(std::io::Error::other("torn"))]);
        let refused = collect(answer("image/png", Body::from_stream(parts))).await;
        assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(refused.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
