//! Reads the whole body of an upload, from one request or assembled from parts, and stores its images.

use std::sync::Arc;

use axum::body::HttpBody;
use axum::extract::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use headers::{ContentLength, HeaderMapExt};
use shared::http::{App, Problem};
use shared::{Error, Keepsake, Result};

use crate::answer::{answer, tickets_url};
use crate::form::{self, Form, Target};
use crate::incoming::Incoming;
use crate::{digests, plain};

/// The extra length that a form may have besides its longest image, in bytes.
pub(crate) const FORM_BYTES: u64 = 64 * 1024;

pub(crate) async fn take(app: App, query: form::Query, request: Request) -> Result<Response, Problem> {
    let mut form = Form::of_query(query)?;
    let key = idempotency_key(request.headers())?;
    let plain = plain::wanted(request.headers());
    // A configured public URL takes precedence over one guessed from the request.
    let plain = plain.map(|here| if app.public_url.is_empty() { here } else { app.public_url.to_string() });
    receive(&app, request, &mut form).await.map_err(|error| refusal(error, &app))?;
    let several = form.images.len() > 1;
    // All bytes have arrived; from now on the client may disconnect.
    let upload = |keepsake: Arc<Keepsake>| async move {
        keepsake.uploads.upload(form.images, form.fields, key.as_deref()).await
    };
    let uploaded = app.change(upload).await?;
    Ok(plain.map_or_else(|| answer(&app, &uploaded, several), |here| plain::answer(&uploaded, &here)))
}

/// Reads the whole body. A body that will be rejected is rejected as early as possible, at best before any of it is
/// read.
async fn receive(app: &App, request: Request, form: &mut Form) -> Result<()> {
    let (head, body) = request.into_parts();
    let announced = digests::announced(&head.headers)?;
    let boundary = boundary(&head.headers)?;
    let target = Target { store: &app.keepsake.core.primary, limit: app.max_body_bytes() };
    let limit = if boundary.is_some() { target.limit.saturating_add(FORM_BYTES) } else { target.limit };
    let length = head.headers.typed_get::<ContentLength>().map(|length| length.0).or(body.size_hint().exact());
    if length.is_some_and(|length| length > limit) {
        return Err(Error::TooLarge { limit: target.limit });
    }
    if !app.on_lambda {
        // On Lambda the whole body is here already, and a request to the store now would only cost time.
        app.keepsake.room.check(length.unwrap_or_default()).await?;
    }

    let mut incoming = Incoming::new(body, limit, !announced.is_empty());
    match boundary {
        Some(boundary) => form.read_parts(&mut incoming, boundary, &target).await?,
        None => form.read_raw(&mut incoming, &head.headers, &target).await?,
    }
    let digest = incoming.finish().await.map_err(|reason| form::rejection(&reason, &target))?;
    match digest {
        Some(digest) if announced.iter().any(|announced| *announced != digest) => Err(Error::DigestMismatch),
        _ => Ok(()),
    }
}

/// The delimiter of a form. Any other body is one image, whatever its media type: its bytes decide.
pub(crate) fn boundary(headers: &HeaderMap) -> Result<Option<String>> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form = content_type.get(.."multipart/".len()).is_some_and(|start| start.eq_ignore_ascii_case("multipart/"));
    if !is_form {
        return Ok(None);
    }
    let malformed = |error| Error::Invalid(format!("The Content-Type is not that of a form: {error}."));
    multer::parse_boundary(content_type).map(Some).map_err(malformed)
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.trim().is_empty() => Ok(Some(key.trim().to_owned())),
        _ => Err(Error::Invalid("An Idempotency-Key must be some visible ASCII characters.".to_owned())),
    }
}

/// If a request is too small for an image that the store accepts, the error states how else to send it.
fn refusal(error: Error, app: &App) -> Problem {
    match error {
        Error::OfFile { file, among_others, error } => refusal(*error, app).of_file(file, among_others),
        Error::TooLarge { limit } if limit < app.keepsake.core.settings.max_upload_bytes => {
            let detail = format!(
                "The upload is larger than {limit} bytes, which is the limit of a request here. Get a ticket for it with \
                 POST /api/upload/tickets, which accepts images of up to {} bytes.",
                app.keepsake.core.settings.max_upload_bytes
            );
            let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail);
            problem.with_limit(limit).with_tickets(tickets_url(app))
        }
        error => error.into(),
    }
}
