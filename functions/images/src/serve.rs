//! The handler of `GET` and `HEAD /uploads/{file}`: an image's bytes.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use headers::{AcceptRanges, ContentLength, ContentRange, ETag, HeaderMapExt, LastModified};
use jiff::Timestamp;
use shared::catalog::Record;
use shared::digest::Digest;
use shared::file_name;
use shared::http::range::{self, Wanted};
use shared::http::{App, Binary, Path, Problem, Query};
use shared::images::bytes::{Check, ImageBytes};
use shared::layout::ImageId;
use shared::media::Format;
use shared::media::location::Patches;
use shared::store::{ObjectMeta, ServedAs, Store};
use shared::{Error, Result};

use crate::conditions::Validators;
use crate::download;
use crate::headers::{CACHE, POLICY};
use crate::offload;
use crate::scaled::{self, FormatName, Size};

/// How long a signed URL works.
const SIGNED_FOR: Duration = Duration::from_secs(15 * 60);
/// How long the redirect to a signed URL may be cached: well within that.
const REDIRECT_CACHE: &str = "private, max-age=300";
/// The media type of unknown content.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// The first second of the year 10,000, which HTTP dates cannot represent.
const YEAR_10_000: u64 = 253_402_300_800;

/// Serve an image's bytes, exactly as they were sent, or redirect to where they are stored.
///
/// With `STRIP_GPS=true` the server itself sends an image that contains a GPS position, without the position: as many
/// bytes, with an entity tag of its own that ends in `-nogps`, and without `Repr-Digest` and `Last-Modified`. Its
/// record describes the stored bytes.
#[utoipa::path(
    method(get, head),
    path = "/uploads/{file}",
    operation_id = "getImageBytes",
    tag = "images",
    params(
        ("file" = ImageId, Path, description = "The image's id"),
        ("w" = Option<u32>, Query, minimum = 1, maximum = 2560, description = "The maximum width of the thumbnail in pixels, rounded up to 160, 320, 640, 1280 or 2560"),
        ("h" = Option<u32>, Query, minimum = 1, maximum = 2560, description = "The maximum height of the thumbnail, likewise"),
        ("format" = inline(Option<FormatName>), Query, description = "The format of the thumbnail, whatever `Accept` says: for URLs that pass through caches which ignore `Vary`. Requires `w` or `h`. Transparent areas become white in a JPEG"),
        ("Accept" = Option<String>, Header, description = "With `image/webp` a thumbnail may be a WebP; else it is a JPEG, PNG or GIF. A response that depends on it has `Vary: accept`"),
        ("Range" = Option<String>, Header, description = "Only these bytes, such as `bytes=0-99`"),
        ("If-None-Match" = Option<String>, Header, description = "Only if the image has none of these entity tags"),
        ("download" = Option<String>, Query, description = "`1` to save it under its original name instead of showing it"),
    ),
    responses(
        (status = 200, description = "The image", body = inline(Binary), content_type = "image/*", headers(
            ("ETag" = String, description = "Its digest; with `-nogps` appended if its GPS position was removed"),
            ("Repr-Digest" = String, description = "Its SHA-256 in the form of RFC 9530; missing if unknown"),
        )),
        (status = 206, description = "The requested part of it", body = inline(Binary), content_type = "image/*"),
        (status = 304, description = "Not modified"),
        (status = 307, description = "If the store is a bucket: the image is at `Location`", headers(("Location" = String, description = "A signed URL, valid for a few minutes"))),
        (status = 400, description = "`invalid-request`: an invalid size or format, or `format` without a size"),
        (status = 404, description = "`no-such-image`"),
        (status = 412, description = "`precondition-failed`: the condition in `If-Match` or `If-Unmodified-Since` is false"),
        (status = 415, description = "`not-scalable`: it has no thumbnail"),
        (status = 416, description = "`range-not-satisfiable`"),
        (status = 503, description = "`too-busy`: too many thumbnails are being made; try again soon"),
    ),
)]
pub(crate) async fn serve(
    State(app): State<App>,
    Query(size): Query<Size>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let (id, entry) = app.keepsake.images.get_to_send(&file).await?;
    let Some(record) = entry.live() else { return Err(Error::NoSuchImage(id.to_string()).into()) };
    if let Some(form) = size.form(&headers)?
        && let Some(thumbnails) = &app.thumbnails
    {
        return scaled::serve(&app.keepsake, thumbnails, (&id, record), form, &method, &headers).await;
    }
    // If the record contains the digest, the conditions can be evaluated without a request to the store.
    let located = if record.sha256.is_none() { Some(locate(&app, &id, record).await?) } else { None };
    // Unless the bytes must be scanned to determine what is sent.
    let patches = if app.strip_gps { app.keepsake.gps.find(&id, record).await? } else { Patches::default() };
    let (etag, digest) = match (record.sha256, &located) {
        (Some(digest), _) => (digest, Some(digest)),
        (None, Some((_, meta))) => (Digest::of(meta.etag.0.as_bytes()), None),
        (None, None) => return Err(Error::MissingBytes.into()),
    };
    let is_stored = patches.is_empty();
    let etag = if is_stored { format!("\"{etag}\"") } else { format!("\"{etag}-nogps\"") };
    let etag: ETag = etag.parse().map_err(Problem::internal)?;
    let disposition = download::is_wanted(&uri)
        .then(|| download::disposition(&file_name::safe(record.original_name.as_deref(), &id)));
    // Other bytes than the stored ones have another digest. Only their tag distinguishes them from those sent before
    // STRIP_GPS was set, since both have the same upload time.
    let digest = digest.filter(|_| is_stored);
    let last_modified = last_modified(record).filter(|_| is_stored);
    let file = File { digest, validators: Validators { etag, last_modified }, record, disposition };
    if !file.validators.is_modified(&headers)? {
        return Ok(file.answer(StatusCode::NOT_MODIFIED, Body::empty()));
    }

    let content_type = known_type(record).unwrap_or(UNKNOWN_TYPE);
    // Clients are redirected only to the bucket that holds the images, never to an archive elsewhere.
    let image = shared::layout::image(&id);
    let served = ServedAs { content_type, disposition: file.disposition.as_deref() };
    let redirects = method != Method::HEAD
        && is_stored
        && app.keepsake.core.primary.signed_url(&image, served, SIGNED_FOR).await.map_err(Error::from)?.is_some();
    if method == Method::HEAD {
        let (_, meta) = match located {
            Some(located) => located,
            None => locate(&app, &id, record).await?,
        };
        return Ok(file.content(StatusCode::OK, meta.size, Body::empty()));
    }
    if redirects {
        let (store, meta) = match &located {
            Some(located) => located.clone(),
            // The server does not see the bucket's answer to the client, so it first requests one byte.
            None => app.keepsake.bytes.readable(&id, record).await?,
        };
        if let Some(url) = store.signed_url(&meta.key, served, SIGNED_FOR).await.map_err(Error::from)? {
            let cached = (CACHE_CONTROL, REDIRECT_CACHE.to_owned());
            return Ok((StatusCode::TEMPORARY_REDIRECT, [(LOCATION, url), cached]).into_response());
        }
    }
    let source = match (record.sha256.zip(record.size), record.sha256, located) {
        (Some((digest, size)), ..) => Source::Recorded(digest, size),
        (None, Some(digest), _) => Source::Located(app.keepsake.bytes.verified(&id, digest).await?),
        (None, None, Some(located)) => Source::Located(located),
        (None, None, None) => return Err(Error::MissingBytes.into()),
    };
    let Validators { etag, last_modified } = &file.validators;
    let size = source.size();
    let wanted = range::asked_for(&headers, etag, last_modified.as_ref(), size);
    if let Some(offload) = app.offload.as_deref().filter(|_| is_stored && offload::is_possible(&headers))
        && let Source::Recorded(digest, size) = source
        && wanted != Wanted::Nothing
        && app.keepsake.bytes.is_trusted(&id, (digest, size)).await
    {
        // The proxy evaluates the range.
        return offload::to_proxy(file.content(StatusCode::OK, 0, Body::empty()), offload, &id);
    }
    match wanted {
        Wanted::Whole => Ok(file.content(StatusCode::OK, size, source.read(&app, &id, None, patches).await?)),
        Wanted::Nothing => Err(range::unsatisfiable(size)),
        Wanted::Part(part) => {
            let body = source.read(&app, &id, Some(part.clone()), patches).await?;
            let mut response = file.content(StatusCode::PARTIAL_CONTENT, part.end - part.start, body);
            response.headers_mut().typed_insert(ContentRange::bytes(part, size).map_err(Problem::internal)?);
            Ok(response)
        }
    }
}

