//! The handler of `GET` and `HEAD /uploads/{file}`: an image's bytes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, LOCATION,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use headers::{AcceptRanges, ContentRange, ETag, Header, HeaderMapExt, LastModified};
use jiff::Timestamp;
use shared::catalog::Record;
use shared::digest::Digest;
use shared::http::{App, Problem};
use shared::keepsake_ext::Located;
use shared::media::Format;
use shared::{Error, Result};

use crate::conditions::{Validators, Verdict};
use crate::range::{self, Wanted};

/// How long a signed URL works.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
