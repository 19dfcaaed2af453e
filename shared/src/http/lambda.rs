//! What the functions' binaries have in common on AWS Lambda, whose own crate only they know.

use std::error::Error as StdError;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use super::{App, Problem};
use crate::clock::Clock;
use crate::config::Config;
use crate::keepsake::Keepsake;
use crate::telemetry;

/// The most that a function may answer, in bytes of JSON with the body in it; what surrounds the body fits into the rest
/// of the 6 MB.
const MAX_ANSWER_BYTES: usize = 6_000_000;

/// Reads the configuration, opens the store, and makes the router that `lambda_http::run` serves.
///
/// The error's debug form, which a failing `main` prints, is one plain sentence.
pub async fn start(router: fn(App) -> Router) -> Result<Router, Box<dyn StdError + Send + Sync>> {
    let (keepsake, config) = open().await?;
    let app = App::from_config(keepsake, &config);
    if app.access.is_open() {
        tracing::warn!("API_TOKEN is not set: everyone who can reach this function can change images");
    }
    Ok(router(app).layer(map_response(collect)))
}

/// Reads the configuration and opens the store; an error is as of [`start`].
pub async fn open() -> Result<(Keepsake, Config), Box<dyn StdError + Send + Sync>> {
    let config = Config::from_env().map_err(|error| error.to_string())?;
    telemetry::init(&config).map_err(|error| error.to_string())?;
    let keepsake = crate::open(&config, Clock::system()).await.map_err(|error| {
        tracing::error!(error = &error as &dyn StdError, "the store cannot be opened");
        error.to_string()
    })?;
    Ok((keepsake, config))
}

/// Reads an answer's body whole. `lambda_http` does so as well, but it ends the process where reading fails, and what is
/// too long for Lambda would fail without a word.
async fn collect(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    match body.collect().await.map(|body| body.to_bytes()) {
        Ok(bytes) if answer_length(&bytes, parts.headers.get(CONTENT_TYPE).is_some_and(is_json)) > MAX_ANSWER_BYTES => {
            tracing::error!(length = bytes.len(), "an answer is too large for Lambda");
            let detail = "The answer is larger than a Lambda function can give. Ask for less of it.";
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "answer-too-large", detail).into_response()
        }
        Ok(bytes) => Response::from_parts(parts, Body::from(bytes)),
        Err(error) => {
            tracing::error!(error = &error as &dyn StdError, "an answer could not be read to its end");
            Problem::internal(error).into_response()
        }
    }
}

fn is_json(content_type: &axum::http::HeaderValue) -> bool {
    content_type.as_bytes().ends_with(b"json")
}

/// How long a body is inside the function's JSON answer: JSON as a string, everything else as base64.
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

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_a_problem() {
        let parts = stream::iter([Ok(vec![1]), Err(std::io::Error::other("torn"))]);
        let refused = collect(answer("image/png", Body::from_stream(parts))).await;
        assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(refused.headers()[CONTENT_TYPE], "application/problem+json");
    }
}