/// Where the bytes to send come from.
enum Source {
    /// The copy that has this digest and this length in bytes.
    Recorded(Digest, u64),
    /// This version of an object.
    Located((Store, ObjectMeta)),
}

impl Source {
    fn size(&self) -> u64 {
        match self {
            Self::Recorded(_, size) => *size,
            Self::Located((_, meta)) => meta.size,
        }
    }

    /// The bytes, or a range of them, with these patches.
    async fn read(&self, app: &App, id: &ImageId, range: Option<Range<u64>>, patches: Patches) -> Result<Body> {
        let start = range.as_ref().map_or(0, |range| range.start);
        let object = match self {
            Self::Recorded(digest, size) => {
                // The replacements are those for the right bytes, so no others may be sent.
                let check = if app.strip_gps { Check::BeforeSending } else { Check::WhileSending };
                app.keepsake.bytes.open(id, (*digest, *size), range, check).await?
            }
            Self::Located((store, meta)) => ImageBytes::open_version(id, store, meta, range).await?,
        };
        let id = id.clone();
        let body = object.body.inspect_err(move |error| {
            // The answer has begun, so it can only be aborted, which the server does.
            tracing::error!(image = %id, error = error as &dyn std::error::Error, "reading an image failed after the response had begun");
        });
        Ok(Body::from_stream(patches.over(start, body)))
    }
}

