//! Reads an upload: a form with files, or a body that is one file.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_DISPOSITION;
use futures::StreamExt;
use multer::{Field, Multipart};
use percent_encoding::{percent_decode, percent_decode_str};
use serde::Deserialize;
use shared::http::FilePart;
use shared::images::Fields;
use shared::store::{Body, Store, StoreError};
use shared::upload::NewImage;
use shared::{Error, Result};
use utoipa::ToSchema;

use crate::incoming::{Incoming, Rejection, Used};

/// The most files in one form.
const MAX_FILES: usize = 100;
/// The longest text field that is read, in bytes; each field has its own limit below.
const MAX_TEXT: usize = 64 * 1024;

/// The files and fields of a request.
#[derive(Debug, Default)]
pub(crate) struct Form {
    pub(crate) images: Vec<NewImage>,
    pub(crate) fields: Fields,
}

/// The fields in a query.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", default)]
#[into_params(parameter_in = Query)]
pub(crate) struct Query {
    /// `fun` where it is missing; empty for no category.
    category: Option<String>,
    #[param(max_length = 10_000)]
    description: Option<String>,
    group_id: Option<String>,
    #[param(value_type = Option<i64>)]
    order: Option<String>,
    /// When the images were selected for upload, at most seven days ago: lists sort by this time.
    #[param(value_type = Option<String>, format = DateTime)]
    queued_at: Option<String>,
}

/// A form with one or many images; all of them are stored or none. The query may contain fields that the form lacks.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is read part by part")]
pub(crate) struct UploadForm {
    /// The images. The fields `images`, `file` and `files` are accepted as well.
    #[schema(inline, min_items = 1, max_items = 100)]
    image: Vec<FilePart>,
    /// `fun` where the field is missing; empty for no category.
    category: Option<String>,
    #[schema(max_length = 10_000)]
    description: Option<String>,
    /// The group that the images join.
    group_id: Option<String>,
    /// The order of the first image in the group; the others follow it.
    order: Option<i64>,
    /// When the images were selected for upload, at most seven days ago: lists sort by this time. Ignored in a group,
    /// and if it is any other time.
    #[schema(format = DateTime)]
    queued_at: Option<String>,
}

/// The limit of a body and its destination.
pub(crate) struct Target<'a> {
    /// The store that will hold the images.
    pub(crate) store: &'a Store,
    /// The longest image.
    pub(crate) limit: u64,
}

impl Form {
    /// A form with only the fields of the query.
    pub(crate) fn of_query(query: Query) -> Result<Self> {
        let mut form = Self::default();
        for (name, value) in [
            ("category", query.category),
            ("description", query.description),
            ("groupId", query.group_id),
            ("order", query.order),
            ("queuedAt", query.queued_at),
        ] {
            if let Some(value) = value {
                form.set(name, value)?;
            }
        }
        Ok(form)
    }

