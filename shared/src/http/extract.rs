//! Extractors for handlers; malformed input is refused with a [`Problem`].

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::{Problem, read_body};
use crate::core::error::{Error, Result};
use crate::layout::BackupName;

/// Maximum size of the JSON metadata of one image, in bytes: the longest text takes 120,000 if all of it is escaped.
pub const MAX_JSON_BYTES: usize = 256 * 1024;

/// The parameter in a route's path. If it is not text: 404 `not-found`.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Path(parameter) = axum::extract::Path::from_request_parts(parts, state).await?;
        Ok(Self(parameter))
    }
}

/// The query. If it cannot be parsed as a `T`: 400 `invalid-request`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let axum::extract::Query(query) = axum::extract::Query::from_request_parts(parts, state).await?;
        Ok(Self(query))
    }
}

/// The name of a backup, if it is the only parameter in a route's path. If it is not a valid name: 404
/// `no-such-backup`.
impl<S: Send + Sync> FromRequestParts<S> for BackupName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(name) = Path::<String>::from_request_parts(parts, state).await?;
        name.parse().map_err(|_| Error::NoSuchBackup(name).into())
    }
}

/// Reads a JSON body of at most `limit` bytes. `wrong` completes the error for a malformed one: "The body `wrong`: …".
pub async fn read_json<T: DeserializeOwned>(body: Body, limit: usize, wrong: &str) -> Result<T> {
    serde_json::from_slice(&read_body(body, limit).await?)
        .map_err(|error| Error::Invalid(format!("The body {wrong}: {error}.")))
}

/// The media type of a request, in lower case and without parameters; empty if none is given.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}
