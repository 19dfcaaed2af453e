//! `GET` and `HEAD /uploads/{file}?w=&h=`: an image made smaller.

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use headers::{ContentLength, ETag, HeaderMapExt};
use serde::Deserialize;
use shared::catalog::Record;
use shared::derivative::{Bounds, Derivatives, Form};
use shared::digest::Digest;
use shared::http::Problem;
use shared::layout::ImageId;
use shared::{Error, Keepsake, Result};

use crate::conditions::{Validators, Verdict};
use crate::serve::{CACHE, POLICY};

/// How large an image is to be at most.
#[derive(Debug, Deserialize)]
pub(crate) struct Size {
    w: Option<u32>,
    h: Option<u32>,
}

impl Size {
    /// What the image has to fit into, if that was said.
    pub(crate) fn bounds(&self) -> Result<Option<Bounds>> {
        Bounds::asked(self.w, self.h)
    }
}

/// Serves the form of an image that fits into `bounds` and suits the client. A HEAD makes it too: only then is known what
/// there is to tell of it.
pub(crate) async fn serve(
    keepsake: &Keepsake,
    derivatives: &Derivatives,
    (id, record): (&ImageId, &Record),
    bounds: Bounds,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let form = Form { bounds, webp: takes_webp(headers) };
    let content = match record.sha256 {
        Some(digest) => digest,
        None => Digest::of(keepsake.locate_bytes(id, record).await?.1.etag.0.as_bytes()),
    };
    // Other bytes only ever come out of another image, another form or another version of the scaler.
    let etag = format!("\"{}\"", derivatives.identity(content, form));
    let etag: ETag = etag.parse().map_err(Problem::internal)?;
    let validators = Validators { etag, last_modified: None };
    match validators.judge(headers) {
        Verdict::Failed => return Err(Error::Changed.into()),
        Verdict::NotModified => return Ok(answer(&validators, StatusCode::NOT_MODIFIED, Body::empty())),
        Verdict::Proceed => {}
    }
    let derivative = derivatives.get(keepsake, id, record, content, form).await?;
    let length = derivative.bytes.len() as u64;
    let digest = format!("sha-256=:{}:", Digest::of(&derivative.bytes).to_base64());
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(derivative.bytes) };
    let mut response = answer(&validators, StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(derivative.format.content_type()));
    headers.typed_insert(ContentLength(length));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(HeaderName::from_static("repr-digest"), digest.try_into().map_err(Problem::internal)?);
    Ok(response)
}

fn answer(validators: &Validators, status: StatusCode, body: Body) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.typed_insert(validators.etag.clone());
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHE));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    response
}

/// Whether the client names WebP among what it takes. Who takes anything may not know it.
fn takes_webp(headers: &HeaderMap) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_webp_where_it_says_so() {
        for (accept, takes) in [
            ("image/avif,image/webp,image/apng,*/*;q=0.8", true),
            ("image/png, IMAGE/WEBP;q=0.5", true),
            ("image/webp;q=0", false),
            ("image/webp;q=0.0, image/png", false),
            ("image/*", false),
            ("*/*", false),
            ("image/webpage", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(takes_webp(&headers), takes, "{accept}");
        }
    }
}