/// The headers of every answer about one file.
struct File<'a> {
    record: &'a Record,
    digest: Option<Digest>,
    validators: Validators,
    /// The `Content-Disposition` of a download.
    disposition: Option<String>,
}

impl File<'_> {
    fn answer(&self, status: StatusCode, body: Body) -> Response {
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.typed_insert(self.validators.etag.clone());
        if let Some(last_modified) = self.validators.last_modified {
            headers.typed_insert(last_modified);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHE));
        response
    }

    fn content(&self, status: StatusCode, length: u64, body: Body) -> Response {
        let mut response = self.answer(status, body);
        let headers = response.headers_mut();
        match known_type(self.record) {
            Some(content_type) => headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type)),
            // Content that is not known to be an image is not displayed.
            None => {
                headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(UNKNOWN_TYPE))
            }
        };
        if let Some(disposition) = self.disposition.as_deref().and_then(|disposition| disposition.try_into().ok()) {
            headers.insert(CONTENT_DISPOSITION, disposition);
        }
        headers.typed_insert(ContentLength(length));
        headers.typed_insert(AcceptRanges::bytes());
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        if let Some(digest) = self.digest.and_then(|d| format!("sha-256=:{}:", d.to_base64()).try_into().ok()) {
            headers.insert(HeaderName::from_static("repr-digest"), digest);
        }
        response
    }
}

/// The media type of a record, if it is one that images here can have: an imported record may contain any value.
fn known_type(record: &Record) -> Option<&'static str> {
    let recorded = record.content_type.as_deref();
    Format::ALL.iter().map(|format| format.content_type()).find(|known| Some(*known) == recorded)
}

async fn locate(app: &App, id: &ImageId, record: &Record) -> Result<(Store, ObjectMeta)> {
    match app.keepsake.bytes.locate(id, record).await {
        // An imported link to an image elsewhere: there never were bytes to serve.
        Err(Error::MissingBytes) if record.sha256.is_none() && record.extra.contains_key("url") => {
            Err(Error::NoSuchImage(id.to_string()))
        }
        located => located,
    }
}

/// An upload's time, if HTTP can represent it.
fn last_modified(record: &Record) -> Option<LastModified> {
    let uploaded: Timestamp = record.upload_date.as_deref()?.parse().ok()?;
    let seconds = u64::try_from(uploaded.as_second()).ok().filter(|seconds| *seconds < YEAR_10_000)?;
    Some((SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).into())
}