    /// Sets a text field. An empty one, as browsers send for empty inputs, counts as missing. An empty category is
    /// kept: the image has none.
    fn set(&mut self, name: &str, value: String) -> Result<()> {
        let Self { fields, .. } = self;
        match name {
            "category" => fields.category = Some(value),
            _ if value.is_empty() => {}
            "description" => fields.description = Some(value),
            "groupId" => fields.group_id = Some(value),
            "order" => {
                let order = value.trim().parse();
                fields.order = Some(order.map_err(|_| Error::Invalid("The order must be a whole number.".to_owned()))?);
            }
            "queuedAt" => {
                let moment = value.trim().parse();
                fields.queued_at = Some(moment.map_err(|_| {
                    Error::Invalid("queuedAt must be a moment such as 2026-11-20T08:00:00Z.".to_owned())
                })?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads a body that is one image.
    pub(crate) async fn read_raw(
        &mut self,
        body: &mut Incoming,
        headers: &HeaderMap,
        target: &Target<'_>,
    ) -> Result<()> {
        let body = read_whole(body, target).await?;
        if body.size() == 0 {
            return Err(Error::NoFile);
        }
        let original_name =
            headers.get("x-filename").map(|name| decoded(name.as_bytes())).and_then(|n| last_segment(&n));
        self.images.push(NewImage { body, original_name });
        Ok(())
    }

    /// Reads a form; its text fields may precede or follow its files.
    pub(crate) async fn read_parts(
        &mut self,
        body: &mut Incoming,
        boundary: String,
        target: &Target<'_>,
    ) -> Result<()> {
        let used = body.used();
        let mut parts = Multipart::new(body, boundary);
        while let Some(mut part) = parts.next_field().await.map_err(|e| malformed(e, target))? {
            used.step();
            let file_name = file_name(&part);
            let name = part.name().unwrap_or_default().to_owned();
            match name.strip_suffix("[]").unwrap_or(&name) {
                "image" | "images" | "file" | "files" => self.read_file(&mut part, file_name, &used, target).await?,
                _ if file_name.as_ref().is_some_and(|file| !file.is_empty()) => {
                    let detail = format!("There is a file in the field {name:?}; send images in the field \"image\".");
                    return Err(Error::Invalid(detail));
                }
                _ => {
                    let text = read_text(&mut part, &used, target).await?;
                    self.set(&name, text)?;
                }
            }
        }
        Ok(())
    }

    async fn read_file(
        &mut self,
        part: &mut Field<'_>,
        file_name: Option<String>,
        used: &Used,
        target: &Target<'_>,
    ) -> Result<()> {
        let original_name = file_name.as_deref().and_then(last_segment);
        let mut spool = target.store.spool().beside(self.images.iter().map(|image| &image.body));
        while let Some(piece) = part.chunk().await.map_err(|e| malformed(e, target))? {
            used.add(piece.len());
            if spool.size() + piece.len() as u64 > target.limit {
                let too_large = Error::TooLarge { limit: target.limit };
                return Err(too_large.of_file(original_name.as_deref(), !self.images.is_empty()));
            }
            spool.write(&piece).await.map_err(spool_failed)?;
        }
        // Browsers send this if no file was selected.
        let nothing_chosen = file_name.as_ref().is_some_and(String::is_empty) && spool.size() == 0;
        if nothing_chosen {
            return Ok(());
        }
        if self.images.len() == MAX_FILES {
            return Err(Error::Invalid(format!("More than {MAX_FILES} images in one form.")));
        }
        let body = spool.finish().await.map_err(spool_failed)?;
        self.images.push(NewImage { body, original_name });
        Ok(())
    }
}

/// Reads a body that consists of the bytes of one image.
pub(crate) async fn read_whole(body: &mut Incoming, target: &Target<'_>) -> Result<Body> {
    let (used, mut spool) = (body.used(), target.store.spool());
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|reason| rejection(&reason, target))?;
        used.add(piece.len());
        spool.write(&piece).await.map_err(spool_failed)?;
    }
    spool.finish().await.map_err(spool_failed)
}

async fn read_text(part: &mut Field<'_>, used: &Used, target: &Target<'_>) -> Result<String> {
    let name = part.name().unwrap_or_default().to_owned();
    let mut bytes = Vec::new();
    while let Some(piece) = part.chunk().await.map_err(|e| malformed(e, target))? {
        used.add(piece.len());
        if bytes.len() + piece.len() > MAX_TEXT {
            return Err(Error::Invalid(format!("The field {name:?} is too long.")));
        }
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| Error::Invalid(format!("The field {name:?} is not UTF-8.")))
}

/// The file name of a part. `multer` does not support the form that some clients use for non-ASCII names:
/// `filename*=UTF-8''%C3%9C.jpg`.
fn file_name(part: &Field<'_>) -> Option<String> {
    let extended = || {
        let disposition = part.headers().get(CONTENT_DISPOSITION)?.to_str().ok()?;
        let (_, value) = disposition.split_once("filename*=")?;
        let (charset, rest) = value.split(';').next()?.trim().split_once('\'')?;
        let (_language, name) = rest.split_once('\'')?;
        charset.eq_ignore_ascii_case("utf-8").then(|| percent_decode_str(name).decode_utf8().ok())?.map(String::from)
    };
    extended().or_else(|| part.file_name().map(unescaped))
}

/// A file name without the escapes of the HTML standard for names in forms, which cover only quotes and line breaks,
/// not percent signs.
fn unescaped(name: &str) -> String {
    name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n")
}

/// Removes percent-encoding, if the result is text.
fn decoded(name: &[u8]) -> String {
    match percent_decode(name).decode_utf8() {
        Ok(name) => name.into_owned(),
        Err(_) => String::from_utf8_lossy(name).into_owned(),
    }
}

/// A name without the folders that some clients include.
pub(crate) fn last_segment(name: &str) -> Option<String> {
    name.rsplit(['/', '\\']).next().filter(|name| !name.is_empty()).map(str::to_owned)
}

pub(crate) fn spool_failed(error: std::io::Error) -> Error {
    StoreError::io("spool", "", error).into()
}

/// The error for a rejected body.
pub(crate) fn rejection(reason: &Rejection, target: &Target<'_>) -> Error {
    match reason {
        Rejection::TooLong => Error::TooLarge { limit: target.limit },
        Rejection::Malformed => Error::Invalid("The form is malformed.".to_owned()),
        Rejection::Broken(_) | Rejection::Stalled => {
            Error::Invalid("The body ended before it was complete.".to_owned())
        }
    }
}

fn malformed(error: multer::Error, target: &Target<'_>) -> Error {
    match &error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast_ref::<Rejection>() {
            Some(reason) => rejection(reason, target),
            None => Error::Invalid("The form is malformed.".to_owned()),
        },
        _ => Error::Invalid(format!("The form is malformed: {error}.")),
    }
}
