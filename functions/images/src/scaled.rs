//! `GET` and `HEAD /uploads/{file}?w=&h=&format=`: a thumbnail of an image.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use headers::{ContentLength, ETag, HeaderMapExt};
use serde::Deserialize;
use shared::catalog::Record;
use shared::digest::Digest;
use shared::http::Problem;
use shared::layout::ImageId;
use shared::thumbnails::{Bounds, Form, Formats, Pinned, Thumbnails};
use shared::{Error, Keepsake, Result};

use crate::conditions::Validators;
use crate::headers::{CACHE, POLICY};

/// The largest size and the format of the thumbnail.
#[derive(Debug, Deserialize)]
pub(crate) struct Size {
    w: Option<u32>,
    h: Option<u32>,
    format: Option<FormatName>,
}

/// The formats that the query can select.
#[derive(Clone, Copy, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FormatName {
    Webp,
    Jpeg,
    Png,
}

impl From<FormatName> for Pinned {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Webp => Self::WebP,
            FormatName::Jpeg => Self::Jpeg,
            FormatName::Png => Self::Png,
        }
    }
}

impl Size {
    /// The thumbnail that the query describes, if it contains a size; its format is one that `headers` accept, unless
    /// the query selects it.
    pub(crate) fn form(&self, headers: &HeaderMap) -> Result<Option<Form>> {
        let bounds = Bounds::asked(self.w, self.h)?;
        if bounds.is_none() && self.format.is_some() {
            return Err(Error::Invalid("format is that of a thumbnail: send w or h with it.".to_owned()));
        }
        let formats = match self.format {
            Some(name) => Formats::Only(name.into()),
            None if accepts_webp(headers) => Formats::WithWebP,
            None => Formats::Common,
        };
        Ok(bounds.map(|bounds| Form { bounds, formats }))
    }
}

/// Serves this thumbnail of an image. A HEAD makes it too: its headers are only known then.
pub(crate) async fn serve(
    keepsake: &Keepsake,
    thumbnails: &Arc<Thumbnails>,
    (id, record): (&ImageId, &Record),
    form: Form,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let content = match record.sha256 {
        Some(digest) => digest,
        None => Digest::of(keepsake.bytes.locate(id, record).await?.1.etag.0.as_bytes()),
    };
    // The bytes depend only on the image, the thumbnail's form and the version of the scaler.
    let etag = format!("\"{}\"", thumbnails.identity(content, form));
    let etag: ETag = etag.parse().map_err(Problem::internal)?;
    let validators = Validators { etag, last_modified: None };
    if !validators.is_modified(headers)? {
        return Ok(answer(&validators, form, StatusCode::NOT_MODIFIED, Body::empty()));
    }
    let thumbnail = thumbnails.get(&keepsake.thumbnails, id, record, content, form).await?;
    let length = thumbnail.bytes.len() as u64;
    let digest = format!("sha-256=:{}:", Digest::of(&thumbnail.bytes).to_base64());
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(thumbnail.bytes) };
    let mut response = answer(&validators, form, StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(thumbnail.format.content_type()));
    headers.typed_insert(ContentLength(length));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(HeaderName::from_static("repr-digest"), digest.try_into().map_err(Problem::internal)?);
    Ok(response)
}

fn answer(validators: &Validators, form: Form, status: StatusCode, body: Body) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.typed_insert(validators.etag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHE));
    if !matches!(form.formats, Formats::Only(_)) {
        headers.insert(VARY, HeaderValue::from_static("accept"));
    }
    response
}

/// Whether the client lists WebP among the formats it accepts. A client that accepts anything may not support it.
fn accepts_webp(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("image/webp"));
        let refused = |part: &str| {
            let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            quality.is_some_and(|quality| quality.parse().is_ok_and(|quality: f32| quality <= 0.0))
        };
        named && !parts.any(refused)
    })
}
